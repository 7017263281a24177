"""Which network do these weights belong to? Read from key names and shapes, one rule per network."""
from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Shapes = dict[str, tuple[int, ...]]


def detect(state_dict: dict[str, Any]) -> dict[str, Any] | None:
    """`{type, **constructor arguments}` of the network that has these keys, or None when no rule fits.

    Args:
        state_dict: values need a `shape` only, so tensors on any device or meta tensors do.
    """
    shapes = {key: tuple(value.shape) for key, value in state_dict.items()}
    for rule in RULES:
        found = rule(shapes)
        if found:
            return found
    return None


def _retinexmamba(shapes: Shapes) -> dict[str, Any] | None:
    shapes = {k.replace('.denoiser.', '.Restorer.'): v for k, v in shapes.items()}
    restorer = 'body.0.Restorer.'
    first = shapes.get(f'{restorer}encoder_layers.0.0.blocks.0.1.A_logs')
    if first is None:
        return None
    blocks = [_count(shapes, restorer + part + r'\.blocks\.(\d+)\.') for part in
              (r'encoder_layers\.0\.0', r'encoder_layers\.1\.0', 'bottleneck')]  # yapf: disable
    return {
        'type': 'RetinexMamba',
        'n_feat': shapes[f'{restorer}embedding.weight'][0],
        'stage': _count(shapes, r'body\.(\d+)\.'),
        'num_blocks': blocks,
        'd_state': first[1],
    }


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers stand at the group of `pattern`."""
    return len({m.group(1) for m in (re.match(pattern, key) for key in shapes) if m})


RULES: list[Callable[[Shapes], dict[str, Any] | None]] = [_retinexmamba]

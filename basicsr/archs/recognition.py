"""What the networks' rules of recognition (`Description.recognise`) share: reading numbers out of names and shapes."""
from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from basicsr.archs.description import Shapes


def count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers stand at the group of `pattern`, which starts at the beginning of the names."""
    return len({m.group(1) for m in (re.match(pattern, key) for key in shapes) if m})


def block_counts(shapes: Shapes, unet: str) -> list[int]:
    """`num_blocks` of a U-Net of two levels whose names start with `unet`."""
    return [
        count(shapes,
              re.escape(unet) + part + r'\.blocks\.(\d+)\.')
        for part in (r'encoder_layers\.0\.0', r'encoder_layers\.1\.0', 'bottleneck')
    ]


def levels(shapes: Shapes, names: Sequence[str], heads: dict[str, int]) -> dict[str, Any]:
    """`num_blocks`, `num_refinement_blocks` and `heads` of a U-Net whose levels are sequences of blocks.

    Args:
        names: of the levels on the way down. heads: of each block, by its prefix.
    """
    first = heads.get(f'{names[0]}.0.', heads.get('refinement.0.', 1))  # an empty level has no heads to be seen
    return {
        'num_blocks': [count(shapes, name + r'\.(\d+)\.') for name in names],
        'num_refinement_blocks': count(shapes, r'refinement\.(\d+)\.'),
        'heads': [first, *(heads.get(f'{name}.0.', 1) for name in names[1:])],
    }


def expansion(sizes: set[tuple[int, int]]) -> float:
    """The simplest factor that leads from the widths to the hidden widths of feed-forward blocks, rounded down."""
    return simplest(max(h / w for w, h in sizes), lambda factor: all(int(w * factor) == h for w, h in sizes))


def simplest(low: float, fits: Callable[[float], bool]) -> float:
    """The number with the fewest decimals that is at least `low`, above 0, and fits."""
    for digits in range(9):
        value = max(1, math.ceil(round(low * 10**digits, 6))) / 10**digits
        if fits(value):
            return value
    return low

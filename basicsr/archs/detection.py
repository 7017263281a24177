"""Which network do these weights belong to? Read from key names and shapes, one rule per network."""
from __future__ import annotations

from typing import Any

from basicsr.archs.detection_rules import RULES, rank_of


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


def disagreements(found: dict[str, Any], claims: dict[str, Any]) -> list[str]:
    """'dim: 32 claimed, 48 by the shapes' for each hyper-parameter of the all-in-one family that the shapes refute.

    Args:
        found: what `detect` returned. claims: hyper-parameters of a checkpoint, in the spelling of that family.
    """
    if 'dim' not in found:
        return []
    out = []
    if found['type'] == 'Restormer':  # what the family would call the baseline without gate and low rank
        found = {'gate_type': None, 'lora_ffn_ratio': None, 'lora_attn_ratio': None, **found}
    for claim, key in _CLAIMS.items():
        if claim not in claims or key not in found:
            continue
        wanted, real = claims[claim], found[key]
        if key.startswith('lora'):  # many ratios lead to the same ranks
            least = 4 if found['type'] == 'ImprovedLoRaGateRestormer' else 2
            parts = (1, 4) if key == 'lora_attn_ratio' and found.get('use_dfrg') else (1, )
            sizes = [found['dim'] * 2**i // part for i in range(4) for part in parts]
            agree = [rank_of(n, wanted, least) for n in sizes] == [rank_of(n, real, least) for n in sizes]
        elif key == 'gate_type':
            agree = real == (None if wanted in ('None', 'none', '') else wanted)
        else:
            agree = real == (list(wanted) if isinstance(wanted, tuple) else wanted)
        if not agree:
            out.append(f'{claim}: {wanted} claimed, {real} by the shapes')
    return out


def complete(found: dict[str, Any], claims: dict[str, Any]) -> dict[str, Any]:
    """What `detect` returned with the arguments that no shape shows, where the checkpoint's hyper-parameters tell them."""
    return found | {k: claims[k] for k in _SHAPELESS.get(found['type'], ()) if k in claims}


_SHAPELESS = {'IllRecNet': ('num_heads', )}
_CLAIMS = {k: k for k in ('dim', 'num_blocks', 'num_refinement_blocks', 'heads', 'gate_type', 'use_dfrg')}
_CLAIMS |= {'LoRa_ffn_ratio': 'lora_ffn_ratio', 'LoRa_attn_ratio': 'lora_attn_ratio'}

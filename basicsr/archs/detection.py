"""Which network do these weights belong to? Read from key names and shapes, one rule per network."""
from __future__ import annotations

import math
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


def _retinexformer(shapes: Shapes) -> dict[str, Any] | None:
    denoiser = 'body.0.denoiser.'
    if f'{denoiser}bottleneck.blocks.0.0.to_q.weight' not in shapes:
        return None
    blocks = [_count(shapes, denoiser + part + r'\.blocks\.(\d+)\.') for part in
              (r'encoder_layers\.0\.0', r'encoder_layers\.1\.0', 'bottleneck')]  # yapf: disable
    return {
        'type': 'RetinexFormer',
        'n_feat': shapes[f'{denoiser}embedding.weight'][0],
        'stage': _count(shapes, r'body\.(\d+)\.'),
        'num_blocks': blocks,
    }


def _mst_plus_plus(shapes: Shapes) -> dict[str, Any] | None:
    if 'conv_in.weight' not in shapes or 'body.0.bottleneck.blocks.0.0.to_q.weight' not in shapes:
        return None
    return {
        'type': 'MST_Plus_Plus',
        'in_channels': shapes['conv_in.weight'][1],
        'out_channels': shapes['conv_out.weight'][0],
        'n_feat': shapes['conv_in.weight'][0],
        'stage': _count(shapes, r'body\.(\d+)\.'),
    }


_LEVELS = ('encoder_level1', 'encoder_level2', 'encoder_level3', 'latent')


def _restormer(shapes: Shapes) -> dict[str, Any] | None:
    """Restormer and its gated, low-rank relatives; one without gate and low rank is a Restormer."""
    blocks = [k.removesuffix('attn.temperature') for k in shapes if k.endswith('.attn.temperature')]
    if not blocks or 'patch_embed.proj.weight' not in shapes or 'down1_2.body.0.weight' not in shapes:
        return None
    first = blocks[0]
    widths = {b: shapes[f'{b}norm1.body.weight'][0] for b in blocks}
    heads = {b: shapes[f'{b}attn.temperature'][0] for b in blocks}
    hidden = {(widths[b], shapes[f'{b}ffn.dwconv.weight'][0] // 2) for b in blocks}
    gate_size = shapes[f'{first}attn.qkv_dwconv.weight'][0] - 3 * widths[first]
    gate = None if gate_size == 0 else 'elementwise' if gate_size == widths[first] else 'headwise'
    found = {
        'type': 'Restormer',
        'inp_channels': shapes['patch_embed.proj.weight'][1],
        'out_channels': shapes['output.weight'][0],
        'dim': shapes['patch_embed.proj.weight'][0],
        'num_blocks': [_count(shapes, level + r'\.(\d+)\.') for level in _LEVELS],
        'num_refinement_blocks': _count(shapes, r'refinement\.(\d+)\.'),
        'heads': [heads.get(f'{_LEVELS[0]}.0.', heads.get('refinement.0.', 1)),
                  *(heads.get(f'{level}.0.', 1) for level in _LEVELS[1:])],
        'ffn_expansion_factor': _simplest(max(h / w for w, h in hidden), lambda f: all(int(w * f) == h for w, h in hidden)),
        'bias': f'{first}ffn.dwconv.bias' in shapes,
        'LayerNorm_type': 'WithBias' if f'{first}norm1.body.bias' in shapes else 'BiasFree',
        'dual_pixel_task': 'skip_conv.weight' in shapes,
    }  # yapf: disable
    improved = 'csff1.conv_merge.weight' in shapes
    least = 4 if improved else 2
    ratios = {
        'lora_ffn_ratio': _ratio(shapes, blocks, ('attn.project_out', 'ffn.project_in', 'ffn.project_out'), least),
        'lora_attn_ratio': _ratio(shapes, blocks, ('attn.qkv', 'attn.dfrg.fc1', 'attn.dfrg.fc2'), least),
    }
    if improved:
        dfrg = {'use_dfrg': f'{first}attn.dfrg.spatial_gate.0.weight' in shapes}
        return {**found, 'type': 'ImprovedLoRaGateRestormer', 'gate_type': gate, **dfrg, **ratios}
    if gate or any(ratios.values()):
        return {**found, 'type': 'LoRa_Gate_Restormer', 'gate_type': gate, **ratios}
    return found


def _illrecnet(shapes: Shapes) -> dict[str, Any] | None:
    """IllRecNet, also under the prefix `model.` of the authors' checkpoints.

    Shapes tell neither the number of heads, taken from the preset of this size and else 8, nor the Gaussian's width,
    which comes with the weights.
    """
    shapes = {k.removeprefix('model.'): v for k, v in shapes.items()}
    kernel = shapes.get('encoder.separate.conv_y.weight')
    if kernel is None or 'encoder.il_sttn.mlp.mlp.0.weight' not in shapes:
        return None
    hidden, dim = shapes['encoder.il_sttn.mlp.mlp.0.weight']
    levels = _count(shapes, r'decoder\.down\.(\d+)\.')
    return {
        'type': 'IllRecNet',
        'kernel_size': kernel[2],
        'sigma': 5 if kernel[2] == 15 else 3,
        'embed_dim': dim,
        'num_heads': {
            (16, 1, 2): 2,
            (32, 2, 3): 4
        }.get((dim, hidden // dim, levels), 8),
        'mlp_ratio': hidden // dim,
        'num_resolution': levels,
    }


def _ratio(shapes: Shapes, blocks: list[str], convs: tuple[str, ...], least: int) -> float | None:
    """The simplest relative rank that gives these convolutions their ranks; None where all are plain."""
    ranks = set()
    for conv in (b + c for b in blocks for c in convs):
        down = shapes.get(f'{conv}.conv_down.weight') or shapes.get(f'{conv}.conv1.weight')
        up = shapes.get(f'{conv}.conv_up.weight') or shapes.get(f'{conv}.conv2.weight')
        if down and up:
            ranks.add((min(down[1], up[0]), down[0]))
        elif f'{conv}.weight' in shapes:
            full = min(shapes[f'{conv}.weight'][:2])
            ranks.add((full, full))
    if all(full == rank for full, rank in ranks):
        return None
    low = max(rank / full if least < rank < full else 0 for full, rank in ranks)
    return _simplest(low, lambda ratio: all(min(full, max(least, int(full * ratio))) == rank for full, rank in ranks))


def _simplest(low: float, fits: Callable[[float], bool]) -> float:
    """The number with the fewest decimals that is at least `low`, above 0, and fits."""
    for digits in range(9):
        value = max(1, math.ceil(round(low * 10**digits, 6))) / 10**digits
        if fits(value):
            return value
    return low


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers stand at the group of `pattern`."""
    return len({m.group(1) for m in (re.match(pattern, key) for key in shapes) if m})


RULES: list[Callable[[Shapes], dict[str, Any] | None]] = [
    _retinexmamba, _retinexformer, _mst_plus_plus, _restormer, _illrecnet]  # yapf: disable

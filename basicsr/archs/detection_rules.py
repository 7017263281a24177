"""One rule per family of networks: from names and shapes of tensors to constructor arguments (see `detection.py`)."""
from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

Shapes = dict[str, tuple[int, ...]]


def _retinexmamba(shapes: Shapes) -> dict[str, Any] | None:
    shapes = {k.replace('.denoiser.', '.Restorer.'): v for k, v in shapes.items()}
    restorer = 'body.0.Restorer.'
    first = shapes.get(f'{restorer}encoder_layers.0.0.blocks.0.1.A_logs')
    if first is None:
        return None
    blocks = [
        _count(shapes, restorer + part + r'\.blocks\.(\d+)\.')
        for part in (r'encoder_layers\.0\.0', r'encoder_layers\.1\.0', 'bottleneck')
    ]
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
    blocks = [
        _count(shapes, denoiser + part + r'\.blocks\.(\d+)\.')
        for part in (r'encoder_layers\.0\.0', r'encoder_layers\.1\.0', 'bottleneck')
    ]
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


def _srresnet(shapes: Shapes) -> dict[str, Any] | None:
    if not {'conv_first.weight', 'body.0.conv1.weight', 'conv_hr.weight', 'conv_last.weight'} <= shapes.keys():
        return None
    width, in_channels = shapes['conv_first.weight'][:2]
    steps = [math.isqrt(v[0] // width) for k, v in shapes.items() if re.fullmatch(r'upconv\d\.weight', k)]
    return {
        'type': 'MSRResNet',
        'num_in_ch': in_channels,
        'num_out_ch': shapes['conv_last.weight'][0],
        'num_feat': width,
        'num_block': _count(shapes, r'body\.(\d+)\.'),
        'upscale': math.prod(steps),
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
        'heads': [
            heads.get(f'{_LEVELS[0]}.0.', heads.get('refinement.0.', 1)),
            *(heads.get(f'{level}.0.', 1) for level in _LEVELS[1:])
        ],
        'ffn_expansion_factor': _simplest(max(h / w for w, h in hidden),
                                          lambda f: all(int(w * f) == h for w, h in hidden)),
        'bias': f'{first}ffn.dwconv.bias' in shapes,
        'LayerNorm_type': 'WithBias' if f'{first}norm1.body.bias' in shapes else 'BiasFree',
        'dual_pixel_task': 'skip_conv.weight' in shapes,
    }
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


def _isalux(shapes: Shapes) -> dict[str, Any] | None:
    """`top_k` leaves no trace, nor does the source of semantic maps: the default ones, so that single images can be run."""
    if 'patch_embed.weight' not in shapes or not any(k.endswith('.0.ffn.gating_fc.weight') for k in shapes):
        return None
    stages = ('encoder_level1', 'encoder_level2', 'bottleneck')
    blocks = [k.removesuffix('ffn.gating_fc.weight') for k in shapes if k.endswith('.ffn.gating_fc.weight')]
    stream = 'attn.attn_i.' if f'{blocks[0]}attn.attn_i.temperature' in shapes else 'attn.attn_s.'
    widths = {b: shapes[f'{b}norm1.weight'][0] for b in blocks}
    heads = {b: shapes[f'{b}{stream}temperature'][1] for b in blocks}
    hidden = {(widths[b], shapes[f'{b}ffn.experts.0.net.0.weight'][0]) for b in blocks}
    adapted = f'{blocks[0]}{stream}lora_q.lora_a.weight' in shapes
    ranks = {(widths[b], shapes[f'{b}{stream}lora_q.lora_a.weight'][0]) for b in blocks} if adapted else ()
    reductions = [r for r in range(1, 1 + max(widths.values())) if all(max(1, w // r) == rank for w, rank in ranks)]
    semantic = shapes.get('sem_adapters.0.weight')
    return {
        'type': 'ISALux',
        'in_channels': shapes['patch_embed.weight'][1],
        'out_channels': shapes['output_proj.weight'][0],
        'dim': shapes['patch_embed.weight'][0],
        'num_blocks': [_count(shapes, stage + r'\.(\d+)\.') for stage in stages],
        'num_refinement_blocks': _count(shapes, r'refinement\.(\d+)\.'),
        'heads': [
            heads.get(f'{stages[0]}.0.', heads.get('refinement.0.', 1)),
            *(heads.get(f'{stage}.0.', 1) for stage in stages[1:])
        ],
        'ffn_expansion_factor': _simplest(max(h / w for w, h in hidden),
                                          lambda f: all(int(w * f) == h for w, h in hidden)),
        'num_experts': shapes[f'{blocks[0]}ffn.gating_fc.weight'][0],
        'lora_r': max(reductions) if adapted else 0,
        'use_illumination': 'illum_adapters.0.weight' in shapes,
        'semantic': 'off' if semantic is None else 'torchvision' if semantic[1] == 21 else 'external',
        **({} if semantic is None else {'num_classes': semantic[1]}),
    }


def _masrnet(shapes: Shapes) -> dict[str, Any] | None:
    if 'multi_attention_1.q_proj.moe.w_gate' not in shapes or 'feature_extractor.patch_embed.weight' not in shapes:
        return None
    dim, stem, patch, _ = shapes['feature_extractor.patch_embed.weight']
    hidden = [[
        shapes[f'{moe}.experts.layers.{i}.weight'][2]
        for i in range(_count(shapes, moe + r'\.experts\.layers\.(\d+)\.weight') - 1)
    ] for moe in ('moe_1', 'moe_2', 'moe_3')]
    return {
        'type': 'MASRNet',
        'embed_dim': dim,
        'patch_size': patch,
        'win_size': 8 // patch,
        'stem_dim': stem,
        'num_experts': shapes['multi_attention_1.q_proj.moe.w_gate'][1],
        'num_heads': dim // shapes['multi_attention_1.k_proj.weight'][0],
        'moe_experts': [shapes[f'moe_{i}.w_gate'][1] for i in (1, 2, 3)],
        'moe_hidden': hidden,
    }


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
        'num_heads': {(16, 1, 2): 2, (32, 2, 3): 4}.get((dim, hidden // dim, levels), 8),
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
    return _simplest(low, lambda ratio: all(rank_of(full, ratio, least) == rank for full, rank in ranks))


def rank_of(full: int, ratio: float | None, least: int) -> int:
    """Of a low-rank convolution that replaces one of rank `full`; `full` where it stays plain."""
    return full if ratio is None else min(full, max(least, int(full * ratio)))


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
    _retinexmamba, _retinexformer, _mst_plus_plus, _restormer, _isalux, _masrnet, _illrecnet, _srresnet
]

"""How ISALux is recognised by its weights."""
from __future__ import annotations

from typing import Any

from basicsr.archs.description import Shapes
from basicsr.archs.recognition import expansion, levels

_LEVELS = ('encoder_level1', 'encoder_level2', 'bottleneck')


def recognise(shapes: Shapes) -> dict[str, Any] | None:
    """`top_k` leaves no trace, nor does the source of semantic maps: the default ones, so that single images can be run."""
    blocks = [k.removesuffix('ffn.gating_fc.weight') for k in shapes if k.endswith('.ffn.gating_fc.weight')]
    if not blocks or 'patch_embed.weight' not in shapes or 'output_proj.weight' not in shapes:
        return None
    first = blocks[0]
    stream = 'attn.attn_i.' if f'{first}attn.attn_i.temperature' in shapes else 'attn.attn_s.'
    widths = {b: shapes[f'{b}norm1.weight'][0] for b in blocks}
    adapted = f'{first}{stream}lora_q.lora_a.weight' in shapes
    ranks = {(widths[b], shapes[f'{b}{stream}lora_q.lora_a.weight'][0]) for b in blocks} if adapted else ()
    reductions = [r for r in range(1, 1 + max(widths.values())) if all(max(1, w // r) == rank for w, rank in ranks)]
    semantic = shapes.get('sem_adapters.0.weight')
    return {
        'in_channels': shapes['patch_embed.weight'][1],
        'out_channels': shapes['output_proj.weight'][0],
        'dim': shapes['patch_embed.weight'][0],
        **levels(shapes, _LEVELS, {b: shapes[f'{b}{stream}temperature'][1] for b in blocks}),
        'ffn_expansion_factor': expansion({(widths[b], shapes[f'{b}ffn.experts.0.net.0.weight'][0]) for b in blocks}),
        'num_experts': shapes[f'{first}ffn.gating_fc.weight'][0],
        'lora_r': max(reductions) if adapted else 0,
        'use_illumination': 'illum_adapters.0.weight' in shapes,
        'semantic': 'off' if semantic is None else 'torchvision' if semantic[1] == 21 else 'external',
        **({} if semantic is None else {'num_classes': semantic[1]}),
    }

"""From the names and shapes of MoCE-IR's weights to its arguments."""
from __future__ import annotations

from typing import Any

from basicsr.archs.description import Shapes
from basicsr.archs.moce_ir.experts import ranks_of
from basicsr.archs.recognition import count, expansion


def recognise(shapes: Shapes) -> dict[str, Any] | None:
    deepest = 'dec.0.2.layers.0.'
    if f'{deepest}adapter.routing.freq_gate.weight' not in shapes:
        return None
    levels = count(shapes, r'enc\.(\d+)\.') + 1
    first = [f'enc.{i}.0.layers.0.' for i in range(levels - 1)] + ['latent.layers.0.']
    experts = count(shapes, rf'{deepest}adapter\.experts\.(\d+)\.'.replace('dec.0', r'dec\.0'))
    blocks = [k.removesuffix('ffn.dwconv.weight') for k in shapes if k.endswith('ffn.dwconv.weight')]
    ranks = [shapes[f'{deepest}adapter.experts.{e}.0.proj.0.weight'][0] for e in range(experts)]
    rank_type, rank = _rank_rule(ranks, shapes[f'{deepest}norms.0.body.weight'][0])
    return {
        'inp_channels': shapes['patch_embed.proj.weight'][1],
        'out_channels': shapes['output.weight'][0],
        'dim': shapes['patch_embed.proj.weight'][0],
        'levels': levels,
        'heads': [shapes[f'{block}mixer.temperature'][0] for block in first],
        'num_blocks': [
            *(count(shapes, rf'enc\.{i}\.0\.layers\.(\d+)\.') for i in range(levels - 1)),
            count(shapes, r'latent\.layers\.(\d+)\.')
        ],
        'num_dec_blocks': [count(shapes, rf'dec\.{levels - 2 - i}\.2\.layers\.(\d+)\.') for i in range(levels - 1)],
        'ffn_expansion_factor': expansion({
            (shapes[f'{b}norms.0.body.weight'][0], shapes[f'{b}ffn.dwconv.weight'][0] // 2) for b in blocks
        }),
        'num_refinement_blocks': count(shapes, r'refinement\.layers\.(\d+)\.'),
        'LayerNorm_type': 'WithBias' if 'latent.layers.0.norms.0.body.bias' in shapes else 'BiasFree',
        'bias': 'output.bias' in shapes,
        'rank': rank,
        'num_experts': experts,
        'rank_type': rank_type,
        'stage_depth': [1] * (levels - 1),
    }


def _rank_rule(ranks: list[int], width: int) -> tuple[str, int]:
    """The rule that gives these ranks, and its number."""
    for kind in ('spread', 'constant', 'lin', 'double', 'exp', 'fact'):
        for rank in (2, *range(1, ranks[0] + 1)):
            if ranks_of(kind, rank, len(ranks), width) == ranks:
                return kind, rank
    return 'constant', ranks[0]

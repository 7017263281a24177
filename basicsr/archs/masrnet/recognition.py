"""How MASR-Net is recognised by its weights."""
from __future__ import annotations

from typing import Any

from basicsr.archs.description import Shapes
from basicsr.archs.masrnet.parameter_maps import WINDOW
from basicsr.archs.recognition import count


def recognise(shapes: Shapes) -> dict[str, Any] | None:
    """Shapes tell neither how many experts are chosen, which stays the default, nor what is drawn or dropped."""
    if not {'multi_attention_1.q_proj.moe.w_gate', 'feature_extractor.patch_embed.weight'} <= shapes.keys():
        return None
    dim, stem, patch, _ = shapes['feature_extractor.patch_embed.weight']
    moes = ('moe_1', 'moe_2', 'moe_3')
    layers = [count(shapes, moe + r'\.experts\.layers\.(\d+)\.weight') for moe in moes]
    return {
        'embed_dim': dim,
        'patch_size': patch,
        'win_size': WINDOW // patch,
        'stem_dim': stem,
        'num_experts': shapes['multi_attention_1.q_proj.moe.w_gate'][1],
        'num_heads': dim // shapes['multi_attention_1.k_proj.weight'][0],
        'moe_experts': [shapes[f'{moe}.w_gate'][1] for moe in moes],
        'moe_hidden': [[shapes[f'{moe}.experts.layers.{i}.weight'][2] for i in range(n - 1)]
                       for moe, n in zip(moes, layers)],
    }

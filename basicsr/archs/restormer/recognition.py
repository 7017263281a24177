"""How Restormer and its gated, low-rank relatives are recognised, and what their checkpoints claim of themselves."""
from __future__ import annotations

import re
from typing import Any

from basicsr.archs.description import Shapes, equal
from basicsr.archs.recognition import expansion, levels, simplest

_LEVELS = ('encoder_level1', 'encoder_level2', 'encoder_level3', 'latent')
_PARTS = re.compile(r'(patch_embed|(en|de)coder_level[123]|down\d_\d|latent|up\d_\d|csff[123]|reduce_chan_level[123]'
                    r'|refinement|skip_conv|output)\.')
_NARROW = ('attn.project_out', 'ffn.project_in', 'ffn.project_out')  # the convolutions of `lora_ffn_ratio`
_WIDE = ('attn.qkv', 'attn.dfrg.fc1', 'attn.dfrg.fc2')  # those of `lora_attn_ratio`

# hyper-parameters of the all-in-one family's checkpoints
CLAIMS = {name: name for name in ('dim', 'num_blocks', 'num_refinement_blocks', 'heads', 'gate_type')}
CLAIMS |= {'LoRa_ffn_ratio': 'lora_ffn_ratio', 'LoRa_attn_ratio': 'lora_attn_ratio'}


def plain(shapes: Shapes) -> dict[str, Any] | None:
    """`Restormer`: of the blocks of the family, those without gate and low rank."""
    found = baseline(shapes)
    if found is None or any(found.pop(name) for name in ('gate_type', 'lora_ffn_ratio', 'lora_attn_ratio')):
        return None
    return found


def gated(shapes: Shapes) -> dict[str, Any] | None:
    """`LoRa_Gate_Restormer`. One without gate and low rank is a Restormer."""
    return None if plain(shapes) else baseline(shapes)


def improved(shapes: Shapes) -> dict[str, Any] | None:
    """`ImprovedLoRaGateRestormer`."""
    blocks = _blocks(shapes)
    if not blocks or f'{blocks[0]}gamma1' not in shapes or 'csff1.attention.0.weight' not in shapes:
        return None
    return _arguments(shapes, blocks, least=4) | {'use_dfrg': f'{blocks[0]}attn.dfrg.spatial_gate.0.weight' in shapes}


def baseline(shapes: Shapes) -> dict[str, Any] | None:
    """The arguments of Restormer with gate and low rank, None where the U-Net is another one."""
    blocks = _blocks(shapes)
    return None if not blocks or f'{blocks[0]}gamma1' in shapes else _arguments(shapes, blocks, least=2)


def claim_agrees(argument: str, claimed: Any, found: dict[str, Any]) -> bool:
    """As `equal`, but that many ratios lead to the same ranks, and that the command line spells no gate as 'None'."""
    if argument == 'gate_type':
        return found.get('gate_type') == (None if claimed in ('None', 'none', '') else claimed)
    if not argument.startswith('lora'):
        return equal(argument, claimed, found)
    least = 4 if 'use_dfrg' in found else 2
    parts = (1, 4) if argument == 'lora_attn_ratio' and found.get('use_dfrg') else (1, )
    sizes = [found['dim'] * 2**i // part for i in range(4) for part in parts]
    return all(rank_of(n, claimed, least) == rank_of(n, found.get(argument), least) for n in sizes)


def rank_of(full: int, ratio: float | None, least: int) -> int:
    """Of a low-rank convolution that replaces one of rank `full`; `full` where it stays plain."""
    return full if ratio is None else min(full, max(least, int(full * ratio)))


def _blocks(shapes: Shapes) -> list[str]:
    """The prefixes of all blocks; none where the network has other parts than this family."""
    if 'patch_embed.proj.weight' not in shapes or not all(map(_PARTS.match, shapes)):
        return []
    return [k.removesuffix('attn.temperature') for k in shapes if k.endswith('.attn.temperature')]


def _arguments(shapes: Shapes, blocks: list[str], least: int) -> dict[str, Any]:
    """Those that the whole family has. `least`: rank of the low-rank convolutions."""
    first = blocks[0]
    widths = {b: shapes[f'{b}norm1.body.weight'][0] for b in blocks}
    gate_size = shapes[f'{first}attn.qkv_dwconv.weight'][0] - 3 * widths[first]
    return {
        'inp_channels': shapes['patch_embed.proj.weight'][1],
        'out_channels': shapes['output.weight'][0],
        'dim': shapes['patch_embed.proj.weight'][0],
        **levels(shapes, _LEVELS, {b: shapes[f'{b}attn.temperature'][0] for b in blocks}),
        'ffn_expansion_factor': expansion({(widths[b], shapes[f'{b}ffn.dwconv.weight'][0] // 2) for b in blocks}),
        'bias': f'{first}ffn.dwconv.bias' in shapes,
        'LayerNorm_type': 'WithBias' if f'{first}norm1.body.bias' in shapes else 'BiasFree',
        'dual_pixel_task': 'skip_conv.weight' in shapes,
        'gate_type': None if gate_size == 0 else 'elementwise' if gate_size == widths[first] else 'headwise',
        'lora_ffn_ratio': _ratio(shapes, blocks, _NARROW, least),
        'lora_attn_ratio': _ratio(shapes, blocks, _WIDE, least),
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
    return simplest(low, lambda ratio: all(rank_of(full, ratio, least) == rank for full, rank in ranks))

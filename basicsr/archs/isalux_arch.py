"""ISALux (Balmez et al. 2025, arXiv 2508.17885), a reconstruction: neither code nor weights of the paper are public.

Class names and argument order are those of the published description. What it leaves open is decided here: attention
between channels (attention between pixels is impossible at 400x600), two independent projections for the two priors,
widths and depths that give the paper's 1.85 M parameters. No figure of the paper is claimed for this network.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Len
from torch import Tensor, nn

from basicsr.archs.description import Description
from basicsr.archs.isalux.moe_ffn import MOE_FFN, Expert
from basicsr.archs.isalux.prior_attention import HISA_MSA, AdaptedAttention, LoRA
from basicsr.archs.isalux.recognition import recognise
from basicsr.archs.layers.norm import channel_layer_norm
from basicsr.archs.layers.recompute import Blocks
from basicsr.archs.layers.resample import Doubling, weights_channels_last
from basicsr.utils.errors import UserError
from basicsr.utils.img import pad_to_multiple
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.utils.values import Count, Natural, Positive

__all__ = ['HISA_MSA', 'MOE_FFN', 'Expert', 'ISALux', 'LayerNorm', 'LoRA', 'TransformerBlock']


class LayerNorm(nn.LayerNorm):
    """Normalises over the channels of (..., C), or of (B, C, H, W) with `data_format='channels_first'`."""

    def __init__(self, normalized_shape: int, eps: float = 1e-6,
                 data_format: Literal['channels_last', 'channels_first'] = 'channels_last'):
        if data_format not in ('channels_last', 'channels_first'):
            raise ValueError(f"LayerNorm: data_format must be 'channels_last' or 'channels_first', not '{data_format}'")
        super().__init__(normalized_shape, eps)
        self.data_format = data_format

    def forward(self, x: Tensor) -> Tensor:
        if self.data_format == 'channels_first':
            return channel_layer_norm(x, self.weight, self.bias, self.eps)
        return super().forward(x)


class TransformerBlock(nn.Module):
    """x + HISA(norm(x)), then x + MoE(norm(x)), on (B, H, W, C); the hidden width is int(dim * ffn_expansion_factor)."""

    def __init__(self, dim: int, num_heads: int, ffn_expansion_factor: float = 2.66, num_experts: int = 4,
                 top_k: int = 2, r: int = 4, illum: bool = True, sem: bool = True):
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = HISA_MSA(dim, num_heads, r, illum, sem)
        self.norm2 = LayerNorm(dim)
        self.ffn = MOE_FFN(dim, int(dim * ffn_expansion_factor), num_experts, top_k)

    def forward(self, x: Tensor, F_Pi: Tensor | None = None, F_Ps: Tensor | None = None) -> Tensor:
        x = x + self.attn(self.norm1(x), F_Pi, F_Ps)
        return x + self.ffn(self.norm2(x))


@ARCH_REGISTRY.register()
class ISALux(nn.Module):
    """Low-light enhancement with illumination and semantic priors and mixtures of experts; a reconstruction.

    Args:
        in_channels, out_channels: equal, because the result is a residual to the input; a segmenter needs 3.
        dim: width of the first level; the others have 2 and 4 times as many channels.
        num_blocks, heads: of the two encoder/decoder levels and of the bottleneck. A fourth number, as in the published
            description, is ignored with a warning.
        num_refinement_blocks: after the decoder.
        ffn_expansion_factor: hidden width of an expert is int(channels * factor).
        num_experts, top_k: experts of each block, and how many of them an image uses.
        lora_r: reduction of the LoRA of q, k and v, whose rank is max(1, channels // lora_r); 0 for none.
        use_illumination: the prior 1 - max over the channels.
        semantic: 'torchvision' (segmenter with torchvision's weights, downloaded once), the path of a file with such
            weights, 'external' (each call is given a map), 'off' or None (no semantic prior).
        num_classes: channels of the semantic map.
        checkpoint: compute each block again in the backward pass; much less memory for more time.

    The segmenter is no part of the network: whoever builds it for use gives it one by `weights.semantic_prior.equip`.

    Source: arXiv 2508.17885, reconstructed. The defaults have 1,849,367 parameters, the segmenter not counted.
    """

    description = Description(multiple=4, channels='in_channels', tiling='', shares=True, recognise=recognise)

    def __init__(self, in_channels: Count = 3, out_channels: Count = 3, dim: Count = 32,
                 num_blocks: Annotated[Sequence[Natural], Len(3, 4)] = (2, 2, 2), num_refinement_blocks: Natural = 0,
                 heads: Annotated[Sequence[Count], Len(3, 4)] = (1, 2, 4), ffn_expansion_factor: Positive = 2.66,
                 num_experts: Count = 4, top_k: Count = 2, *, lora_r: Natural = 8, use_illumination: bool = True,
                 semantic: str | Literal[False] | None = 'torchvision', num_classes: Count = 21,
                 checkpoint: bool = False):  # yapf: disable
        super().__init__()
        semantic = semantic or 'off'  # YAML reads a bare `off` as false
        depths, heads = _three('num_blocks', num_blocks, 0), _three('heads', heads, 1)
        _check(in_channels, out_channels, dim, num_refinement_blocks, heads, ffn_expansion_factor, semantic,
               num_classes)
        sem = semantic != 'off'
        widths = [dim, dim * 2, dim * 4]

        def level(k: int, count: int) -> Blocks:
            made = (TransformerBlock(widths[k], heads[k], ffn_expansion_factor, num_experts, top_k, lora_r,
                                     use_illumination, sem) for _ in range(count))
            return Blocks(*made, checkpoint=checkpoint)

        self.num_classes = num_classes
        self.patch_embed = nn.Conv2d(in_channels, dim, 3, padding=1)
        self.illum_adapters = nn.ModuleList(nn.Conv2d(1, c, 1) for c in widths) if use_illumination else None
        self.sem_adapters = nn.ModuleList(nn.Conv2d(num_classes, c, 3, padding=1) for c in widths) if sem else None
        self.encoder_level1 = level(0, depths[0])
        self.down1_2 = nn.Conv2d(dim, dim * 2, 3, stride=2, padding=1)
        self.encoder_level2 = level(1, depths[1])
        self.down2_3 = nn.Conv2d(dim * 2, dim * 4, 3, stride=2, padding=1)
        self.bottleneck = level(2, depths[2])
        self.up3_2 = Doubling(dim * 4, dim * 2)
        self.decoder_level2 = level(1, depths[1])
        self.up2_1 = Doubling(dim * 2, dim)
        self.decoder_level1 = level(0, depths[0])
        self.refinement = level(0, num_refinement_blocks)
        self.output_proj = nn.Conv2d(dim, out_channels, 3, padding=1)
        weights_channels_last(self)
        self.semantic_source = semantic
        if semantic == 'external':
            self.description = replace(self.description, guide=num_classes)
        self.segmenter: Callable[[Tensor], Tensor] | None = None  # given by `basicsr.weights.semantic_prior.equip`

    def forward(self, x: Tensor, sem_prob: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1], any size, to the same; not clamped.

        Args:
            sem_prob: class probabilities (B, num_classes, H, W), used instead of the segmenter's; needed when `semantic`
                is 'external'.
        """
        h, w = x.shape[-2:]
        sem_prob = self._semantic_map(x, sem_prob)
        padded = pad_to_multiple(x, self.description.multiple).contiguous(memory_format=torch.channels_last)
        illumination = 1 - padded.amax(dim=1, keepdim=True)
        illum = _pyramid(self.illum_adapters, illumination)
        sem = _pyramid(self.sem_adapters, sem_prob)
        e1 = _level(self.encoder_level1, self.patch_embed(padded), illum[0], sem[0])
        e2 = _level(self.encoder_level2, self.down1_2(e1), illum[1], sem[1])
        z = _level(self.bottleneck, self.down2_3(e2), illum[2], sem[2])
        z = _level(self.decoder_level2, self.up3_2(z) + e2, illum[1], sem[1])
        z = _level(self.decoder_level1, self.up2_1(z) + e1, illum[0], sem[0])
        z = _level(self.refinement, z, illum[0], sem[0])
        return self.output_proj(z)[..., :h, :w].contiguous() + x

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As always; raises `RuntimeError` that names both variants when the weights are those of another one."""
        mine, theirs = _variant(self.state_dict()), _variant(state_dict)
        if strict and mine != theirs:
            raise RuntimeError(f'the weights are those of ISALux {theirs}; this one is {mine} '
                               '(options use_illumination, semantic, lora_r)')
        return super().load_state_dict(state_dict, strict, assign)

    def merge_lora(self) -> ISALux:
        """Fold every LoRA into the weights beside it: the same function, as a network with `lora_r=0` and with its keys."""
        for module in self.modules():
            if isinstance(module, AdaptedAttention):
                module.merge_lora()
        return self

    def _semantic_map(self, x: Tensor, sem_prob: Tensor | None) -> Tensor | None:
        """The map for x, padded like it; None without a semantic prior."""
        if self.sem_adapters is None:
            if sem_prob is not None:
                raise UserError(
                    "ISALux: a semantic map is given to a network with semantic 'off', which has no use for it")
            return None
        if sem_prob is None:
            if self.semantic_source == 'external':
                raise UserError("ISALux: with semantic 'external' each image needs its semantic map as second argument"
                                ' (made by "basicsr segment", read by the option dataroot_sem of a data set)')
            if self.segmenter is None:
                raise UserError(f"ISALux: semantic '{self.semantic_source}' needs a segmenter, which"
                                ' basicsr.weights.semantic_prior.equip gives to the network')
            sem_prob = self.segmenter(x)
        expected = (x.shape[0], self.num_classes, *x.shape[2:])
        if tuple(sem_prob.shape) != expected:
            raise UserError(f'ISALux: the semantic map is {tuple(sem_prob.shape)}, the image needs {expected}')
        return pad_to_multiple(sem_prob, self.description.multiple)


def _pyramid(adapters: nn.ModuleList | None, prior: Tensor | None) -> list[Tensor | None]:
    """Features of a prior (B, N, H, W) at full, half and quarter size; each size is taken from the full one."""
    if adapters is None or prior is None:
        return [None, None, None]
    h, w = prior.shape[-2:]
    maps = [prior] + [F.interpolate(prior, size=(h // s, w // s), mode='bilinear') for s in (2, 4)]
    return [adapt(m).contiguous(memory_format=torch.channels_last) for adapt, m in zip(adapters, maps)]


def _level(blocks: Blocks, x: Tensor, F_Pi: Tensor | None, F_Ps: Tensor | None) -> Tensor:
    """Blocks work on (B, H, W, C), all else on (B, C, H, W)."""
    return blocks(x.permute(0, 2, 3, 1), F_Pi, F_Ps).permute(0, 3, 1, 2)


def _three(name: str, numbers: Sequence[int], least: int) -> tuple[int, ...]:
    if len(numbers) not in (3, 4) or min(numbers) < least:
        raise ValueError(f'ISALux: {name} needs three numbers (two levels, bottleneck) of at least {least}, '
                         f'not {list(numbers)}')
    if len(numbers) == 4:
        warnings.warn(f'ISALux: {name} has three levels, the fourth number of {list(numbers)} is ignored', stacklevel=3)
    return tuple(numbers[:3])


def _check(in_channels: int, out_channels: int, dim: int, num_refinement_blocks: int, heads: Sequence[int],
           factor: float, semantic: str, num_classes: int) -> None:
    if in_channels != out_channels:
        raise ValueError(
            f'ISALux: out_channels must equal in_channels ({in_channels}), because the result is a residual '
            f'to the input, not {out_channels}')
    if in_channels != 3 and semantic not in ('external', 'off'):
        raise ValueError(
            f"ISALux: a segmenter needs RGB images; with {in_channels} channels semantic must be 'external' "
            "or 'off'")
    if semantic == 'torchvision' and num_classes != 21:
        raise ValueError(f"ISALux: torchvision's segmenter has 21 classes, num_classes is {num_classes}")
    if num_refinement_blocks < 0:
        raise ValueError(f'ISALux: num_refinement_blocks must not be negative, not {num_refinement_blocks}')
    if int(dim * factor) < 1:
        raise ValueError(f'ISALux: ffn_expansion_factor {factor} leaves no channel of {dim}')
    for k, count in enumerate(heads):
        if dim * 2**k % count:
            raise ValueError(f'ISALux: {count} heads do not divide the {dim * 2**k} channels of level {k + 1}')


def _variant(keys: Iterable[str]) -> str:
    """What of the network is there, by the names of its tensors."""
    keys = list(keys)
    parts = (('illumination prior', 'illum_adapters.'), ('semantic prior', 'sem_adapters.'), ('LoRA', '.lora_'))
    return ', '.join(f'{"with" if any(sign in k for k in keys) else "without"} {what}' for what, sign in parts)

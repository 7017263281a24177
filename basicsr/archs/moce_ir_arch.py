"""MoCE-IR (Zamfir et al. 2025, arXiv 2411.18466): all-in-one restoration by experts of different complexity.

Parameter names, order and shapes are those of the published checkpoints.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from basicsr.archs.description import Description
from basicsr.archs.layers.cross_attention import CrossAttention
from basicsr.archs.layers.feedforward import GatedFeedForward
from basicsr.archs.layers.gelu import GELU, gelu
from basicsr.archs.layers.norm import BodyLayerNorm, is_centred
from basicsr.archs.layers.pointwise import PointwiseConv2d
from basicsr.archs.layers.recompute import checkpointed
from basicsr.archs.layers.resample import weights_channels_last
from basicsr.archs.layers.restormer_unet import Downsample, PatchEmbed, Upsample
from basicsr.archs.layers.transient import Transient
from basicsr.archs.layers.transposed_attention import TransposedAttention
from basicsr.archs.layers.whole_image import image_mean
from basicsr.archs.moce_ir.experts import Adapter, ranks_of
from basicsr.archs.moce_ir.recognition import recognise
from basicsr.utils.img import pad_to_multiple
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.utils.values import Count, Natural, Positive


class FrequencyEmbedding(nn.Module):
    """Means of high frequencies, from which all routers choose."""
    high_conv: Any

    def __init__(self, dim: int):
        super().__init__()
        high = nn.Module()
        high.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        with torch.no_grad():
            high.conv.weight.fill_(-1.)[:, :, 1, 1] = 8.  # where training begins
        self.high_conv = nn.ModuleList([high])
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C)."""
        return self.mlp(image_mean(gelu(self.high_conv[0].conv(x))).flatten(1))


class PlainBlock(nn.Module):
    """Restormer's block."""

    def __init__(self, dim: int, heads: int, factor: float, centred: bool):
        super().__init__()
        self.norms = nn.ModuleList([BodyLayerNorm(dim, centred), BodyLayerNorm(dim, centred)])
        self.mixer = TransposedAttention(dim, heads, True)
        self.ffn = GatedFeedForward(dim, factor, True)

    def forward(self, x: Tensor, features: Tensor | None = None) -> Tensor:
        x = x + self.mixer(self.norms[0](x))
        return x + self.ffn(self.norms[1](x))


class DecoderBlock(nn.Module):
    """Attention that is asked by what the chosen experts make of the image, then Restormer's feed-forward."""

    def __init__(self, dim: int, heads: int, factor: float, centred: bool, bias: bool, adapter: Adapter):
        super().__init__()
        self.norms = nn.ModuleList([BodyLayerNorm(dim, centred), BodyLayerNorm(dim, centred)])
        self.proj = nn.ModuleList([PointwiseConv2d(dim, dim), PointwiseConv2d(dim, dim)])
        self.shared = TransposedAttention(dim, heads, bias)
        self.mixer = CrossAttention(dim, heads, bias, size=7)
        self.ffn = GatedFeedForward(dim, factor, bias)
        self.adapter = adapter

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        n = self.norms[0](x)
        shared = self.shared(self.proj[0](n))
        x = x + self.mixer(self.adapter(self.proj[1](n), features, shared), shared)
        return x + self.ffn(self.norms[1](x))


class Level(nn.Module):
    """Blocks one after the other."""

    def __init__(self, blocks: Sequence[nn.Module], checkpoint: bool):
        super().__init__()
        self.layers, self.checkpoint = nn.ModuleList(blocks), checkpoint

    def forward(self, x: Tensor, features: Tensor | None = None) -> Tensor:
        for block in self.layers:
            x = checkpointed(self.checkpoint, block, x, features, draws=True)
        return x


@ARCH_REGISTRY.register()
class MoCEIR(Transient):
    """Denoising, deraining, dehazing, deblurring and low light with one set of weights.

    Args:
        inp_channels, out_channels: equal, because the result is a residual to the input.
        dim: width of the first level; each deeper one has twice as many channels. levels: how many.
        heads, num_blocks: of each level on the way down. num_dec_blocks: of each level on the way up, the uppermost first.
        ffn_expansion_factor, LayerNorm_type: as in `Restormer`. num_refinement_blocks: after the decoder.
        bias: of the convolutions on the way up.
        rank, rank_type: width of the experts: 'constant'; rising by 1 ('lin'), by 2 ('double'), as powers ('exp') or
            factorials ('fact') of `rank`; or 'spread', halves of the image's width, whatever `rank` is.
        num_experts, topk: experts of each block, and how many of them an image takes.
        depth_type, stage_depth: of no effect; published options have them.
        with_complexity: large experts weigh more in the balance loss. complexity_scale: unit of `complexity`: the largest
            expert ('max'), the smallest ('min') or a parameter ('count').
        published_eval: evaluate as published, with noise in the choice of experts, and mixing the choices of a batch.
        checkpoint: compute each block again in the backward pass.

    In training a pass leaves the balance loss in `auxiliary_loss`, for `MoEBalanceLoss`; with `topk` 1 the routers learn
    from it alone.

    Source: arXiv 2411.18466. The defaults are the published MoCE-IR of 25,353,796 parameters; MoCE-IR-S has a `dim` of 32.
    """

    transient = ('auxiliary_loss', )
    description = Description(multiple=8, channels='inp_channels', recognise=recognise, untold=('topk', ), tiling='',
                              shares=True)
    enc: Any
    dec: Any

    def __init__(self, inp_channels: Count = 3, out_channels: Count = 3, dim: Count = 48, levels: Count = 4,
                 heads: Sequence[Count] = (1, 2, 4, 8), num_blocks: Sequence[Natural] = (4, 6, 6, 8),
                 num_dec_blocks: Sequence[Natural] = (2, 4, 4), ffn_expansion_factor: Positive = 2,
                 num_refinement_blocks: Natural = 4, LayerNorm_type: Literal['WithBias', 'BiasFree'] = 'WithBias',
                 bias: bool = False, rank: Count = 2, num_experts: Count = 4,
                 depth_type: Literal['constant', 'lin', 'double', 'exp',
                                     'fact'] = 'constant', stage_depth: Sequence[Count] = (1, 1, 1),
                 rank_type: Literal['constant', 'lin', 'double', 'exp', 'fact',
                                    'spread'] = 'spread', topk: Count = 1, with_complexity: bool = False,
                 complexity_scale: Literal['max', 'min',
                                           'count'] = 'max', published_eval: bool = False, checkpoint: bool = False):
        super().__init__()
        _check(levels, heads, num_blocks, num_dec_blocks, stage_depth, dim, num_experts, topk, inp_channels,
               out_channels, complexity_scale)
        centred, widths = is_centred('MoCEIR', LayerNorm_type), [dim * 2**i for i in range(levels)]

        def plain(width: int, number: int, head_count: int) -> Level:
            return Level([PlainBlock(width, head_count, ffn_expansion_factor, centred) for _ in range(number)],
                         checkpoint)

        def decoder(width: int, number: int, head_count: int) -> Level:
            ranks = ranks_of(rank_type, rank, num_experts, width)
            return Level([
                DecoderBlock(width, head_count, ffn_expansion_factor, centred, bias,
                             Adapter(width, widths[-1], ranks, topk, with_complexity, complexity_scale, published_eval))
                for _ in range(number)
            ], checkpoint)

        self.patch_embed = PatchEmbed(inp_channels, dim)
        self.freq_embed = FrequencyEmbedding(widths[-1])
        self.enc = nn.ModuleList(
            nn.ModuleList([plain(c, n, h), Downsample(c)]) for c, n, h in zip(widths[:-1], num_blocks, heads))
        self.latent = plain(widths[-1], num_blocks[-1], heads[-1])
        self.dec = nn.ModuleList(
            nn.ModuleList([Upsample(2 * c), PointwiseConv2d(2 * c, c, bias=bias),
                           decoder(c, n, h)]) for c, n, h in reversed(list(zip(widths, num_dec_blocks, heads))))
        self.refinement = plain(dim, num_refinement_blocks, heads[0])
        self.output = nn.Conv2d(dim, out_channels, 3, padding=1, bias=bias)
        self.description = replace(self.description, multiple=2**(levels - 1))
        self.auxiliary_loss: Tensor | None = None
        weights_channels_last(self)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, C, H, W), any size, to the same; not clipped. `labels` are not read, as published."""
        h, w = x.shape[-2:]
        x = pad_to_multiple(x, self.description.multiple).contiguous(memory_format=torch.channels_last)
        y, skips = self.patch_embed(x), []
        for blocks, down in self.enc:
            y = blocks(y)
            skips.append(y)
            y = down(y)
        y = self.latent(y)
        features = self.freq_embed(y)
        for up, fuse, blocks in self.dec:
            y = blocks(fuse(torch.cat([up(y), skips.pop()], 1)), features)
        y = self.output(self.refinement(y)) + x
        self.auxiliary_loss = self._balance()
        return y[..., :h, :w].contiguous()

    def _balance(self) -> Tensor | None:
        """The mean of the routers' balance losses; None in evaluation."""
        found = [block.adapter.routing.balance for _, _, blocks in self.dec for block in blocks.layers]
        return sum(found) / len(found) if self.training and found else None


def _check(levels: int, heads: Sequence[int], num_blocks: Sequence[int], num_dec_blocks: Sequence[int],
           stage_depth: Sequence[int], dim: int, experts: int, topk: int, inp: int, out: int, scale: str) -> None:
    """Raises `ValueError` for arguments from which no network can be built."""
    if levels < 2 or len(heads) != levels or len(num_blocks) != levels:
        raise ValueError(f'MoCEIR: heads and num_blocks need a number for each of {levels} levels, two at least')
    if len(num_dec_blocks) != levels - 1 or len(stage_depth) != levels - 1:
        raise ValueError(
            f'MoCEIR: num_dec_blocks and stage_depth need {levels - 1} numbers, one for each level but the latent')
    for i, count_ in enumerate(heads):
        if dim * 2**i % count_:
            raise ValueError(f'MoCEIR: {count_} heads do not divide the {dim * 2**i} channels of level {i + 1}')
    if not 1 <= topk <= experts or experts < 2:
        raise ValueError(f'MoCEIR: num_experts must be 2 or more and topk no more than that, not {experts} and {topk}')
    if dim % 2 or dim >> experts - 1 < 1:
        raise ValueError(f'MoCEIR: dim must be even, and {experts} halves of it at least 1, not {dim}')
    if inp != out:
        raise ValueError(
            f'MoCEIR: out_channels must equal inp_channels ({inp}), because the result is a residual, not {out}')
    if scale not in ('max', 'min', 'count'):
        raise ValueError(f"MoCEIR: complexity_scale must be 'max', 'min' or 'count', not '{scale}'")

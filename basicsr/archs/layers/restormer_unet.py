"""The U-Net of Restormer (Zamir et al. 2022, fig. 2) and its parts; blocks are passed in."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from basicsr.archs.layers.norm import BodyLayerNorm
from basicsr.archs.layers.pointwise import PointwiseConv2d
from basicsr.archs.layers.recompute import Blocks
from basicsr.archs.layers.resample import weights_channels_last
from basicsr.archs.layers.strips import in_strips
from basicsr.utils.img import pad_to_multiple

MakeBlock = Callable[[int, int], nn.Module]  # (width, heads) to a block
MULTIPLE = 8  # of the sides of images, which are halved three times


class PatchEmbed(nn.Module):
    """3x3 convolution, never with a bias."""

    def __init__(self, in_channels: int, dim: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class Downsample(nn.Module):
    """(B, C, H, W) to (B, 2 C, H / 2, W / 2): 3x3 to half the channels, pixel unshuffle."""

    def __init__(self, dim: int):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(dim, dim // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).contiguous(memory_format=torch.channels_last)


class Upsample(nn.Module):
    """(B, C, H, W) to (B, C / 2, 2 H, 2 W): 3x3 to twice the channels, pixel shuffle."""

    def __init__(self, dim: int):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(dim, dim * 2, 3, padding=1, bias=False), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).contiguous(memory_format=torch.channels_last)


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + ffn(norm(x)); `centred` norms subtract the mean (LayerNorm_type WithBias)."""

    def __init__(self, attention: nn.Module, ffn: nn.Module, dim: int, centred: bool = True):
        super().__init__()
        self.norm1 = BodyLayerNorm(dim, bias=centred)
        self.attn = attention
        self.norm2 = BodyLayerNorm(dim, bias=centred)
        self.ffn: Any = ffn

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        if not self.ffn.plain:  # low-rank convolutions look further than one row
            return x + self.ffn(self.norm2(x))
        return in_strips(lambda t: t + self.ffn(self.norm2(t)), x, channels=self.ffn.dwconv.out_channels, halo=1)


class RestormerUNet(nn.Module):
    """Four levels of blocks, widths d, 2d, 4d, 8d; the last decoder level and the refinement keep 2d channels.

    Args:
        inp_channels, out_channels: equal, unless `dual_pixel_task`.
        dim: width d. num_blocks: of the four levels. heads: of the four levels.
        bias: of the 1x1 convolutions after skips and of the output.
        dual_pixel_task: the result is no residual to the input; the embedded input joins before the output instead.
        block: makes a block from its width and heads.
        checkpoint: compute each block again in the backward pass instead of keeping what is inside it.
    """

    def __init__(self, inp_channels: int, out_channels: int, dim: int, num_blocks: Sequence[int],
                 num_refinement_blocks: int, heads: Sequence[int], bias: bool, dual_pixel_task: bool, block: MakeBlock,
                 checkpoint: bool):
        super().__init__()
        check_restormer(type(self).__name__, inp_channels, out_channels, dim, num_blocks, heads, dual_pixel_task)

        def level(width: int, count: int, head_count: int) -> Blocks:
            return Blocks(*(block(width, head_count) for _ in range(count)), checkpoint=checkpoint)

        self.patch_embed = PatchEmbed(inp_channels, dim)
        self.encoder_level1 = level(dim, num_blocks[0], heads[0])
        self.down1_2 = Downsample(dim)
        self.encoder_level2 = level(dim * 2, num_blocks[1], heads[1])
        self.down2_3 = Downsample(dim * 2)
        self.encoder_level3 = level(dim * 4, num_blocks[2], heads[2])
        self.down3_4 = Downsample(dim * 4)
        self.latent = level(dim * 8, num_blocks[3], heads[3])
        self.up4_3 = Upsample(dim * 8)
        self.reduce_chan_level3 = PointwiseConv2d(dim * 8, dim * 4, bias=bias)
        self.decoder_level3 = level(dim * 4, num_blocks[2], heads[2])
        self.up3_2 = Upsample(dim * 4)
        self.reduce_chan_level2 = PointwiseConv2d(dim * 4, dim * 2, bias=bias)
        self.decoder_level2 = level(dim * 2, num_blocks[1], heads[1])
        self.up2_1 = Upsample(dim * 2)
        self.decoder_level1 = level(dim * 2, num_blocks[0], heads[0])
        self.refinement = level(dim * 2, num_refinement_blocks, heads[0])
        self.skip_conv = PointwiseConv2d(dim, dim * 2, bias=bias) if dual_pixel_task else None
        self.output = nn.Conv2d(dim * 2, out_channels, 3, padding=1, bias=bias)
        weights_channels_last(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), any size, to the same; not clamped."""
        h, w = x.shape[-2:]
        x = pad_to_multiple(x, MULTIPLE).contiguous(memory_format=torch.channels_last)
        embedded = self.patch_embed(x)
        e1 = self.encoder_level1(embedded)
        e2 = self.encoder_level2(self.down1_2(e1))
        e3 = self.encoder_level3(self.down2_3(e2))
        z = self.latent(self.down3_4(e3))
        z = self.decoder_level3(self.reduce_chan_level3(torch.cat([self.up4_3(z), e3], dim=1)))
        z = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(z), e2], dim=1)))
        z = self.refinement(self.decoder_level1(torch.cat([self.up2_1(z), e1], dim=1)))
        # without a residual to the image, nothing but the cast gives its precision back under autocast
        out = self.output(z) + x if self.skip_conv is None else self.output(z + self.skip_conv(embedded)).to(x.dtype)
        return out[..., :h, :w].contiguous()


def check_restormer(name: str, inp_channels: int, out_channels: int, dim: int, num_blocks: Sequence[int],
                    heads: Sequence[int], dual_pixel_task: bool) -> None:
    """Raises `ValueError` for arguments from which no network of this shape can be built."""
    if len(num_blocks) != 4 or len(heads) != 4:
        raise ValueError(f'{name}: num_blocks and heads need four numbers (three levels and the latent one), '
                         f'not {list(num_blocks)} and {list(heads)}')
    if min(num_blocks) < 0 or min(heads) < 1:
        raise ValueError(f'{name}: num_blocks must not be negative and heads must be at least 1')
    if dim < 2 or dim % 2:
        raise ValueError(f'{name}: dim must be even (the way down halves it), not {dim}')
    for i, count in enumerate(heads):
        if dim * 2**i % count:
            raise ValueError(f'{name}: {count} heads do not divide the {dim * 2**i} channels of level {i + 1}')
    if inp_channels != out_channels and not dual_pixel_task:
        raise ValueError(f'{name}: out_channels must equal inp_channels ({inp_channels}), because the result is a '
                         f'residual to the input, not {out_channels}; dual_pixel_task has no residual')

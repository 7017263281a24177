"""DarkIR (Feijoo et al. 2025, arXiv 2412.13443): light, noise and blur of photographs taken in the dark, in one U-Net.

The way down corrects light in the Fourier domain, the way up blur by dilated convolutions. Parameter names, order and shapes
are those of the published checkpoints.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from basicsr.archs.description import Description, Shapes
from basicsr.archs.layers.dilated import DilatedDepthwiseConv2d
from basicsr.archs.layers.full_precision import exact, widened
from basicsr.archs.layers.naf_unet import NAFUNet, check_levels, gate
from basicsr.archs.layers.norm import ChannelLayerNorm
from basicsr.archs.layers.transient import Transient
from basicsr.archs.layers.whole_image import ImageMean
from basicsr.archs.recognition import count
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.utils.values import Count, Natural

_DARK = 1e-12  # magnitudes below have no phase; they are taken as real


class SpectralMLP(nn.Module):
    """Two 1x1 convolutions on the magnitudes of the spectrum; the phases stay."""

    one: Tensor

    def __init__(self, c: int):
        super().__init__()
        self.process1 = nn.Sequential(nn.Conv2d(c, 2 * c, 1), nn.LeakyReLU(0.1), nn.Conv2d(2 * c, c, 1))
        self.register_buffer('one', torch.tensor([1., 0.]), persistent=False)  # as real and imaginary part

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same, in float32 at least: there are no transforms in bfloat16."""
        with exact(x):
            x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
            spectrum = torch.fft.rfft2(x)
            magnitude = spectrum.abs()
            # not by the angle, whose gradient grows without bound in the dark; in real numbers, as ONNX chooses among no others
            wide = magnitude.unsqueeze(-1)
            phase = torch.where(wide > _DARK, torch.view_as_real(spectrum) / wide.clamp(min=_DARK), self.one)
            phase = torch.view_as_complex(phase)
            return torch.fft.irfft2(widened(self.process1, magnitude) * phase, s=x.shape[-2:])


class Branch(nn.Module):
    """A depthwise 3x3 convolution, dilated."""

    def __init__(self, c: int, dilation: int):
        super().__init__()
        self.branch = nn.Sequential(DilatedDepthwiseConv2d(c, dilation))

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x)


class _Block(nn.Module):
    """What both kinds of block begin with: attention by depthwise convolutions and a mean of the whole image."""

    branches: nn.ModuleList
    sca: nn.Sequential
    conv3: nn.Conv2d

    def attend(self, t: Tensor) -> Tensor:
        first, *others = self.branches
        z = first(t)
        for branch in others:
            z += branch(t)
        del t  # the widest tensor there is, where nothing keeps it for the backward
        z = gate(z)
        return self.conv3(self.sca(z) * z)


class EBlock(_Block):
    """Of the way down: the feed-forward is a `SpectralMLP` whose result multiplies."""

    def __init__(self, c: int, extra_depth_wise: bool):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.extra_conv = nn.Conv2d(c, c, 3, padding=1, groups=c) if extra_depth_wise else nn.Identity()
        self.conv1 = nn.Conv2d(c, 2 * c, 1)
        self.branches = nn.ModuleList([Branch(2 * c, 1)])
        self.sca = nn.Sequential(ImageMean(), nn.Conv2d(c, c, 1))
        self.conv3 = nn.Conv2d(c, c, 1)
        self.norm1 = ChannelLayerNorm(c, eps=1e-6)
        self.norm2 = ChannelLayerNorm(c, eps=1e-6)
        self.freq = SpectralMLP(c)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.beta * self.attend(self.conv1(self.extra_conv(self.norm1(x))))
        return x + self.gamma * (x * self.freq(self.norm2(x)).to(x.dtype))


class DBlock(_Block):
    """Of the way up: a branch for each dilation, and NAFNet's gated feed-forward."""

    def __init__(self, c: int, dilations: Sequence[int], extra_depth_wise: bool):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.conv1 = nn.Conv2d(c, 2 * c, 1)
        self.extra_conv = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=c) if extra_depth_wise else nn.Identity()
        self.branches = nn.ModuleList(Branch(2 * c, dilation) for dilation in dilations)
        self.sca = nn.Sequential(ImageMean(), nn.Conv2d(c, c, 1))
        self.conv3 = nn.Conv2d(c, c, 1)
        self.conv4 = nn.Conv2d(c, 2 * c, 1)
        self.conv5 = nn.Conv2d(c, c, 1)
        self.norm1 = ChannelLayerNorm(c, eps=1e-6)
        self.norm2 = ChannelLayerNorm(c, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.beta * self.attend(self.extra_conv(self.conv1(self.norm1(x))))
        return x + self.gamma * self.conv5(gate(self.conv4(self.norm2(x))))


class Level(nn.Module):
    """Blocks one after the other."""

    def __init__(self, blocks: Sequence[nn.Module]):
        super().__init__()
        self.modules_list = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.modules_list:
            x = block(x)
        return x


def _recognise(shapes: Shapes) -> dict[str, Any] | None:
    if not {'intro.weight', 'ending.weight', 'side_out.weight'} <= shapes.keys():
        return None
    width, channels = shapes['intro.weight'][:2]
    levels = range(count(shapes, r'downs\.(\d+)\.'))
    found = {
        'img_channel': channels,
        'width': width,
        'middle_blk_num_enc': count(shapes, r'middle_blks_enc\.modules_list\.(\d+)\.'),
        'middle_blk_num_dec': count(shapes, r'middle_blks_dec\.modules_list\.(\d+)\.'),
        'enc_blk_nums': [count(shapes, rf'encoders\.{i}\.modules_list\.(\d+)\.') for i in levels],
        'dec_blk_nums': [count(shapes, rf'decoders\.{i}\.modules_list\.(\d+)\.') for i in levels],
        'extra_depth_wise': any('.extra_conv.' in key for key in shapes),
    }
    branches = count(shapes, r'(?:decoders\.\d+|middle_blks_dec)\.modules_list\.\d+\.branches\.(\d+)\.')
    # what they are no shape shows; published are three
    return found | ({} if branches == 3 else {'dilations': [1] * max(branches, 1)})


@ARCH_REGISTRY.register()
class DarkIR(Transient, NAFUNet):
    """Photographs taken in the dark by hand: dark, noisy and blurred at once.

    Args:
        img_channel: channels of input and output. width: of the first level; each deeper one has twice as many channels.
        middle_blk_num_enc, middle_blk_num_dec: blocks of both kinds at the deepest level.
        enc_blk_nums, dec_blk_nums: blocks of each level on the way down and up again.
        dilations: of the branches on the way up.
        extra_depth_wise: one more convolution in each block.

    In training a pass leaves the image that the deepest level sees in `side_output`, (B, C, H / 8, W / 8) of the padded
    sides, for `SideOutputLoss`.

    Source: arXiv 2412.13443. The defaults are DarkIR-m, 3,321,638 parameters; DarkIR-l has a width of 64.
    """

    transient = ('side_output', )
    description = Description(multiple=8, padding='zeros', channels='img_channel', recognise=_recognise,
                              untold=('dilations', ), guesses=('dilations', ),
                              tiling='it looks at the spectrum of the whole image', shares=True)

    def __init__(self, img_channel: Count = 3, width: Count = 32, middle_blk_num_enc: Natural = 2,
                 middle_blk_num_dec: Natural = 2, enc_blk_nums: Sequence[Natural] = (1, 2, 3),
                 dec_blk_nums: Sequence[Natural] = (3, 1, 1), dilations: Annotated[Sequence[Count],
                                                                                   MinLen(1)] = (1, 4, 9),
                 extra_depth_wise: bool = True):
        check_levels('DarkIR', enc_blk_nums, dec_blk_nums)
        depth = len(enc_blk_nums)

        def down(number: int, level: int) -> Level:
            return Level([EBlock(width * 2**level, extra_depth_wise) for _ in range(number)])

        def up(number: int, level: int) -> Level:
            return Level([DBlock(width * 2**level, dilations, extra_depth_wise) for _ in range(number)])

        super().__init__(img_channel, width, [down(n, i) for i, n in enumerate(enc_blk_nums)],
                         [up(n, depth - 1 - i) for i, n in enumerate(dec_blk_nums)])
        self.middle_blks_enc, self.middle_blks_dec = down(middle_blk_num_enc, depth), up(middle_blk_num_dec, depth)
        self.side_out = nn.Conv2d(width * 2**depth, img_channel, 3, padding=1)
        self.description = replace(self.description, multiple=2**depth)
        self.side_output: Tensor | None = None

    def forward(self, x: Tensor, side_loss: bool = False,
                use_adapter: bool | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """(B, C, H, W) in [0, 1], any size, to the same; not clipped.

        With `side_loss` also, before it, the side output. `use_adapter` is not read, as published.
        """
        side = []

        def middle(y: Tensor) -> Tensor:
            light = self.middle_blks_enc(y)
            if side_loss or self.training:
                side.append(self.side_out(light))
            return self.middle_blks_dec(light) + light

        out = self.restore(x, middle)
        self.side_output = side[0] if self.training else None
        return (side[0], out) if side_loss else out

"""CIDNet (Yan et al. 2025, arXiv 2502.20272): colour and intensity of dark photographs by two U-Nets that look at each other.

Parameter names, order and shapes are those of the published checkpoints.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from basicsr.archs.cidnet.hvi import HVI
from basicsr.archs.description import Description, Knob, Shapes
from basicsr.archs.layers.cross_attention import CrossAttention
from basicsr.archs.layers.interpolation import CornerToCorner
from basicsr.archs.layers.norm import ChannelLayerNorm
from basicsr.archs.layers.pointwise import PointwiseConv2d
from basicsr.archs.layers.recompute import recompute
from basicsr.archs.layers.resample import weights_channels_last
from basicsr.utils.img import pad_to_multiple
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.utils.values import Counts4, Positive

_MULTIPLE = 8  # of the sides of images, which are halved three times
# as in the authors' code, where the first two are switched on by `gated` and `gated2`; ranges of their page for photos
_KNOBS = {
    'alpha_s': Knob('trans.saturation', 0, 2, "factor of the result's saturation"),
    'alpha_i': Knob('trans.gain', .1, 2, "factor of the result's values"),
    'gamma': Knob('gamma', .1, 5, 'exponent of the input, below 1 lighter'),
}


def _conv(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, padding=1, bias=False)


def _depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)


def _edge_block(channels: int, out: int) -> nn.Sequential:
    """3x3 with the border repeated."""
    return nn.Sequential(nn.ReplicationPad2d(1), nn.Conv2d(channels, out, 3, bias=False))


class Down(nn.Module):
    """3x3, half the size by bilinear interpolation corner to corner, PReLU, and a norm where wanted."""

    def __init__(self, channels: int, out: int, norm: bool):
        super().__init__()
        self.norm = ChannelLayerNorm(out, eps=1e-6) if norm else nn.Identity()
        self.prelu = nn.PReLU()
        self.down = nn.Sequential(_conv(channels, out), CornerToCorner(scale_factor=0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.prelu(self.down(x)))


class Up(nn.Module):
    """3x3, twice the size, joined with the skip by 1x1, PReLU, and a norm where wanted."""

    def __init__(self, channels: int, out: int, norm: bool):
        super().__init__()
        self.norm = ChannelLayerNorm(out, eps=1e-6) if norm else nn.Identity()
        self.prelu = nn.PReLU()
        self.up_scale = nn.Sequential(_conv(channels, out), CornerToCorner(scale_factor=2))
        self.up = PointwiseConv2d(2 * out, out, bias=False)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.norm(self.prelu(self.up(torch.cat([self.up_scale(x), skip], 1))))


class Enhancement(nn.Module):
    """Gated feed-forward: two halves, to each of which tanh of a depthwise convolution of it is added, are multiplied."""

    def __init__(self, dim: int):
        super().__init__()
        hidden = int(dim * 2.66)
        self.project_in = PointwiseConv2d(dim, 2 * hidden, bias=False)
        self.dwconv, self.dwconv1, self.dwconv2 = _depthwise(2 * hidden), _depthwise(hidden), _depthwise(hidden)
        self.project_out = PointwiseConv2d(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.dwconv(self.project_in(x)).chunk(2, 1)
        a, b = recompute(_tanh_and_self, self.dwconv1(a), a), recompute(_tanh_and_self, self.dwconv2(b), b)
        return self.project_out(a * b)


def _tanh_and_self(y: Tensor, x: Tensor) -> Tensor:
    return y.tanh() + x


class ColourBlock(nn.Module):
    """Lighten cross-attention of the colour branch: its feed-forward has no residual."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.gdfn = Enhancement(dim)
        self.norm = ChannelLayerNorm(dim, eps=1e-6)  # one for all three uses
        self.ffn = CrossAttention(dim, heads)  # named so as published

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = x + self.ffn(self.norm(x), self.norm(y))
        return self.gdfn(self.norm(x))


class IntensityBlock(nn.Module):
    """The same of the intensity branch, with a residual."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.norm = ChannelLayerNorm(dim, eps=1e-6)
        self.gdfn = Enhancement(dim)
        self.ffn = CrossAttention(dim, heads)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = x + self.ffn(self.norm(x), self.norm(y))
        return x + self.gdfn(self.norm(x))


def _recognise(shapes: Shapes) -> dict[str, Any] | None:
    if not {'trans.density_k', 'HVE_block0.1.weight', 'HV_LCA1.ffn.temperature'} <= shapes.keys():
        return None
    return {
        'channels': [shapes['HVE_block0.1.weight'][0], *(shapes[f'HVE_block{i}.down.0.weight'][0] for i in (1, 2, 3))],
        'heads': [1, *(shapes[f'HV_LCA{i}.ffn.temperature'][0] for i in (1, 2, 3))],
        'norm': 'HVE_block1.norm.weight' in shapes,
    }


@ARCH_REGISTRY.register()
class CIDNet(nn.Module):
    """Low-light enhancement in the colour space HVI.

    Args:
        channels: widths of the four levels. heads: of attention at the levels; the first number is of no use.
        norm: normalise after each change of size.
        gamma: exponent of the input, below 1 lighter. saturation: factor of the result's, 1.3 in the published figures
            of LOL-v1. gain: factor of the result, 0.8 to 0.84 in those of LOL-v2 real.

    `I_LCA5` is of no use; it is there because published weights have it, and gets no gradients.

    Source: arXiv 2502.20272. The defaults are the published network: 1,975,569 parameters.
    """

    description = Description(multiple=_MULTIPLE, channels=3, tiling='', shares=True, knobs=_KNOBS,
                              recognise=_recognise, untold=('gamma', 'saturation', 'gain'))

    def __init__(self, channels: Counts4 = (36, 36, 72, 144), heads: Counts4 = (1, 2, 4, 8), norm: bool = False,
                 gamma: Positive = 1.0, saturation: Positive = 1.0, gain: Positive = 1.0):
        super().__init__()
        for width, count in zip(channels[1:], heads[1:]):
            if width % count:
                raise ValueError(f'CIDNet: {count} heads do not divide {width} channels')
        self.gamma = gamma
        self._branch('HV', channels, norm, 3, 2)
        self._branch('I', channels, norm, 1, 1)
        for kind, block in (('HV', ColourBlock), ('I', IntensityBlock)):
            for i, level in enumerate((1, 2, 3, 3, 2, 1), start=1):
                self.add_module(f'{kind}_LCA{i}', block(channels[level], heads[level]))
        self.trans = HVI(saturation, gain)
        weights_channels_last(self)

    def _branch(self, kind: str, channels: Sequence[int], norm: bool, given: int, out: int) -> None:
        """The convolutions of a branch: `given` channels to the widths and back to `out`."""
        self.add_module(f'{kind}E_block0', _edge_block(given, channels[0]))
        for i in (1, 2, 3):
            self.add_module(f'{kind}E_block{i}', Down(channels[i - 1], channels[i], norm))
        for i in (3, 2, 1):
            self.add_module(f'{kind}D_block{i}', Up(channels[i], channels[i - 1], norm))
        self.add_module(f'{kind}D_block0', _edge_block(channels[0], out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1], any size, to the same."""
        h, w = x.shape[-2:]
        x = pad_to_multiple(x, _MULTIPLE)
        x = x if self.gamma == 1 else x**self.gamma
        return self.trans.inverse(self.restored(self.trans(x)))[..., :h, :w].to(x.dtype).contiguous()

    def restored(self, hvi: Tensor) -> Tensor:
        """The picture in HVI, sides multiples of 8, restored: what `gain` and `saturation` are then applied to."""
        at: dict[str, Any] = self._modules
        colour = hvi.to(at['HVE_block0'][1].weight.dtype, memory_format=torch.channels_last)
        i0, c0 = at['IE_block0'](colour[:, 2:]), at['HVE_block0'](colour)
        i1, c1 = at['IE_block1'](i0), at['HVE_block1'](c0)
        a1, b1 = at['I_LCA1'](i1, c1), at['HV_LCA1'](c1, i1)
        i2, c2 = at['IE_block2'](a1), at['HVE_block2'](b1)
        a2, b2 = at['I_LCA2'](i2, c2), at['HV_LCA2'](c2, i2)
        i3, c3 = at['IE_block3'](i2), at['HVE_block3'](c2)  # from before the attention, as published
        a3, b3 = at['I_LCA3'](i3, c3), at['HV_LCA3'](c3, i3)
        a4, b4 = at['I_LCA4'](a3, b3), at['HV_LCA4'](b3, a3)
        i2, c2 = at['ID_block3'](a4, a2), at['HVD_block3'](b4, b2)
        c2 = at['HV_LCA5'](c2, i2)
        i1, c1 = at['ID_block2'](i2, a1), at['HVD_block2'](c2, b1)
        a1, b1 = at['I_LCA6'](i1, c1), at['HV_LCA6'](c1, i1)
        intensity = at['ID_block0'](at['ID_block1'](a1, i0))
        return torch.cat([at['HVD_block0'](at['HVD_block1'](b1, c0)), intensity], 1) + hvi

"""Helpers that BasicSR arch files import from here; same names and behaviour."""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from basicsr.archs.layers.norm import ChannelLayerNorm
from basicsr.utils.absent import not_here

trunc_normal_ = nn.init.trunc_normal_


def to_ntuple(n: int):
    """A function that repeats a scalar n times and leaves sequences as they are."""
    return lambda x: x if isinstance(x, Iterable) and not isinstance(x, str) else tuple(repeat(x, n))


to_1tuple, to_2tuple, to_3tuple, to_4tuple = (to_ntuple(n) for n in range(1, 5))


@torch.no_grad()
def default_init_weights(module_list: nn.Module | list[nn.Module], scale: float = 1, bias_fill: float = 0,
                         **kwargs: Any):
    """Kaiming-normal weights times `scale`, biases `bias_fill`, norms 1; for convolutions, linears and batch norms."""
    for module in module_list if isinstance(module_list, list) else [module_list]:
        for m in module.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(m.weight, **kwargs)
                m.weight.mul_(scale)
            elif isinstance(m, _BatchNorm):
                nn.init.constant_(m.weight, 1)
            else:
                continue
            if m.bias is not None:
                m.bias.fill_(bias_fill)


def make_layer(basic_block: type[nn.Module], num_basic_block: int, **kwarg: Any) -> nn.Sequential:
    """`num_basic_block` blocks in sequence, each built with the same arguments."""
    return nn.Sequential(*(basic_block(**kwarg) for _ in range(num_basic_block)))


class ResidualBlockNoBN(nn.Module):
    """conv - ReLU - conv, scaled and added to the input.

    Args:
        num_feat: channels. res_scale: factor of the branch. pytorch_init: keep PyTorch's initial weights.
    """

    def __init__(self, num_feat: int = 64, res_scale: float = 1, pytorch_init: bool = False):
        super().__init__()
        self.res_scale = res_scale
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.relu = nn.ReLU(inplace=True)
        if not pytorch_init:
            default_init_weights([self.conv1, self.conv2], 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.relu(self.conv1(x))) * self.res_scale


class Upsample(nn.Sequential):
    """Convolutions and pixel shuffles that enlarge (B, C, H, W) by `scale`: a power of two, or 3."""

    def __init__(self, scale: int, num_feat: int):
        if scale == 3:
            factors = [3]
        elif scale > 0 and scale & (scale - 1) == 0:
            factors = [2] * int(math.log2(scale))
        else:
            raise ValueError(f'scale {scale} is not supported; use 3 or a power of 2')
        layers = []
        for f in factors:
            layers += [nn.Conv2d(num_feat, f * f * num_feat, 3, 1, 1), nn.PixelShuffle(f)]
        super().__init__(*layers)


def pixel_unshuffle(x: Tensor, scale: int) -> Tensor:
    """(B, C, H, W) to (B, C * scale^2, H / scale, W / scale)."""
    return F.pixel_unshuffle(x, scale)


class LayerNorm2d(ChannelLayerNorm):
    """NAFNet's layer norm over the channels of (B, C, H, W)."""

    def __init__(self, channels: int, eps: float = 1e-6):
        super().__init__(channels, eps=eps)


def resize_flow(flow: Tensor, size_type: str, sizes: Sequence[float], interp_mode: str = 'bilinear',
                align_corners: bool = False) -> Tensor:
    """Resize a flow (n, 2, h, w), dx and dy in pixels, and its arrows with it.

    size_type: 'ratio', `sizes` being factors of height and width, or 'shape', `sizes` being the new height and width.
    """
    h, w = flow.shape[-2:]
    if size_type not in ('ratio', 'shape'):
        raise ValueError(f"size_type '{size_type}' is not supported; 'ratio' or 'shape'")
    height, width = (int(h * sizes[0]), int(w * sizes[1])) if size_type == 'ratio' else map(int, sizes)
    resized = F.interpolate(flow, (height, width), mode=interp_mode, align_corners=align_corners)
    return resized * flow.new_tensor([width / w, height / h]).view(1, 2, 1, 1)


def flow_warp(x: Tensor, flow: Tensor, interp_mode: str = 'bilinear', padding_mode: str = 'zeros',
              align_corners: bool = True) -> Tensor:
    """Sample x (n, c, h, w) at each pixel's position plus flow (n, h, w, 2), given as (dx, dy) in pixels."""
    h, w = x.shape[-2:]
    if x.shape[-2:] != flow.shape[1:3]:
        raise ValueError(f'flow_warp: x is {h}x{w}, flow {flow.shape[1]}x{flow.shape[2]}')
    grid_y, grid_x = torch.meshgrid(torch.arange(h, device=x.device), torch.arange(w, device=x.device), indexing='ij')
    target = torch.stack((grid_x, grid_y), dim=2).to(x.dtype) + flow
    size = torch.tensor([max(w - 1, 1), max(h - 1, 1)], dtype=x.dtype, device=x.device)
    return F.grid_sample(x, 2 * target / size - 1, interp_mode, padding_mode, align_corners)


def __getattr__(name: str) -> Any:
    if name == 'DCNv2Pack':
        raise ImportError(not_here('basicsr.archs.arch_util.DCNv2Pack'))
    raise AttributeError(f"module 'basicsr.archs.arch_util' has no attribute '{name}'")

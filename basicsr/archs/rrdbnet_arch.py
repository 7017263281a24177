"""RRDBNet (ESRGAN, Wang et al. 2018), the generator of ESRGAN and Real-ESRGAN: residual dense blocks without normalisation."""
from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.arch_util import default_init_weights, make_layer, pixel_unshuffle
from basicsr.archs.description import Description, Shapes
from basicsr.archs.recognition import count
from basicsr.utils.img import pad_to_multiple
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.utils.values import Count, Natural

_BRANCH = 0.2  # factor of every residual branch


class ResidualDenseBlock(nn.Module):
    """Five convolutions, each of which sees the input and the results of all before it.

    Args:
        num_feat: channels of input and output. num_grow_ch: channels that each convolution but the last adds.
    """

    def __init__(self, num_feat: int = 64, num_grow_ch: int = 32):
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_grow_ch, 3, 1, 1)
        self.conv2 = nn.Conv2d(num_feat + num_grow_ch, num_grow_ch, 3, 1, 1)
        self.conv3 = nn.Conv2d(num_feat + 2 * num_grow_ch, num_grow_ch, 3, 1, 1)
        self.conv4 = nn.Conv2d(num_feat + 3 * num_grow_ch, num_grow_ch, 3, 1, 1)
        self.conv5 = nn.Conv2d(num_feat + 4 * num_grow_ch, num_feat, 3, 1, 1)
        self.lrelu = nn.LeakyReLU(negative_slope=0.2, inplace=True)
        default_init_weights([self.conv1, self.conv2, self.conv3, self.conv4, self.conv5], 0.1)

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            found.append(self.lrelu(conv(torch.cat(found, 1))))
        return x + self.conv5(torch.cat(found, 1)) * _BRANCH


class RRDB(nn.Module):
    """Three `ResidualDenseBlock` in sequence, with a residual around them."""

    def __init__(self, num_feat: int, num_grow_ch: int = 32):
        super().__init__()
        self.rdb1 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.rdb2 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.rdb3 = ResidualDenseBlock(num_feat, num_grow_ch)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.rdb3(self.rdb2(self.rdb1(x))) * _BRANCH


def _recognise(shapes: Shapes) -> dict[str, Any] | None:
    if not {'conv_first.weight', 'conv_body.weight', 'conv_up2.weight', 'conv_last.weight'} <= shapes.keys():
        return None
    width, given = shapes['conv_first.weight'][:2]
    out = shapes['conv_last.weight'][0]
    # the channels of a pixel block; a network whose input and output differ otherwise is taken for one of scale 4
    side = math.isqrt(given // out)
    side = side if given == out * side * side and side in (1, 2, 4) else 1
    return {
        'num_in_ch': given // (side * side),
        'num_out_ch': out,
        'scale': 4 // side,
        'num_feat': width,
        'num_block': count(shapes, r'body\.(\d+)\.rdb1\.'),
        'num_grow_ch': shapes.get('body.0.rdb1.conv1.weight', (32, ))[0],
    }


@ARCH_REGISTRY.register()
class RRDBNet(nn.Module):
    """Residual dense blocks in the input's resolution and two steps of nearest-neighbour enlargement.

    For scales 2 and 1 the input is folded first, so that the blocks work at half or a quarter of its resolution.

    Args:
        num_in_ch, num_out_ch: channels of input and output.
        scale: 1, 2 or 4.
        num_feat: width. num_block: `RRDB` blocks. num_grow_ch: channels that each convolution in a block adds.

    Source: arXiv 1809.00219. The defaults are those of ESRGAN: 16,697,987 parameters.
    """

    description = Description(multiple=1, channels='num_in_ch', tiling='', recognise=_recognise)

    def __init__(self, num_in_ch: Count = 3, num_out_ch: Count = 3, scale: Literal[1, 2, 4] = 4, num_feat: Count = 64,
                 num_block: Natural = 23, num_grow_ch: Count = 32):
        super().__init__()
        if scale not in (1, 2, 4):
            raise ValueError(f'RRDBNet: scale must be 1, 2 or 4, not {scale}')
        self.scale, self.fold = scale, 4 // scale
        self.description = replace(self.description, multiple=self.fold)
        self.conv_first = nn.Conv2d(num_in_ch * self.fold**2, num_feat, 3, 1, 1)
        self.body = make_layer(RRDB, num_block, num_feat=num_feat, num_grow_ch=num_grow_ch)
        self.conv_body = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv_up1 = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv_up2 = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv_hr = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, 1, 1)
        self.lrelu = nn.LeakyReLU(negative_slope=0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, scale * H, scale * W)."""
        h, w = x.shape[-2:]
        x = pad_to_multiple(x, self.fold)
        features = self.conv_first(pixel_unshuffle(x, self.fold) if self.fold > 1 else x)
        features = features + self.conv_body(self.body(features))
        for conv in (self.conv_up1, self.conv_up2):
            features = self.lrelu(conv(F.interpolate(features, scale_factor=2, mode='nearest')))
        out = self.conv_last(self.lrelu(self.conv_hr(features)))
        return out[..., :h * self.scale, :w * self.scale]

"""SRResNet as BasicSR trains it (Ledig et al. 2017, without batch normalisation): super-resolution by residual blocks."""
from __future__ import annotations

import math
import re
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.arch_util import ResidualBlockNoBN, default_init_weights, make_layer
from basicsr.archs.description import Description, Shapes
from basicsr.archs.recognition import count
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.utils.values import Count, Natural


def _recognise(shapes: Shapes) -> dict[str, Any] | None:
    if not {'conv_first.weight', 'body.0.conv1.weight', 'conv_hr.weight', 'conv_last.weight'} <= shapes.keys():
        return None
    width, in_channels = shapes['conv_first.weight'][:2]
    steps = [math.isqrt(v[0] // width) for k, v in shapes.items() if re.fullmatch(r'upconv\d\.weight', k)]
    return {
        'num_in_ch': in_channels,
        'num_out_ch': shapes['conv_last.weight'][0],
        'num_feat': width,
        'num_block': count(shapes, r'body\.(\d+)\.'),
        'upscale': math.prod(steps),
    }


@ARCH_REGISTRY.register()
class MSRResNet(nn.Module):
    """Residual blocks at the input's resolution, pixel shuffles, and a bilinear copy of the input added at the end.

    Args:
        num_in_ch, num_out_ch: channels of input and output.
        num_feat: width. num_block: residual blocks. upscale: 1, 2, 3 or 4.
    """

    description = Description(multiple=1, channels='num_in_ch', tiling='', recognise=_recognise)

    def __init__(self, num_in_ch: Count = 3, num_out_ch: Count = 3, num_feat: Count = 64, num_block: Natural = 16,
                 upscale: Literal[1, 2, 3, 4] = 4):
        super().__init__()
        if upscale not in (1, 2, 3, 4):
            raise ValueError(f'MSRResNet: upscale must be 1, 2, 3 or 4, not {upscale}')
        self.upscale = upscale
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1)
        self.body = make_layer(ResidualBlockNoBN, num_block, num_feat=num_feat)
        steps = {1: [], 2: [2], 3: [3], 4: [2, 2]}[upscale]
        for i, step in enumerate(steps, start=1):
            self.add_module(f'upconv{i}', nn.Conv2d(num_feat, num_feat * step * step, 3, 1, 1))
        self.pixel_shuffle = nn.PixelShuffle(steps[0] if steps else 1)
        self.conv_hr = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, 1, 1)
        self.lrelu = nn.LeakyReLU(negative_slope=0.1, inplace=True)
        self.upconvs = [f'upconv{i}' for i in range(1, len(steps) + 1)]
        default_init_weights([self.conv_first, self.conv_hr, self.conv_last], 0.1)
        default_init_weights([getattr(self, name) for name in self.upconvs], 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, upscale * H, upscale * W)."""
        y = self.body(self.lrelu(self.conv_first(x)))
        for name in self.upconvs:
            y = self.lrelu(self.pixel_shuffle(getattr(self, name)(y)))
        base = F.interpolate(x, scale_factor=self.upscale, mode='bilinear', align_corners=False)
        return self.conv_last(self.lrelu(self.conv_hr(y))) + base

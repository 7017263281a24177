"""MST++ (Cai et al. 2022, arXiv 2204.07908), as the Retinexformer repository uses it for low-light images."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from basicsr.archs.description import Description, Shapes
from basicsr.archs.layers.guided_attention import GuidedBlocks
from basicsr.archs.layers.resample import weights_channels_last
from basicsr.archs.layers.two_level_unet import TwoLevelUNet
from basicsr.archs.recognition import count
from basicsr.utils.img import pad_to_multiple
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.utils.values import Count


def _recognise(shapes: Shapes) -> dict[str, Any] | None:
    if not {'conv_in.weight', 'conv_out.weight', 'body.0.bottleneck.blocks.0.0.to_q.weight'} <= shapes.keys():
        return None
    return {
        'in_channels': shapes['conv_in.weight'][1],
        'out_channels': shapes['conv_out.weight'][0],
        'n_feat': shapes['conv_in.weight'][0],
        'stage': count(shapes, r'body\.(\d+)\.'),
    }


@ARCH_REGISTRY.register()
class MST_Plus_Plus(nn.Module):
    """U-Nets of attention between channels in sequence, on features; no residual to the image.

    Args:
        in_channels, out_channels: of the images.
        n_feat: width of the first level.
        stage: number of U-Nets; the official option files use 3: 1,511,220 parameters.
        checkpoint: compute each block again in the backward pass; much less memory for 10-25 % more time.

    Source: arXiv 2204.07908.
    """

    description = Description(multiple=8, channels='in_channels', tiling='', shares=True, recognise=_recognise)

    def __init__(self, in_channels: Count = 3, out_channels: Count = 3, n_feat: Count = 30, stage: Count = 1,
                 checkpoint: bool = False):
        super().__init__()
        sizes = {'n_feat': n_feat, 'stage': stage, 'in_channels': in_channels, 'out_channels': out_channels}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f'MST_Plus_Plus: {name} must be at least 1, not {value}')

        def body(width: int, depth: int) -> GuidedBlocks:
            return GuidedBlocks(width, width // n_feat, depth, checkpoint)

        self.conv_in = nn.Conv2d(in_channels, n_feat, 3, padding=1, bias=False)
        self.body = nn.Sequential(*(TwoLevelUNet(n_feat, n_feat, n_feat, (1, 1, 1), body, guided=False)
                                    for _ in range(stage)))
        self.conv_out = nn.Conv2d(n_feat, out_channels, 3, padding=1, bias=False)
        weights_channels_last(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W), any size, to (B, out_channels, H, W); not clamped."""
        (h, w), dtype = x.shape[-2:], x.dtype  # under autocast no residual to the image brings the precision back
        x = self.conv_in(pad_to_multiple(x, self.description.multiple).contiguous(memory_format=torch.channels_last))
        out = self.conv_out(self.body(x) + x)[..., :h, :w]
        return out.to(dtype).contiguous()

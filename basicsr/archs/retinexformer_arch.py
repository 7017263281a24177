"""Retinexformer (Cai et al. 2023, arXiv 2303.06705): one-stage Retinex network with illumination-guided attention.

Parameter names, order and shapes are those of the published checkpoints (`{'params': ...}`, 122 tensors with the
official options).
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from basicsr.archs.description import Description, Shapes
from basicsr.archs.layers.guided_attention import GuidedBlocks
from basicsr.archs.layers.illumination import IlluminationEstimator
from basicsr.archs.layers.resample import weights_channels_last
from basicsr.archs.layers.two_level_unet import TwoLevelUNet
from basicsr.archs.recognition import block_counts, count
from basicsr.utils.img import pad_to_multiple
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.utils.values import Count, Naturals3


class Stage(nn.Module):
    """Estimate the illumination, light the image up (eq. 2), remove what that brings to light."""

    def __init__(self, n_feat: int, num_blocks: Sequence[int], checkpoint: bool):
        super().__init__()

        def body(width: int, depth: int) -> GuidedBlocks:
            return GuidedBlocks(width, width // n_feat, depth, checkpoint)

        self.estimator = IlluminationEstimator(n_feat)
        self.denoiser = TwoLevelUNet(3, 3, n_feat, num_blocks, body, guided=True)

    def forward(self, img: Tensor) -> Tensor:
        illumination, light_map = self.estimator(img)
        return self.denoiser(torch.addcmul(img, img, light_map), illumination)


def _recognise(shapes: Shapes) -> dict[str, Any] | None:
    unet = 'body.0.denoiser.'
    if not {f'{unet}bottleneck.blocks.0.0.to_q.weight', 'body.0.estimator.conv1.weight'} <= shapes.keys():
        return None
    return {
        'n_feat': shapes[f'{unet}embedding.weight'][0],
        'stage': count(shapes, r'body\.(\d+)\.'),
        'num_blocks': block_counts(shapes, unet),
    }


@ARCH_REGISTRY.register()
class RetinexFormer(nn.Module):
    """Low-light enhancement by Retinex theory and illumination-guided attention between channels.

    Args:
        in_channels, out_channels: 3, the estimator is made for RGB.
        n_feat: width of the first level, a multiple of 4.
        stage: number of stages in sequence.
        num_blocks: blocks of the two encoder/decoder levels and of the bottleneck.
        checkpoint: compute each block again in the backward pass; much less memory for 10-25 % more time.

    Source: arXiv 2303.06705. The defaults are the official options: 1,605,701 parameters.
    """

    description = Description(multiple=4, channels='in_channels', tiling='', shares=True, recognise=_recognise)

    def __init__(self, in_channels: Literal[3] = 3, out_channels: Literal[3] = 3, n_feat: Count = 40, stage: Count = 1,
                 num_blocks: Naturals3 = (1, 2, 2), checkpoint: bool = False):
        super().__init__()
        if n_feat < 4 or n_feat % 4:
            raise ValueError(f'RetinexFormer: n_feat must be a multiple of 4 (four convolution groups), not {n_feat}')
        if (in_channels, out_channels) != (3, 3):
            raise ValueError('RetinexFormer: in_channels and out_channels must be 3')
        if len(num_blocks) != 3 or min(num_blocks) < 0:
            raise ValueError(
                f'RetinexFormer: num_blocks needs three numbers (two levels, bottleneck), not {list(num_blocks)}')
        if stage < 1:
            raise ValueError(f'RetinexFormer: stage must be at least 1, not {stage}')
        self.body = nn.Sequential(*(Stage(n_feat, num_blocks, checkpoint) for _ in range(stage)))
        weights_channels_last(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1], any size, to the same; not clamped."""
        h, w = x.shape[-2:]
        x = pad_to_multiple(x, self.description.multiple).contiguous(memory_format=torch.channels_last)
        return self.body(x)[..., :h, :w].contiguous()

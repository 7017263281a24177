"""Restormer (Zamir et al. 2022, arXiv 2111.09881): transposed attention and gated feed-forward in a U-Net.

Parameter names, order and shapes are those of the published checkpoints.
"""
from __future__ import annotations

from typing import Literal

from basicsr.archs.description import Description
from basicsr.archs.layers.feedforward import GatedFeedForward
from basicsr.archs.layers.norm import is_centred
from basicsr.archs.layers.restormer_unet import MULTIPLE, RestormerUNet, TransformerBlock
from basicsr.archs.layers.transposed_attention import TransposedAttention
from basicsr.archs.restormer import recognition
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.utils.values import Count, Counts4, Natural, Naturals4, Positive


@ARCH_REGISTRY.register()
class Restormer(RestormerUNet):
    """Image restoration with attention between channels, at a cost linear in the number of pixels.

    Args:
        inp_channels, out_channels: equal, because the result is a residual to the input; 6 and 3 with dual pixels.
        dim: width of the first level, even; deeper levels have 2, 4 and 8 times as many channels.
        num_blocks, heads: of the three levels and of the latent one. num_refinement_blocks: after the decoder.
        ffn_expansion_factor: hidden width of the feed-forward is int(channels * factor), twice.
        bias: of the convolutions, but for patch embedding and changes of scale.
        LayerNorm_type: 'BiasFree' (denoising) divides by the deviation without subtracting the mean.
        dual_pixel_task: defocus deblurring from two views, without a residual to the input.
        checkpoint: compute each block again in the backward pass; much less memory for 10-25 % more time.

    Source: arXiv 2111.09881. The defaults are the official options: 26,126,644 parameters.
    """

    description = Description(multiple=MULTIPLE, channels='inp_channels', tiling='', shares=True,
                              recognise=recognition.plain, claims=recognition.CLAIMS, agrees=recognition.claim_agrees)

    def __init__(self, inp_channels: Count = 3, out_channels: Count = 3, dim: Count = 48,
                 num_blocks: Naturals4 = (4, 6, 6, 8), num_refinement_blocks: Natural = 4,
                 heads: Counts4 = (1, 2, 4, 8), ffn_expansion_factor: Positive = 2.66, bias: bool = False,
                 LayerNorm_type: Literal['WithBias', 'BiasFree'] = 'WithBias', dual_pixel_task: bool = False,
                 checkpoint: bool = False):
        centred = is_centred('Restormer', LayerNorm_type)

        def block(width: int, head_count: int) -> TransformerBlock:
            return TransformerBlock(TransposedAttention(width, head_count, bias),
                                    GatedFeedForward(width, ffn_expansion_factor, bias), width, centred)

        super().__init__(inp_channels, out_channels, dim, num_blocks, num_refinement_blocks, heads, bias,
                         dual_pixel_task, block, checkpoint)

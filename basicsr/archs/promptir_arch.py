"""PromptIR (Potlapalli et al. 2023, arXiv 2306.13090): a Restormer whose decoder is told by learned prompts what to restore.

Parameter names, order and shapes are those of the published checkpoints.
"""
from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from basicsr.archs.description import Description, Shapes
from basicsr.archs.layers.feedforward import GatedFeedForward
from basicsr.archs.layers.interpolation import spread
from basicsr.archs.layers.norm import is_centred
from basicsr.archs.layers.pointwise import PointwiseConv2d
from basicsr.archs.layers.recompute import Blocks
from basicsr.archs.layers.resample import weights_channels_last
from basicsr.archs.layers.restormer_unet import (
    MULTIPLE,
    Downsample,
    PatchEmbed,
    TransformerBlock,
    Upsample,
    check_restormer,
)
from basicsr.archs.layers.transposed_attention import TransposedAttention
from basicsr.archs.layers.whole_image import image_mean
from basicsr.archs.recognition import expansion, levels
from basicsr.utils.img import pad_to_multiple
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.utils.values import Count, Counts4, Natural, Naturals4, Positive

WIDTH = 48  # of the first level, to which the prompts are made
_PROMPTS = 5
_LEVELS = ('encoder_level1', 'encoder_level2', 'encoder_level3', 'latent')


class Prompt(nn.Module):
    """A mixture of learned maps, weighed by the mean of the features, and stretched over the image.

    Args:
        width: channels of the maps. size: their height and width. features: channels that decide.
    """

    def __init__(self, width: int, size: int, features: int):
        super().__init__()
        self.prompt_param = nn.Parameter(torch.rand(1, _PROMPTS, width, size, size))
        self.linear_layer = nn.Linear(features, _PROMPTS)
        self.conv3x3 = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, features, H, W) to (B, width, H, W)."""
        weights = self.linear_layer(image_mean(x).flatten(1)).softmax(1)
        mixed = torch.einsum('bj,jchw->bchw', weights, self.prompt_param[0].to(weights.dtype))
        return self.conv3x3(spread(mixed, x))


def _recognise(shapes: Shapes) -> dict[str, Any] | None:
    if 'prompt1.prompt_param' not in shapes or 'noise_level1.attn.temperature' not in shapes:
        return None
    blocks = [k.removesuffix('attn.temperature') for k in shapes if k.endswith('.attn.temperature')]
    widths = {b: shapes[f'{b}norm1.body.weight'][0] for b in blocks}
    heads = {b: shapes[f'{b}attn.temperature'][0] for b in blocks}
    return {
        'inp_channels': shapes['patch_embed.proj.weight'][1],
        'out_channels': shapes['output.weight'][0],
        'dim': shapes['patch_embed.proj.weight'][0],
        **levels(shapes, _LEVELS, heads | {'encoder_level3.0.': heads['noise_level3.']}),  # the same, and always there
        'ffn_expansion_factor': expansion({(widths[b], shapes[f'{b}ffn.dwconv.weight'][0] // 2) for b in blocks}),
        'bias': 'output.bias' in shapes,
        'LayerNorm_type': 'WithBias' if 'noise_level1.norm1.body.bias' in shapes else 'BiasFree',
    }


@ARCH_REGISTRY.register()
class PromptIR(nn.Module):
    """Denoising, deraining and dehazing with one set of weights.

    Args:
        inp_channels, out_channels: equal, because the result is a residual to the input.
        dim: 48, to which the widths of the prompts are made.
        num_blocks, heads: of the three levels and of the latent one. The heads of the third are also those of the blocks
            that mix prompts in. num_refinement_blocks: after the decoder.
        ffn_expansion_factor, bias, LayerNorm_type, checkpoint: as in `Restormer`.
        decoder: true; without its prompts the published network cannot be run.

    Six convolutions are of no use; they are there because published weights have them, and get no gradients.

    Source: arXiv 2306.13090. The defaults are the official options: 35,592,263 parameters.
    """

    description = Description(multiple=MULTIPLE, channels='inp_channels', tiling='', shares=True, recognise=_recognise)

    def __init__(self, inp_channels: Count = 3, out_channels: Count = 3, dim: Literal[48] = 48,
                 num_blocks: Naturals4 = (4, 6, 6, 8), num_refinement_blocks: Natural = 4,
                 heads: Counts4 = (1, 2, 4, 8), ffn_expansion_factor: Positive = 2.66, bias: bool = False,
                 LayerNorm_type: Literal['WithBias', 'BiasFree'] = 'WithBias', decoder: Literal[True] = True,
                 checkpoint: bool = False):
        super().__init__()
        check_restormer('PromptIR', inp_channels, out_channels, dim, num_blocks, heads, False)
        centred = is_centred('PromptIR', LayerNorm_type)
        if dim != WIDTH or not decoder:
            raise ValueError(f'PromptIR: dim must be {WIDTH} and decoder true, not {dim} and {decoder}')
        if any(width % heads[2] for width in (704, 320, 160)):
            raise ValueError(
                f'PromptIR: {heads[2]} heads of the third level do not divide the 160 channels of a prompt block')

        def block(width: int, head_count: int) -> TransformerBlock:
            return TransformerBlock(TransposedAttention(width, head_count, bias),
                                    GatedFeedForward(width, ffn_expansion_factor, bias), width, centred)

        def level(width: int, count: int, head_count: int) -> Blocks:
            return Blocks(*(block(width, head_count) for _ in range(count)), checkpoint=checkpoint)

        def unused(channels: int, out: int) -> nn.Conv2d:
            return nn.Conv2d(channels, out, 1, bias=bias)

        self.patch_embed = PatchEmbed(inp_channels, dim)
        self.prompt1 = Prompt(64, 64, 96)
        self.prompt2 = Prompt(128, 32, 192)
        self.prompt3 = Prompt(320, 16, 384)
        self.chnl_reduce1, self.chnl_reduce2, self.chnl_reduce3 = unused(64, 64), unused(128, 128), unused(320, 256)
        self.reduce_noise_channel_1 = unused(dim + 64, dim)
        self.encoder_level1 = level(dim, num_blocks[0], heads[0])
        self.down1_2 = Downsample(dim)
        self.reduce_noise_channel_2 = unused(dim * 2 + 128, dim * 2)
        self.encoder_level2 = level(dim * 2, num_blocks[1], heads[1])
        self.down2_3 = Downsample(dim * 2)
        self.reduce_noise_channel_3 = unused(dim * 4 + 256, dim * 4)
        self.encoder_level3 = level(dim * 4, num_blocks[2], heads[2])
        self.down3_4 = Downsample(dim * 4)
        self.latent = level(dim * 8, num_blocks[3], heads[3])
        self.up4_3 = Upsample(dim * 4)  # the prompt block before it has halved the channels
        self.reduce_chan_level3 = PointwiseConv2d(dim * 2 + dim * 4, dim * 4, bias=bias)
        self.noise_level3 = block(dim * 8 + 320, heads[2])
        self.reduce_noise_level3 = PointwiseConv2d(dim * 8 + 320, dim * 4, bias=bias)
        self.decoder_level3 = level(dim * 4, num_blocks[2], heads[2])
        self.up3_2 = Upsample(dim * 4)
        self.reduce_chan_level2 = PointwiseConv2d(dim * 4, dim * 2, bias=bias)
        self.noise_level2 = block(dim * 4 + 128, heads[2])
        self.reduce_noise_level2 = PointwiseConv2d(dim * 4 + 128, dim * 4, bias=bias)
        self.decoder_level2 = level(dim * 2, num_blocks[1], heads[1])
        self.up2_1 = Upsample(dim * 2)
        self.noise_level1 = block(dim * 2 + 64, heads[2])
        self.reduce_noise_level1 = PointwiseConv2d(dim * 2 + 64, dim * 2, bias=bias)
        self.decoder_level1 = level(dim * 2, num_blocks[0], heads[0])
        self.refinement = level(dim * 2, num_refinement_blocks, heads[0])
        self.output = nn.Conv2d(dim * 2, out_channels, 3, padding=1, bias=bias)
        weights_channels_last(self)

    def forward(self, x: Tensor, noise_emb: Tensor | None = None) -> Tensor:
        """(B, C, H, W), any size, to the same; not clamped. `noise_emb` is not read, as published."""
        h, w = x.shape[-2:]
        x = pad_to_multiple(x, MULTIPLE).contiguous(memory_format=torch.channels_last)
        e1 = self.encoder_level1(self.patch_embed(x))
        e2 = self.encoder_level2(self.down1_2(e1))
        e3 = self.encoder_level3(self.down2_3(e2))
        z = self.latent(self.down3_4(e3))
        z = self.reduce_noise_level3(self.noise_level3(torch.cat([z, self.prompt3(z)], dim=1)))
        z = self.decoder_level3(self.reduce_chan_level3(torch.cat([self.up4_3(z), e3], dim=1)))
        z = self.reduce_noise_level2(self.noise_level2(torch.cat([z, self.prompt2(z)], dim=1)))
        z = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(z), e2], dim=1)))
        z = self.reduce_noise_level1(self.noise_level1(torch.cat([z, self.prompt1(z)], dim=1)))
        z = self.refinement(self.decoder_level1(torch.cat([self.up2_1(z), e1], dim=1)))
        return (self.output(z) + x)[..., :h, :w].contiguous()

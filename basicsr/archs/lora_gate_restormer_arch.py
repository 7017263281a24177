"""All-in-one restoration with gated, low-rank Restormers: `ImprovedLoRaGateRestormer` and its baseline.

Parameter names, order and shapes are those of the published networks after their 1x1 convolutions have been replaced.
Nothing of it is described in a paper; figures that its README claims (18.3 M parameters) are not reproducible.
"""
from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from basicsr.archs.description import Description
from basicsr.archs.layers.feedforward import GatedFeedForward
from basicsr.archs.layers.gelu import GELU
from basicsr.archs.layers.norm import BodyLayerNorm, is_centred
from basicsr.archs.layers.pointwise import PointwiseConv2d
from basicsr.archs.layers.recompute import Blocks
from basicsr.archs.layers.resample import weights_channels_last
from basicsr.archs.layers.restormer_unet import (
    MULTIPLE,
    Downsample,
    PatchEmbed,
    RestormerUNet,
    TransformerBlock,
    Upsample,
    check_restormer,
)
from basicsr.archs.layers.transposed_attention import TransposedAttention
from basicsr.archs.lora_gate_restormer.dfrg import RoutedAttention
from basicsr.archs.lora_gate_restormer.low_rank import BetterLoRaConv, SpatialAwareLoRaConv, low_rank
from basicsr.archs.restormer import recognition
from basicsr.utils.img import pad_to_multiple
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.utils.values import Count, Counts4, Natural, Naturals4, Positive


class CSFF(nn.Module):
    """Cross-scale feature fusion of encoder and decoder features, with attention per pixel and channel."""

    def __init__(self, encoder_dim: int, decoder_dim: int):
        super().__init__()
        self.conv_merge = PointwiseConv2d(encoder_dim + decoder_dim, decoder_dim, bias=False)
        self.conv_refine = nn.Sequential(
            nn.Conv2d(decoder_dim, decoder_dim, 3, padding=1, bias=False),
            GELU(),
            nn.Conv2d(decoder_dim, decoder_dim, 3, padding=1, bias=False),
        )
        self.attention = nn.Sequential(
            PointwiseConv2d(decoder_dim, decoder_dim // 4),
            nn.ReLU(),
            PointwiseConv2d(decoder_dim // 4, decoder_dim),
            nn.Sigmoid(),
        )

    def forward(self, encoder: Tensor, decoder: Tensor) -> Tensor:
        merged = self.conv_merge(torch.cat([encoder, decoder], dim=1))
        refined = self.conv_refine(merged)
        return refined * self.attention(refined) + merged


class EnhancedBlock(nn.Module):
    """x + gamma1 attention(norm(x)), then x + gamma2 ffn(norm(x))."""

    def __init__(self, attention: nn.Module, ffn: nn.Module, dim: int, centred: bool):
        super().__init__()
        self.gamma1 = nn.Parameter(torch.ones(1))
        self.gamma2 = nn.Parameter(torch.ones(1))
        self.norm1 = BodyLayerNorm(dim, bias=centred)
        self.attn = attention
        self.norm2 = BodyLayerNorm(dim, bias=centred)
        self.ffn = ffn

    def forward(self, x: Tensor) -> Tensor:
        x = torch.addcmul(x, self.gamma1, self.attn(self.norm1(x)))
        return torch.addcmul(x, self.gamma2, self.ffn(self.norm2(x)))


@ARCH_REGISTRY.register()
class ImprovedLoRaGateRestormer(nn.Module):
    """Restormer with gated attention, DFRG in front of it, CSFF at the skips and low-rank 1x1 convolutions.

    Args:
        inp_channels ... dual_pixel_task: as in `Restormer`; `dim` a multiple of 4.
        gate_type: None, 'headwise' or 'elementwise'; the string 'None' of the published command line is None.
        use_dfrg: routing gate in front of q, k, v.
        lora_ffn_ratio: rank of the feed-forward's convolutions and of the attention's `project_out`, relative to full
            rank, at least 4; None or 1 keeps plain convolutions.
        lora_attn_ratio: the same for `qkv` and the convolutions of DFRG.
        checkpoint: compute each block again in the backward pass; much less memory for 10-25 % more time.

    The defaults are the published recipe: 25,856,276 parameters.
    """

    fusion = CSFF  # at the skips
    description = Description(multiple=MULTIPLE, channels='inp_channels', tiling='', shares=True,
                              recognise=recognition.improved, agrees=recognition.claim_agrees,
                              claims={**recognition.CLAIMS, 'use_dfrg': 'use_dfrg'})

    def __init__(self, inp_channels: Count = 3, out_channels: Count = 3, dim: Count = 48,
                 num_blocks: Naturals4 = (4, 6, 6, 8), num_refinement_blocks: Natural = 4,
                 heads: Counts4 = (1, 2, 4, 8), ffn_expansion_factor: Positive = 2.66, bias: bool = False,
                 LayerNorm_type: Literal['WithBias', 'BiasFree'] = 'WithBias', dual_pixel_task: bool = False,
                 gate_type: Literal['headwise', 'elementwise', 'None', 'none', ''] | None = 'elementwise',
                 use_dfrg: bool = True, lora_ffn_ratio: Positive | None = 0.5, lora_attn_ratio: Positive | None = 0.8,
                 checkpoint: bool = False):
        super().__init__()
        name = type(self).__name__
        check_restormer(name, inp_channels, out_channels, dim, num_blocks, heads, dual_pixel_task)
        if dim % 4:
            raise ValueError(f'{name}: dim must be a multiple of 4 (DFRG and CSFF divide it by 4), not {dim}')
        gate, centred = _options(name, gate_type, LayerNorm_type, lora_ffn_ratio, lora_attn_ratio)
        wide = low_rank(SpatialAwareLoRaConv, lora_attn_ratio, least=4)
        narrow = low_rank(SpatialAwareLoRaConv, lora_ffn_ratio, least=4)

        def level(width: int, count: int, head_count: int) -> Blocks:
            return Blocks(
                *(EnhancedBlock(RoutedAttention(width, head_count, bias, gate, wide, narrow, use_dfrg),
                                GatedFeedForward(width, ffn_expansion_factor, bias, narrow), width, centred)
                  for _ in range(count)), checkpoint=checkpoint)

        self.patch_embed = PatchEmbed(inp_channels, dim)
        self.encoder_level1 = level(dim, num_blocks[0], heads[0])
        self.down1_2 = Downsample(dim)
        self.encoder_level2 = level(dim * 2, num_blocks[1], heads[1])
        self.down2_3 = Downsample(dim * 2)
        self.encoder_level3 = level(dim * 4, num_blocks[2], heads[2])
        self.down3_4 = Downsample(dim * 4)
        self.latent = level(dim * 8, num_blocks[3], heads[3])
        self.up4_3 = Upsample(dim * 8)
        self.csff3 = self.fusion(dim * 4, dim * 4)
        self.reduce_chan_level3 = PointwiseConv2d(dim * 4, dim * 4, bias=bias)
        self.decoder_level3 = level(dim * 4, num_blocks[2], heads[2])
        self.up3_2 = Upsample(dim * 4)
        self.csff2 = self.fusion(dim * 2, dim * 2)
        self.reduce_chan_level2 = PointwiseConv2d(dim * 2, dim * 2, bias=bias)
        self.decoder_level2 = level(dim * 2, num_blocks[1], heads[1])
        self.up2_1 = Upsample(dim * 2)
        self.csff1 = self.fusion(dim, dim)
        self.reduce_chan_level1 = PointwiseConv2d(dim, dim, bias=bias)
        self.decoder_level1 = level(dim, num_blocks[0], heads[0])
        self.refinement = level(dim, num_refinement_blocks, heads[0])
        self.skip_conv = PointwiseConv2d(dim, dim, bias=bias) if dual_pixel_task else None
        self.output = nn.Conv2d(dim, out_channels, 3, padding=1, bias=bias)
        weights_channels_last(self)

    def forward(self, x: Tensor, task_id: Tensor | None = None) -> Tensor:
        """(B, C, H, W), any size, to the same; not clamped. `task_id` is accepted and ignored, as published."""
        h, w = x.shape[-2:]
        x = pad_to_multiple(x, self.description.multiple).contiguous(memory_format=torch.channels_last)
        embedded = self.patch_embed(x)
        e1 = self.encoder_level1(embedded)
        e2 = self.encoder_level2(self.down1_2(e1))
        e3 = self.encoder_level3(self.down2_3(e2))
        z = self.latent(self.down3_4(e3))
        z = self.decoder_level3(self.reduce_chan_level3(self.csff3(e3, self.up4_3(z))))
        z = self.decoder_level2(self.reduce_chan_level2(self.csff2(e2, self.up3_2(z))))
        z = self.decoder_level1(self.reduce_chan_level1(self.csff1(e1, self.up2_1(z))))
        z = self.refinement(z)
        out = self.output(z) + x if self.skip_conv is None else self.output(z + self.skip_conv(embedded))
        return out[..., :h, :w].contiguous()


@ARCH_REGISTRY.register()
class LoRa_Gate_Restormer(RestormerUNet):
    """The baseline: Restormer with gated attention and low-rank 1x1 convolutions.

    Args:
        inp_channels ... dual_pixel_task: as in `Restormer`.
        gate_type: None, 'headwise' or 'elementwise'; the string 'None' of the published command line is None.
        lora_ffn_ratio: rank of the feed-forward's convolutions and of the attention's `project_out`, relative to full
            rank, at least 2; None or 1 keeps plain convolutions.
        lora_attn_ratio: the same for `qkv`.
        checkpoint: compute each block again in the backward pass; much less memory for 10-25 % more time.

    The defaults are the published training defaults: 22,723,552 parameters.
    """

    description = Description(multiple=MULTIPLE, channels='inp_channels', tiling='', shares=True,
                              recognise=recognition.gated, claims=recognition.CLAIMS, agrees=recognition.claim_agrees)

    def __init__(self, inp_channels: Count = 3, out_channels: Count = 3, dim: Count = 48,
                 num_blocks: Naturals4 = (4, 6, 6, 8), num_refinement_blocks: Natural = 4,
                 heads: Counts4 = (1, 2, 4, 8), ffn_expansion_factor: Positive = 2.66, bias: bool = False,
                 LayerNorm_type: Literal['WithBias', 'BiasFree'] = 'WithBias', dual_pixel_task: bool = False,
                 gate_type: Literal['headwise', 'elementwise', 'None', 'none', ''] | None = 'elementwise',
                 lora_ffn_ratio: Positive | None = 0.5, lora_attn_ratio: Positive | None = 0.8,
                 checkpoint: bool = False):
        name = type(self).__name__
        gate, centred = _options(name, gate_type, LayerNorm_type, lora_ffn_ratio, lora_attn_ratio)
        wide = low_rank(BetterLoRaConv, lora_attn_ratio, least=2)
        narrow = low_rank(BetterLoRaConv, lora_ffn_ratio, least=2)

        def block(width: int, head_count: int) -> TransformerBlock:
            return TransformerBlock(TransposedAttention(width, head_count, bias, gate, wide, narrow),
                                    GatedFeedForward(width, ffn_expansion_factor, bias, narrow), width, centred)

        super().__init__(inp_channels, out_channels, dim, num_blocks, num_refinement_blocks, heads, bias,
                         dual_pixel_task, block, checkpoint)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, C, H, W), any size, to the same; not clamped. `labels` are accepted and ignored, as published."""
        return super().forward(x)


def _options(name: str, gate_type: str | None, norm: str, *ratios: float | None) -> tuple[str | None, bool]:
    """(gate, whether norms are centred), checked."""
    gate = None if gate_type in ('None', 'none', '') else gate_type
    if gate not in (None, 'headwise', 'elementwise'):
        raise ValueError(f"{name}: gate_type must be None, 'headwise' or 'elementwise', not '{gate_type}'")
    centred = is_centred(name, norm)
    for ratio in ratios:
        if ratio is not None and ratio <= 0:
            raise ValueError(f'{name}: lora_ffn_ratio and lora_attn_ratio must be above 0 (None: plain), not {ratio}')
    return gate, centred

"""MambaIR (Guo et al. 2024, arXiv 2402.15648): super-resolution, denoising and JPEG repair by selective scans of the image.

Parameter names, order and shapes are those of the published checkpoints.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn

from basicsr.archs.description import Description, Shapes
from basicsr.archs.layers.norm import ChannelLayerNorm
from basicsr.archs.layers.resample import weights_channels_last
from basicsr.archs.mambair.blocks import ResidualGroup, VSSBlock
from basicsr.archs.mambair.published_eval import in_published_tiles
from basicsr.archs.recognition import count
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.utils.values import BelowOne, Count, Natural, Positive

_MEAN = (0.4488, 0.4371, 0.4040)  # of RGB images, subtracted from those of three channels


class PatchEmbed(nn.Module):
    """The norm in front of the blocks, or none."""

    def __init__(self, dim: int, norm: bool):
        super().__init__()
        self.norm = ChannelLayerNorm(dim) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.norm is None else self.norm(x)


def _conv(channels: int, out: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(channels, out, size, padding=size // 2)


def _shuffles(scale: int, width: int) -> list[nn.Module]:
    """Convolutions and pixel shuffles that enlarge by `scale`, 3 or a power of 2."""
    steps = [3] if scale == 3 else [2] * int(math.log2(scale))
    return [layer for step in steps for layer in (_conv(width, width * step**2), nn.PixelShuffle(step))]


def _recognise(shapes: Shapes) -> dict[str, Any] | None:
    if not {'conv_first.weight', 'layers.0.residual_group.blocks.0.self_attention.A_logs'} <= shapes.keys():
        return None
    block = 'layers.0.residual_group.blocks.0.'
    dim, channels = shapes['conv_first.weight'][:2]
    inner = shapes[f'{block}self_attention.in_proj.weight'][0] // 2
    ratio = round(inner / dim, 6)
    found = {
        'in_chans': channels,
        'embed_dim': dim,
        'depths': [
            count(shapes, rf'layers\.{g}\.residual_group\.blocks\.(\d+)\.')
            for g in range(count(shapes, r'layers\.(\d+)\.'))
        ],
        'd_state': shapes[f'{block}self_attention.A_logs'][1],
        'mlp_ratio': ratio if int(ratio * dim) == inner else (inner + 0.5) / dim,
        'patch_norm': 'patch_embed.norm.weight' in shapes,
        'resi_connection': '3conv' if 'conv_after_body.0.weight' in shapes else '1conv',
    }
    if 'conv_before_upsample.0.weight' in shapes:
        factors = [math.isqrt(v[0] // v[1]) for k, v in shapes.items() if k.startswith('upsample.') and len(v) == 4]
        return found | {'upsampler': 'pixelshuffle', 'upscale': math.prod(factors)}
    if 'upsample.0.weight' in shapes:
        return found | {
            'upsampler': 'pixelshuffledirect', 'upscale': math.isqrt(shapes['upsample.0.weight'][0] // channels)
        }
    return found


@ARCH_REGISTRY.register()
class MambaIR(nn.Module):
    """Groups of `VSSBlock` at the input's resolution.

    Args:
        in_chans: channels of input and output. embed_dim: width, of which a thirtieth decides in channel attention.
        depths: blocks of each group.
        d_state: states of the scan. mlp_ratio: its width divided by `embed_dim`.
        drop_path_rate: of the last block, from 0 for the first one on, in training.
        patch_norm: normalise in front of the first group.
        upscale, upsampler: 'pixelshuffle' or, light, 'pixelshuffledirect' enlarge; '' keeps the size, and the result is
            a residual to the input.
        img_range: factor of the images inside.
        resi_connection: one convolution after each group, or three narrow ones.
        published_eval: evaluate as published, images of 200 pixels and more in tiles.
        img_size, patch_size: of no effect; published options have them.
        use_checkpoint: compute each block again in the backward pass; much less memory.

    Source: arXiv 2402.15648. The defaults are colour denoising: 15,777,507 parameters.
    """

    description = Description(multiple=1, channels='in_chans', recognise=_recognise, untold=('img_range', ),
                              tiling='its scans run through the whole image', shares=True)

    def __init__(self, in_chans: Count = 3, embed_dim: Annotated[Count, Ge(30)] = 180,
                 depths: Annotated[Sequence[Natural], MinLen(1)] = (6, ) * 6, d_state: Count = 16,
                 mlp_ratio: Positive = 1.2, drop_path_rate: BelowOne = 0.1, patch_norm: bool = True,
                 use_checkpoint: bool = False, upscale: Literal[1, 2, 3, 4] = 1, img_range: Positive = 1.,
                 upsampler: Literal['', 'pixelshuffle',
                                    'pixelshuffledirect'] = '', resi_connection: Literal['1conv', '3conv'] = '1conv',
                 published_eval: bool = False, img_size: Count = 64, patch_size: Count = 1):
        super().__init__()
        if upsampler not in ('', 'pixelshuffle', 'pixelshuffledirect') or resi_connection not in ('1conv', '3conv'):
            raise ValueError(f"MambaIR: there is no upsampler '{upsampler}' or no resi_connection '{resi_connection}'")
        if not upsampler and upscale != 1:
            raise ValueError(f'MambaIR: upscale {upscale} needs an upsampler, pixelshuffle or pixelshuffledirect')
        self.in_chans, self.img_range, self.upsampler, self.upscale = in_chans, img_range, upsampler, upscale
        self.published_eval = published_eval

        def conv() -> nn.Module:
            if resi_connection == '1conv':
                return _conv(embed_dim, embed_dim)
            few = embed_dim // 4
            return nn.Sequential(_conv(embed_dim, few), nn.LeakyReLU(0.2, inplace=True), _conv(few, few, 1),
                                 nn.LeakyReLU(0.2, inplace=True), _conv(few, embed_dim))

        light = upsampler == 'pixelshuffledirect'
        rates = torch.linspace(0, drop_path_rate, sum(depths), device='cpu').tolist()
        self.conv_first = _conv(in_chans, embed_dim)
        self.patch_embed = PatchEmbed(embed_dim, patch_norm)
        self.layers = nn.ModuleList()
        for depth in depths:
            blocks = [VSSBlock(embed_dim, d_state, mlp_ratio, rates.pop(0), light) for _ in range(depth)]
            self.layers.append(ResidualGroup(blocks, conv, use_checkpoint))
        self.norm = ChannelLayerNorm(embed_dim)
        self.conv_after_body = conv()
        if upsampler == 'pixelshuffle':
            self.conv_before_upsample = nn.Sequential(_conv(embed_dim, 64), nn.LeakyReLU(inplace=True))
            self.upsample = nn.Sequential(*_shuffles(upscale, 64))
        elif light:
            self.upsample = nn.Sequential(_conv(embed_dim, upscale**2 * in_chans), nn.PixelShuffle(upscale))
        if not light:
            self.conv_last = _conv(64 if upsampler else embed_dim, in_chans)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
        weights_channels_last(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, C, upscale H, upscale W); not clipped."""
        if self.published_eval and not self.training:
            return in_published_tiles(x, self.upscale, self._restored)
        return self._restored(x)

    def _restored(self, x: Tensor) -> Tensor:
        # zeros, too, give the result the type of the images, also under autocast
        mean = x.new_tensor(_MEAN if self.in_chans == 3 else (0., )).view(1, -1, 1, 1)
        x = ((x - mean) * self.img_range).contiguous(memory_format=torch.channels_last)
        first = self.conv_first(x)
        y = self.patch_embed(first)
        for group in self.layers:
            y = group(y)
        y = self.conv_after_body(self.norm(y)) + first
        if self.upsampler == 'pixelshuffle':
            y = self.conv_last(self.upsample(self.conv_before_upsample(y)))
        elif self.upsampler:
            y = self.upsample(y)
        else:
            y = x + self.conv_last(y)
        return (y / self.img_range + mean).contiguous()

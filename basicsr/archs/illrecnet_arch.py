"""IllRecNet: separate illumination and reflectance in the logarithmic domain, let all pixels attend to each other.

Parameter names, order and shapes are those of the published code (168 tensors with its training options). There is no
paper, and there are no published weights.
"""
from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from basicsr.archs.description import Description, Shapes
from basicsr.archs.illrecnet.pixel_attention import PixelAttention
from basicsr.archs.illrecnet.separation import Separation
from basicsr.archs.layers.gelu import GELU
from basicsr.archs.layers.pointwise import PointwiseConv2d
from basicsr.archs.layers.recompute import checkpointed
from basicsr.archs.layers.resample import Doubling, weights_channels_last
from basicsr.archs.layers.whole_image import pixels_of_image
from basicsr.archs.recognition import count
from basicsr.utils.img import pad_to_multiple
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.utils.values import BelowOne, Count, Positive

_NAMES = ('kernel_size', 'sigma', 'embed_dim', 'num_heads', 'mlp_ratio', 'num_resolution', 'dropout_ratio')
PRESETS: dict[str, dict[str, Any]] = {
    'train_scripts': dict(zip(_NAMES, (9, 3, 16, 8, 4, 4, 0.))),
    'small': dict(zip(_NAMES, (15, 5, 16, 2, 1, 2, 0.2))),
    'base': dict(zip(_NAMES, (15, 5, 32, 4, 2, 3, 0.2))),
    'large': dict(zip(_NAMES, (15, 5, 64, 8, 4, 4, 0.2))),
}


class Attention(nn.Module):
    """x + attention; queries are normalised, a context is not. Without context pixels attend to each other."""

    def __init__(self, dim: int, num_heads: int, dropout: float):
        super().__init__()
        self.layer_norm = nn.LayerNorm(dim)
        self.attn = PixelAttention(dim, num_heads, dropout)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        """(B, H, W, C) to the same."""
        normalised = self.layer_norm(x)
        others = pixels_of_image(normalised if context is None else context)
        return x + self.attn(normalised.flatten(1, 2), *others).unflatten(1, x.shape[1:3])


class MLP(nn.Module):
    """x + linear(dropout(GELU(linear(norm(x))))), both without bias."""

    def __init__(self, dim: int, ratio: int, dropout: float):
        super().__init__()
        self.layer_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, ratio * dim, bias=False),
            GELU(),
            nn.Dropout(dropout),
            nn.Linear(ratio * dim, dim, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.layer_norm(x))


class Block(nn.Module):
    """Transformer block on images (B, C, H, W) whose tokens are pixels; with a second image, cross-attention to it."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: int, dropout: float, checkpoint: bool):
        super().__init__()
        self.checkpoint, self.dropout = checkpoint, dropout
        self.attn = Attention(dim, num_heads, dropout)
        self.mlp = MLP(dim, mlp_ratio, dropout)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        draws = self.training and self.dropout > 0
        return checkpointed(self.checkpoint, self.run, x, context, draws=draws)

    def run(self, x: Tensor, context: Tensor | None) -> Tensor:
        pixels, others = (None if t is None else t.permute(0, 2, 3, 1) for t in (x, context))
        return self.mlp(self.attn(pixels, others)).permute(0, 3, 1, 2)


class Encoder(nn.Module):
    """From an image to a context of the same shape, in which illumination attends to reflectance."""

    def __init__(self, separate: Separation, channels: int, dim: int, **block: Any):
        super().__init__()
        self.separate = separate
        self.in_conv = nn.Conv2d(channels, dim, 3, padding=1)
        self.il_sttn = Block(dim, **block)
        self.re_sttn = Block(dim, **block)
        self.cttn = Block(dim, **block)
        self.out_conv = nn.Conv2d(dim, channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        illumination, reflectance = (self.in_conv(t.contiguous(memory_format=torch.channels_last))
                                     for t in self.separate(image))
        return self.out_conv(self.cttn(self.il_sttn(illumination), self.re_sttn(reflectance)))


class Decoder(nn.Module):
    """U-Net whose features attend to those of the context, which go down along with them."""

    def __init__(self, channels: int, dim: int, num_resolution: int, **block: Any):
        super().__init__()
        widths = [dim * 2**i for i in range(num_resolution + 1)]
        self.in_conv = nn.Conv2d(channels, dim, 3, padding=1)
        self.down: Any = nn.ModuleList(
            nn.ModuleList([Block(d, **block), *(_named(nn.Conv2d(d, 2 * d, 2, stride=2)) for _ in range(2))])
            for d in widths[:-1])
        self.mid = nn.ModuleList(Block(widths[-1], **block) for _ in range(num_resolution // 2))
        self.up: Any = nn.ModuleList(
            nn.ModuleList([
                nn.ModuleDict({'conv': Doubling(2 * d, d)}),
                PointwiseConv2d(2 * d, d, bias=False),
                Block(d, **block),
            ]) for d in reversed(widths[:-1]))
        self.out_conv = nn.Conv2d(dim, channels, 3, padding=1)

    def forward(self, image: Tensor, context: Tensor) -> Tensor:
        x, c = self.in_conv(image), self.in_conv(context)
        skips = []
        for block, down, context_down in self.down:
            x = block(x, c)
            skips.append((x, c))
            x, c = down(x), context_down(c)
        for block in self.mid:
            x = block(x, c)
        for up, fuse, block in self.up:
            skip, c = skips.pop()
            x = block(fuse(up['conv'](x, skip)), c)
        return self.out_conv(x) + image * context


def _recognise(shapes: Shapes) -> dict[str, Any] | None:
    """Also under the prefix `model.` of the authors' checkpoints.

    Shapes tell neither the number of heads, taken from the preset of this size and else 8, nor the Gaussian's width,
    which comes with the weights.
    """
    shapes = {k.removeprefix('model.'): v for k, v in shapes.items()}
    if not {'encoder.separate.conv_y.weight', 'encoder.il_sttn.mlp.mlp.0.weight'} <= shapes.keys():
        return None
    kernel = shapes['encoder.separate.conv_y.weight'][2]
    hidden, dim = shapes['encoder.il_sttn.mlp.mlp.0.weight']
    sizes = {'embed_dim': dim, 'mlp_ratio': hidden // dim, 'num_resolution': count(shapes, r'decoder\.down\.(\d+)\.')}
    heads = next((p['num_heads'] for p in PRESETS.values() if sizes.items() <= p.items()), 8)
    return {'kernel_size': kernel, 'sigma': 5 if kernel == 15 else 3, 'num_heads': heads, **sizes}


@ARCH_REGISTRY.register()
class IllRecNet(nn.Module):
    """Low-light enhancement: a context made of illumination and reflectance multiplies the image and guides a U-Net.

    Args:
        channels: 3.
        preset: values of the arguments that are not given. 'train_scripts' is what the published training builds:
            2,681,384 parameters; 'small', 'base' and 'large' have 81,524, 1,463,108 and 42,766,436.
        kernel_size, sigma: the separating Gaussian in pixels, an odd size.
        embed_dim: width of the first level, a multiple of `num_heads`; each level down doubles it.
        num_heads: of all attention. mlp_ratio: hidden width of the blocks' MLP over its width.
        num_resolution: levels of the U-Net, at least 1.
        dropout_ratio: of attention weights and hidden features, in training.
        separation_trainable: let the Gaussian learn.
        clamp_reflectance: limit reflectance to 1, as published; without, bright detail is kept.
        checkpoint: compute each block again in the backward pass, which takes as much time as another forward.

    Each pixel attends to all pixels, so time grows with the square of their number; memory does not.
    Source: the authors' code (Chigo55/IllRecNet); no paper.
    """

    description = Description(multiple=2**PRESETS['train_scripts']['num_resolution'], channels='channels', tiling='',
                              shares=True, recognise=_recognise, untold=('num_heads', ))

    def __init__(self, channels: Literal[3] = 3, kernel_size: Count | None = None, sigma: Positive | None = None,
                 embed_dim: Count | None = None, num_heads: Count | None = None, mlp_ratio: Count | None = None,
                 num_resolution: Count | None = None, dropout_ratio: BelowOne | None = None,
                 preset: Literal['train_scripts', 'small', 'base', 'large'] = 'train_scripts',
                 separation_trainable: bool = False, clamp_reflectance: bool = True, checkpoint: bool = False):
        super().__init__()
        if preset not in PRESETS:
            raise ValueError(f"IllRecNet: preset must be one of {', '.join(PRESETS)}, not '{preset}'")
        given = zip(_NAMES, (kernel_size, sigma, embed_dim, num_heads, mlp_ratio, num_resolution, dropout_ratio))
        values = {**PRESETS[preset], **{name: value for name, value in given if value is not None}}
        _check(channels, **values)
        self.description = replace(self.description, multiple=2**values['num_resolution'])
        block: dict[str, Any] = {
            'num_heads': values['num_heads'], 'mlp_ratio': values['mlp_ratio'], 'dropout': values['dropout_ratio'],
            'checkpoint': checkpoint
        }
        separate = Separation(values['kernel_size'], values['sigma'], separation_trainable, clamp_reflectance)
        self.encoder = Encoder(separate, channels, values['embed_dim'], **block)
        self.decoder = Decoder(channels, values['embed_dim'], values['num_resolution'], **block)
        weights_channels_last(self)
        self.register_load_state_dict_pre_hook(_from_lightning)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1], any size, to the same; not clamped."""
        h, w = x.shape[-2:]
        x = pad_to_multiple(x, self.description.multiple).contiguous(memory_format=torch.channels_last)
        return self.decoder(x, self.encoder(x))[..., :h, :w].contiguous()


def _named(conv: nn.Module) -> nn.Sequential:
    """Checkpoints keep the parameters of a resampling convolution under `conv.`."""
    return nn.Sequential(OrderedDict(conv=conv))


def _check(channels: int, kernel_size: int, sigma: float, embed_dim: int, num_heads: int, mlp_ratio: int,
           num_resolution: int, dropout_ratio: float) -> None:
    """Raises `ValueError` for arguments from which no network can be built."""
    if channels != 3:
        raise ValueError(f'IllRecNet: channels must be 3, not {channels}')
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f'IllRecNet: kernel_size must be odd (the Gaussian has a centre), not {kernel_size}')
    if sigma <= 0:
        raise ValueError(f'IllRecNet: sigma must be above 0, not {sigma}')
    sizes = {'num_heads': num_heads, 'embed_dim': embed_dim, 'mlp_ratio': mlp_ratio, 'num_resolution': num_resolution}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f'IllRecNet: {name} must be at least 1, not {value}')
    if embed_dim % num_heads:
        raise ValueError(f'IllRecNet: embed_dim must be a multiple of num_heads; '
                         f'{num_heads} heads do not divide {embed_dim} channels')
    if not 0 <= dropout_ratio < 1:
        raise ValueError(f'IllRecNet: dropout_ratio must be at least 0 and below 1, not {dropout_ratio}')


def _from_lightning(module: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """The authors' checkpoints keep the network under `model.` and the metrics' own networks beside it."""
    for key in [k for k in state_dict if k.startswith((f'{prefix}model.', f'{prefix}metric.'))]:
        value, name = state_dict.pop(key), key.removeprefix(prefix)
        if name.startswith('model.'):
            state_dict[prefix + name.removeprefix('model.')] = value

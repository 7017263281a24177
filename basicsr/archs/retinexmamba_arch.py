"""RetinexMamba (Bai et al. 2024, arXiv 2405.03349): Retinex illumination estimation and a U-Net of fused attention and
two-dimensional selective scan.

Parameter names, order and shapes are those of the published checkpoints (`{'params': ...}`, 330 tensors with the
official options); the prefix `denoiser` of the first release is accepted on load.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from basicsr.archs.description import Description, Shapes
from basicsr.archs.layers.feedforward import FeedForward, PreNorm
from basicsr.archs.layers.full_precision import exact, lowered
from basicsr.archs.layers.illumination import IlluminationEstimator
from basicsr.archs.layers.pointwise import PointwiseConv2d
from basicsr.archs.layers.recompute import checkpointed
from basicsr.archs.layers.resample import Doubling, weights_channels_last
from basicsr.archs.layers.ss2d import SS2D
from basicsr.archs.layers.strips import in_strips
from basicsr.archs.recognition import block_counts, count
from basicsr.archs.retinexmamba.illumination_fusion import IFA
from basicsr.utils.img import pad_to_multiple
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.utils.values import Count, Naturals3


class IFSSM(nn.Module):
    """Blocks of fused attention, selective scan and feed-forward; the scan's residual is the block's input.

    What stands before the feed-forward is made by `mixers` and run by `mix`: variants override these two.

    Args:
        checkpoint: recompute blocks in the backward instead of keeping their activations.
        exact: scan in full precision under autocast, where the features between the blocks are in float32.
    """

    def __init__(self, dim: int, heads: int, num_blocks: int, d_state: int, checkpoint: bool = False,
                 exact: bool = False):
        super().__init__()
        self.checkpoint, self.exact = checkpoint, exact
        self.blocks = nn.ModuleList(
            nn.ModuleList([*self.mixers(dim, heads, d_state),
                           PreNorm(dim, FeedForward(dim))]) for _ in range(num_blocks))

    def mixers(self, dim: int, heads: int, d_state: int) -> list[nn.Module]:
        return [IFA(dim, heads), SS2D(dim, d_state)]

    def mix(self, mixers: list[nn.Module], x: Tensor, illumination: Tensor) -> Tensor:
        attention, scan = mixers
        mixed = attention(x, illumination)
        with exact(x, self.exact):
            return x + scan(mixed.to(x.dtype))

    def forward(self, x: Tensor, illumination: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpointed(self.checkpoint, self.run, block, x, illumination)
        return x

    def run(self, block: nn.ModuleList, x: Tensor, illumination: Tensor) -> Tensor:
        *mixers, ffn = block
        x = self.mix(mixers, x, illumination)
        return in_strips(lambda t: t + ffn(t), x, channels=4 * x.shape[1], halo=1)


class Restorer(nn.Module):
    """U-Net over image features and illumination features; its output is a residual to the lit-up image.

    All that follows amplifies the rounding on the way down. Under autocast the features between its blocks, its scans, the
    feed-forwards of its attention and the convolutions before and behind them stay in float32: some more time for less
    than half the error of the network.

    Its layout is that of `TwoLevelUNet`, which it does not use: the state sizes of its levels differ on the way down and
    up, and what is in float32 decides about most lines of its `forward`.
    """

    def __init__(self, in_dim: int = 3, out_dim: int = 3, dim: int = 40, level: int = 2,
                 num_blocks: Sequence[int] = (1, 2, 2), d_state: int = 16, level_type: type[nn.Module] = IFSSM,
                 checkpoint: bool = False):
        super().__init__()
        self.embedding = nn.Conv2d(in_dim, dim, 3, padding=1, bias=False)
        self.encoder_layers: Any = nn.ModuleList()
        width, state = dim, d_state
        for i in range(level):
            self.encoder_layers.append(
                nn.ModuleList([
                    level_type(width, width // dim, num_blocks[i], state, checkpoint, exact=True),
                    nn.Conv2d(width, width * 2, 4, stride=2, padding=1, bias=False),
                    nn.Conv2d(width, width * 2, 4, stride=2, padding=1, bias=False),
                ]))
            width, state = width * 2, state * 2
        self.bottleneck = level_type(width, width // dim, num_blocks[-1], state, checkpoint)
        self.decoder_layers: Any = nn.ModuleList()
        for i in range(level):
            # the published decoder halves its width here but the state size only after the level: 4N, then 2N
            half = width // 2
            self.decoder_layers.append(
                nn.ModuleList([
                    Doubling(width, half),
                    PointwiseConv2d(width, half, bias=False),
                    level_type(half, half // dim, num_blocks[level - 1 - i], self.decoder_state(state), checkpoint),
                ]))
            width, state = half, state // 2
        self.mapping = nn.Conv2d(dim, out_dim, 3, padding=1, bias=False)
        self.apply(_init_linear)

    def decoder_state(self, d_state: int) -> int:
        """State size of a decoder level, given that of the level below it."""
        return d_state

    def forward(self, img: Tensor, illumination: Tensor) -> Tensor:
        with exact(img):
            x = self.embedding(img)
        skips = []
        for body, down, illumination_down in self.encoder_layers:
            x = body(x, illumination)
            skips.append((lowered(x), illumination))
            with exact(x):
                x = down(x)
            illumination = illumination_down(illumination)
        x = self.bottleneck(lowered(x), illumination)
        for up, fuse, body in self.decoder_layers:
            skip, illumination = skips.pop()
            x = fuse(up(x, skip))
            del skip  # an image of the widest features less while the blocks work
            x = body(x, illumination)
        return self.mapping(x) + img


class Stage(nn.Module):
    """Estimate the illumination, light the image up, restore it."""

    restorer = Restorer

    def __init__(self, n_feat: int, num_blocks: Sequence[int], d_state: int, level_type: type[nn.Module] = IFSSM,
                 checkpoint: bool = False):
        super().__init__()
        self.estimator = IlluminationEstimator(n_feat)
        self.Restorer = self.restorer(dim=n_feat, num_blocks=num_blocks, d_state=d_state, level_type=level_type,
                                      checkpoint=checkpoint)

    def forward(self, img: Tensor) -> Tensor:
        illumination, light_map = self.estimator(img)
        return self.Restorer(torch.addcmul(img, img, light_map), illumination)


# width and state size of each level, relative to the first one's
_LEVELS = {
    'encoder_layers.0.0': (1, 1), 'encoder_layers.1.0': (2, 2), 'bottleneck': (4, 4), 'decoder_layers.0.2': (2, 4),
    'decoder_layers.1.2': (1, 2)
}


def _recognise(shapes: Shapes) -> dict[str, Any] | None:
    """The network itself: variants have other blocks, directions or state sizes."""
    unet = 'body.0.Restorer.'
    shapes = {k.replace('.denoiser.', '.Restorer.'): v for k, v in shapes.items()}
    scans = {level: shapes[key] for level in _LEVELS if (key := f'{unet}{level}.blocks.0.1.A_logs') in shapes}
    fused = all(f'{unet}{level}.blocks.0.0.attn.q_dwconv.weight' in shapes for level in scans)
    if not scans or not fused or 'body.0.estimator.conv1.weight' not in shapes:
        return None
    n_feat = shapes[f'{unet}embedding.weight'][0]
    d_state = max(states // _LEVELS[level][1] for level, (_, states) in scans.items())
    for level, (width, states) in ((level, _LEVELS[level]) for level in scans):
        if scans[level] != (8 * width * n_feat, states * d_state):  # four directions, twice the width
            return None
    return {
        'n_feat': n_feat,
        'stage': count(shapes, r'body\.(\d+)\.'),
        'num_blocks': block_counts(shapes, unet),
        'd_state': d_state,
    }


@ARCH_REGISTRY.register()
class RetinexMamba(nn.Module):
    """Low-light enhancement by Retinex theory and state-space models.

    Args:
        in_channels, out_channels: 3, the estimator is made for RGB.
        n_feat: width of the first level, a multiple of 4.
        stage: number of stages in sequence.
        num_blocks: blocks of the two encoder/decoder levels and of the bottleneck.
        d_state: state size of the first level; deeper levels have more (N, 2N, 4N | 4N, 2N).
        checkpoint: recompute each block in the backward: half the memory or less for a third more time.

    Source: arXiv 2405.03349. The defaults are the official options: 4,589,001 parameters.
    """

    stage_type, level_type = Stage, IFSSM  # what variants replace
    description = Description(multiple=4, channels='in_channels', recognise=_recognise,
                              tiling='its scans run through the whole image', shares=True, strips=True)

    def __init__(self, in_channels: Literal[3] = 3, out_channels: Literal[3] = 3, n_feat: Count = 40, stage: Count = 1,
                 num_blocks: Naturals3 = (1, 2, 2), d_state: Count = 16, checkpoint: bool = False):
        super().__init__()
        if n_feat % 4:
            raise ValueError(f'RetinexMamba: n_feat must be a multiple of 4 (four convolution groups), not {n_feat}')
        if (in_channels, out_channels) != (3, 3):
            raise ValueError('RetinexMamba: in_channels and out_channels must be 3')
        if len(num_blocks) != 3:
            raise ValueError(
                f'RetinexMamba: num_blocks needs three numbers (two levels, bottleneck), not {list(num_blocks)}')
        self.body = nn.Sequential(*(self.stage_type(n_feat, num_blocks, d_state, self.level_type, checkpoint)
                                    for _ in range(stage)))
        weights_channels_last(self)
        self.register_load_state_dict_pre_hook(_rename_denoiser)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1], any size, to the same; not clamped."""
        h, w = x.shape[-2:]
        x = pad_to_multiple(x, self.description.multiple).contiguous(memory_format=torch.channels_last)
        return self.body(x)[..., :h, :w].contiguous()


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)


def _rename_denoiser(module: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """The first release called `Restorer` `denoiser`."""
    for key in [k for k in state_dict if k.startswith(prefix) and '.denoiser.' in k]:
        state_dict[key.replace('.denoiser.', '.Restorer.')] = state_dict.pop(key)

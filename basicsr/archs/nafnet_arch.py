"""NAFNet (Chen et al. 2022, arXiv 2204.04676): a U-Net whose blocks have products in the place of activations.

Parameter names, order and shapes are those of the published checkpoints.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Len
from torch import Tensor, nn

from basicsr.archs.description import Description, Shapes
from basicsr.archs.layers.naf_unet import NAFUNet, check_levels, gate
from basicsr.archs.layers.norm import ChannelLayerNorm
from basicsr.archs.layers.whole_image import ImageMean
from basicsr.archs.recognition import count
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.utils.values import Count, Natural


class WindowMean(nn.Module):
    """The mean around each pixel, in a window of at most `size` (height, width); of a smaller map the global mean (B, C, 1, 1).

    Near the border the window stays inside. Test-time local conversion (Chu et al. 2022, arXiv 2112.04491): a network that is
    trained on small patches has only seen means of these.
    """

    def __init__(self, size: tuple[int, int]):
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        sides = x.shape[-2:]
        if all(isinstance(side, int) and window >= side for window, side in zip(self.size, sides)):
            return x.mean((2, 3), keepdim=True)
        y = x.double()  # sums of whole images lose digits in float32
        for dim, window, side in zip((2, 3), self.size, sides):
            window = min(window, side)
            sums = F.pad(y.cumsum(dim), (0, 0, 1, 0) if dim == 2 else (1, 0, 0, 0))
            y = (sums.narrow(dim, window, side - window + 1) - sums.narrow(dim, 0, side - window + 1)) / window
        missing = [side - inner for side, inner in zip(sides, y.shape[-2:])]
        around = [n for m in reversed(missing) for n in (m // 2, m - m // 2)]
        return F.pad(y.to(x.dtype), around, mode='replicate')


class NAFBlock(nn.Module):
    """Depthwise convolution with simplified channel attention, then a gated feed-forward, each with a scaled residual.

    Args:
        c: channels. pool: the mean that the attention looks at.
    """

    def __init__(self, c: int, pool: nn.Module):
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.conv1 = nn.Conv2d(c, 2 * c, 1)
        self.conv2 = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
        self.conv3 = nn.Conv2d(c, c, 1)
        self.sca = nn.Sequential(pool, nn.Conv2d(c, c, 1))
        self.conv4 = nn.Conv2d(c, 2 * c, 1)
        self.conv5 = nn.Conv2d(c, c, 1)
        self.norm1 = ChannelLayerNorm(c, eps=1e-6)
        self.norm2 = ChannelLayerNorm(c, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        z = gate(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.beta * self.conv3(z * self.sca(z))
        return x + self.gamma * self.conv5(gate(self.conv4(self.norm2(x))))


def _recognise(shapes: Shapes) -> dict[str, Any] | None:
    if not {'intro.weight', 'ending.weight', 'downs.0.weight'} <= shapes.keys() or 'side_out.weight' in shapes:
        return None
    width, channels = shapes['intro.weight'][:2]
    levels = range(count(shapes, r'downs\.(\d+)\.'))
    return {
        'img_channel': channels,
        'width': width,
        'middle_blk_num': count(shapes, r'middle_blks\.(\d+)\.'),
        'enc_blk_nums': [count(shapes, rf'encoders\.{i}\.(\d+)\.') for i in levels],
        'dec_blk_nums': [count(shapes, rf'decoders\.{i}\.(\d+)\.') for i in levels],
    }


@ARCH_REGISTRY.register()
class NAFNet(NAFUNet):
    """Denoising, deblurring and other restoration by convolutions alone.

    Args:
        img_channel: channels of input and output. width: of the first level; each deeper one has twice as many channels.
        middle_blk_num: blocks at the deepest level. enc_blk_nums, dec_blk_nums: of each level on the way down and up again.

    Source: arXiv 2204.04676. Published: SIDD with a width of 32 or 64, [2, 2, 4, 8], 12 and [2, 2, 2, 2] blocks.
    """

    description = Description(multiple=16, padding='zeros', channels='img_channel', recognise=_recognise,
                              variants=('NAFNetLocal', ), tiling='', shares=True)
    middle_blks: nn.Sequential

    def __init__(self, img_channel: Count = 3, width: Count = 16, middle_blk_num: Natural = 1,
                 enc_blk_nums: Sequence[Natural] = (1, 1, 1, 28), dec_blk_nums: Sequence[Natural] = (1, 1, 1, 1)):
        check_levels(type(self).__name__, enc_blk_nums, dec_blk_nums)
        depth = len(enc_blk_nums)

        def level(number: int, depth: int) -> nn.Sequential:
            return nn.Sequential(*(NAFBlock(width * 2**depth, self.pool(depth)) for _ in range(number)))

        super().__init__(img_channel, width, [level(n, i) for i, n in enumerate(enc_blk_nums)],
                         [level(n, depth - 1 - i) for i, n in enumerate(dec_blk_nums)],
                         {'middle_blks': level(middle_blk_num, depth)})
        self.description = replace(self.description, multiple=2**depth)

    def pool(self, level: int) -> nn.Module:
        """The mean that attention at a level looks at."""
        return ImageMean()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1], any size, to the same; not clipped."""
        return self.restore(x, self.middle_blks)


@ARCH_REGISTRY.register()
class NAFNetLocal(NAFNet):
    """`NAFNet` whose attention looks at windows of one and a half times its training patches, in training as well.

    Args:
        train_size: (images, channels, height, width) of the training patches.
        fast_imp: false; the published approximation by some of the pixels is not here.

    Source: arXiv 2112.04491. Published: GoPro with a width of 32 or 64, REDS with 64, [1, 1, 1, 28], 1 and [1, 1, 1, 1] blocks.
    """

    description = replace(
        NAFNet.description,
        recognise=None,
        variants=(),  # nothing tells its weights from NAFNet's
        shares=False,
        tiling='its attention weighs channels by means of large parts of the image')

    def __init__(self, img_channel: Count = 3, width: Count = 16, middle_blk_num: Natural = 1,
                 enc_blk_nums: Sequence[Natural] = (1, 1, 1, 28), dec_blk_nums: Sequence[Natural] = (1, 1, 1, 1),
                 train_size: Annotated[Sequence[Count],
                                       Len(4, 4)] = (1, 3, 256, 256), fast_imp: Literal[False] = False):
        if fast_imp:
            raise ValueError('NAFNetLocal: fast_imp gives other results, and is not here')
        if len(train_size) != 4 or min(train_size) < 1:
            raise ValueError(
                f'NAFNetLocal: train_size is (images, channels, height, width), each 1 or more, not {list(train_size)}')
        self.patch, self.multiple = tuple(train_size[2:]), 2**len(enc_blk_nums)
        super().__init__(img_channel, width, middle_blk_num, enc_blk_nums, dec_blk_nums)

    def pool(self, level: int) -> nn.Module:
        """In pixels of the level; patches are padded as images are."""
        height, width = (((side + -side % self.multiple) >> level) * int(1.5 * side) // side for side in self.patch)
        return WindowMean((height, width))

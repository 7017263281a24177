"""The U-Net of NAFNet and its relatives: 2x2 convolutions down, pixel shuffles up, skips added, the image added at the end."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from basicsr.archs.layers.resample import weights_channels_last
from basicsr.utils.img import pad_to_multiple


def gate(x: Tensor) -> Tensor:
    """(B, 2C, H, W) to (B, C, H, W): the first half times the second."""
    first, second = x.chunk(2, dim=1)
    return first * second


def check_levels(name: str, enc_blk_nums: Sequence[int], dec_blk_nums: Sequence[int]) -> None:
    """Before any level is built. Raises `ValueError` where the way up has other levels than the way down."""
    if len(enc_blk_nums) != len(dec_blk_nums):
        raise ValueError(f'{name}: enc_blk_nums and dec_blk_nums are of the same levels, but there are'
                         f' {len(enc_blk_nums)} and {len(dec_blk_nums)}')


class NAFUNet(nn.Module):
    """Levels of blocks, each half as large and twice as wide as the one above.

    Args:
        img_channel: channels of input and output. width: of the first level.
        encoders, decoders: the levels on the way down and up again.
        middle: the deepest level, by its name; None where a subclass has it.
    """

    def __init__(self, img_channel: int, width: int, encoders: Sequence[nn.Module], decoders: Sequence[nn.Module],
                 middle: dict[str, nn.Module] | None = None):
        super().__init__()
        widths = [width * 2**i for i in range(len(encoders))]
        self.intro = nn.Conv2d(img_channel, width, 3, padding=1)
        self.ending = nn.Conv2d(width, img_channel, 3, padding=1)
        self.encoders, self.decoders = nn.ModuleList(encoders), nn.ModuleList(decoders)
        for name, level in (middle or {}).items():
            self.add_module(name, level)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * c, 4 * c, 1, bias=False), nn.PixelShuffle(2)) for c in reversed(widths))
        self.downs = nn.ModuleList(nn.Conv2d(c, 2 * c, 2, stride=2) for c in widths)
        weights_channels_last(self)

    def restore(self, x: Tensor, middle: Callable[[Tensor], Tensor]) -> Tensor:
        """(B, C, H, W), any size, to the same; `middle` is what the deepest level does. Not clipped."""
        h, w = x.shape[-2:]
        x = pad_to_multiple(x, 2**len(self.downs), 'zeros')  # as published
        x = x.contiguous(memory_format=torch.channels_last)
        y, skips = self.intro(x), []
        for encoder, down in zip(self.encoders, self.downs):
            y = encoder(y)
            skips.append(y)
            y = down(y)
        y = middle(y)
        for decoder, up in zip(self.decoders, self.ups):
            y = decoder(up(y) + skips.pop())
        return (self.ending(y) + x)[..., :h, :w].contiguous()

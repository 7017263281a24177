"""The brightness of a whole image for tiles of networks that share nothing: of an answer to the image at a reduced size.

What a network sees of a small image is not what it sees of the large one, so the larger the better; by measurement, half of
the pixels give 41 dB to the answer to the whole image where a quarter gives 33 (RetinexFormer, on four photographs in tiles
of 256), as a gain rather than a sum, which would change detail, too.
"""
from __future__ import annotations

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from basicsr.archs.layers.interpolation import spread
from basicsr.archs.layers.whole_image import Place, sharing
from basicsr.inference.tiling import run_tiled

_CELL = 64  # pixels of the input, of which the mean is a low frequency
_DARK = 0.01  # of white; below, a ratio of brightnesses says nothing
_ALIKE = 50  # dB between low frequencies


class LowFrequencies:
    """Those of an image restored at a reduced size, given to its tiles.

    Args:
        forward: the network, (1, C, h, w) to the same, possibly enlarged.
        x: the image, (1, C, H, W), sides multiples of `multiple`. pixels: that the reduced image has at most; never more
            than half of the image's.

    Attributes:
        alike: parts of the reduced image are answered as it is whole, so tiles need nothing.
    """

    def __init__(self, forward: Callable[[Tensor], Tensor], x: Tensor, multiple: int, pixels: int, overlap: int):
        reduction = math.sqrt(max(2, math.prod(x.shape[2:]) / pixels))
        small = F.interpolate(x, [max(1, round(n / reduction / multiple)) * multiple for n in x.shape[2:]], mode='area')
        self.answer = forward(small)
        half = math.ceil((max(small.shape[2:]) + overlap) / 2 / multiple) * multiple
        parts = run_tiled(lambda t, place: forward(t), small, half, overlap, multiple)
        cell = _CELL / reduction * self.answer.shape[3] / small.shape[3]
        difference = _low(parts.clamp(0, 1), cell) - _low(self.answer.clamp(0, 1), cell)
        self.alike = difference.square().mean().item() < 10**(-_ALIKE / 10)

    def given_to(self, y: Tensor, place: Place) -> Tensor:
        """The answer (1, C, h, w) to a tile, as bright as the whole image there."""
        if self.alike:
            return y
        with sharing([], place):
            bright = spread(self.answer.clamp(0, 1), y)
        cell = _CELL * y.shape[2] / (place.rows.stop - place.rows.start)
        return y * (_low(bright, cell) + _DARK) / (_low(y.clamp(0, 1), cell) + _DARK)


def _low(x: Tensor, cell: float) -> Tensor:
    """(B, C, H, W) without what changes within `cell` pixels."""
    means = F.interpolate(x, [max(1, round(n / cell)) for n in x.shape[2:]], mode='area')
    return F.interpolate(means, x.shape[2:], mode='bilinear', align_corners=False)

"""Crops of a large image that stand for all of it, where layers look at sums over all pixels.

They are evenly spaced and, where they are enough to cover the image, do so. Of an image of which they are a small part they are
small and many: what a few large ones miss between them weighs more than what features near a border do not see. Each stands
for the pixels nearer to it than to its neighbours, without the margin in which its features miss those beside it.
"""
from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from basicsr.archs.layers.whole_image import Crop, Place

# side and margin of crops in pixels: where they cover most of the image, and where they do not; the margin is rounded up to the
# network's multiple, the side in proportion
_LARGE, _SMALL = (96, 16), (48, 8)
_MOST = math.sqrt(2)  # how much less than all of an image large crops may be, along each side
PIXELS = 768 * 768  # that a sample of a large image has at most
_FEW = 8_000_000  # pixels of an image that leaves memory for a sample of twice as many


class _Span(NamedTuple):
    """Along one side of the image: where a crop begins, the part of it that counts, pixels of the image for each of these."""
    start: int
    own: slice
    weight: float


def pixels_for(x: Tensor) -> int:
    """Of a sample of (1, C, H, W)."""
    return PIXELS * (2 if x.shape[2] * x.shape[3] <= _FEW else 1)


def sample_of(x: Tensor, multiple: int, pixels: int = PIXELS) -> tuple[Tensor, list[Crop]]:
    """(1, C, H, W), whose sides are multiples of `multiple`, to crops (B, C, h, w) of together about `pixels` at most."""
    for wanted, around in (_LARGE, _SMALL):
        margin = math.ceil(around / multiple) * multiple
        side = math.ceil(wanted / around) * margin
        sides = [min(side, length) for length in x.shape[2:]]
        counts = [
            math.ceil((length - 2 * margin) / (side - 2 * margin)) if length > side else 1 for length in x.shape[2:]
        ]
        surplus = math.sqrt(math.prod(counts) * math.prod(sides) / pixels)
        if surplus <= _MOST:
            break
    if surplus > 1:
        counts = [max(2, math.floor(count / surplus)) if count > 1 else 1 for count in counts]
    rows, columns = (_spans(*args, margin, multiple) for args in zip(x.shape[2:], sides, counts))
    grid = list(itertools.product(rows, columns))
    height, width = sides
    places = [Place(slice(r.start, r.start + height), slice(c.start, c.start + width), *x.shape[2:]) for r, c in grid]
    return torch.cat([x[..., p.rows, p.columns] for p in places
                      ]), [Crop(r.own, c.own, r.weight * c.weight, place) for (r, c), place in zip(grid, places)]


def _spans(length: int, side: int, count: int, margin: int, multiple: int) -> list[_Span]:
    starts = [(length - side) * i // max(1, count - 1) // multiple * multiple for i in range(count)]
    first = [start + margin * (i > 0) for i, start in enumerate(starts)]
    last = [start + side - margin * (i < count - 1) for i, start in enumerate(starts)]
    for i in range(count - 1):  # neighbours that share pixels meet in the middle
        if last[i] > first[i + 1]:
            last[i] = first[i + 1] = (last[i] + first[i + 1]) // 2 // multiple * multiple
    borders = [0, *((a + b) / 2 for a, b in zip(last, first[1:])), length]
    return [
        _Span(start, slice(a - start, b - start), (borders[i + 1] - borders[i]) / (b - a))
        for i, (start, a, b) in enumerate(zip(starts, first, last))
    ]

"""Large images in overlapping tiles, blended where they meet."""
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from basicsr.archs.layers.whole_image import Place

Watch = Callable[[int, int, str], None]  # parts that are done, how many there are, and what they are


def run_tiled(forward: Callable[[Tensor, Place], Tensor], x: Tensor, tile: int, overlap: int, multiple: int = 1,
              watch: Watch | None = None) -> Tensor:
    """Apply `forward` to tiles of (1, C, H, W) and their places, and put the results together.

    Args:
        tile: largest side of a tile. overlap: pixels shared by neighbours, where weights fall off linearly.
        multiple: of the sides of `x`; tiles begin and end at multiples of it.
        watch: called before the first tile and after each.
    """
    h, w = x.shape[-2:]
    tile, overlap = max(tile // multiple, 1) * multiple, overlap // multiple * multiple
    if h <= tile and w <= tile:
        return forward(x, Place(slice(0, h), slice(0, w), h, w))
    total: Any = None  # made when the first tile shows scale and channels
    weights: Any = None
    tiles = list(itertools.product(spans(h, tile, overlap), spans(w, tile, overlap)))
    watch = watch or (lambda done, of, what: None)
    watch(0, len(tiles), 'tile')
    for number, ((top, bottom), (left, right)) in enumerate(tiles, 1):
        place = Place(slice(top, bottom), slice(left, right), h, w)
        y = forward(x[..., place.rows, place.columns], place)
        scale = y.shape[-1] // (right - left)
        if total is None:
            total = y.new_zeros(*y.shape[:-2], h * scale, w * scale)
            weights = y.new_zeros(h * scale, w * scale)
        mask = _ramp(top, bottom, h, overlap, scale, y)[:, None] * _ramp(left, right, w, overlap, scale, y)
        area = (..., slice(top * scale, bottom * scale), slice(left * scale, right * scale))
        total[area] += y * mask
        weights[area[1:]] += mask
        watch(number, len(tiles), 'tile')
    return total.div_(weights)


def spans(length: int, tile: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most `tile` that cover `length`; the last ends at the edge instead of being short."""
    start = 0
    while start + tile < length:
        yield start, start + tile
        start += tile - overlap
    yield max(0, length - tile), length


def _ramp(start: int, end: int, length: int, overlap: int, scale: int, like: Tensor) -> Tensor:
    """Weights along one side of a tile: rising over the overlap, except at the edges of the image."""
    n = (end - start) * scale
    rise = (torch.arange(n, device=like.device, dtype=like.dtype) + 1) / (overlap * scale + 1)
    left = rise if start > 0 else torch.ones_like(rise)
    right = rise.flip(0) if end < length else torch.ones_like(rise)
    return torch.minimum(left, right).clamp(max=1)

"""The tiles in which the published evaluation of MambaIR restores an image."""
from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

_SIDE = 200  # pixels, from which an image is cut


def in_published_tiles(x: Tensor, scale: int, restore: Callable[[Tensor], Tensor]) -> Tensor:
    """(B, C, H, W) to (B, C, scale H, scale W): each tile on its own, with a tenth of its side around it that is cut off."""
    height, width = x.shape[-2:]
    rows, columns = (side // _SIDE + 1 for side in (height, width))
    x = F.pad(x, (0, -width % columns, 0, -height % rows), 'reflect')
    bands = [
        torch.cat([_inner(restore(x[..., top, left]), scale, i, j) for left, j in _spans(x.shape[-1], columns)], dim=-1)
        for top, i in _spans(x.shape[-2], rows)
    ]
    return torch.cat(bands, dim=-2)[..., :scale * height, :scale * width]


def _spans(side: int, count: int) -> Iterator[tuple[slice, slice]]:
    """Of each tile what is read, and where in it is what is kept."""
    size = side // count
    more = size // 10
    for start in range(0, side, size):
        first, last = max(0, start - more), min(side, start + size + more)
        yield slice(first, last), slice(start - first, start - first + size)


def _inner(tile: Tensor, scale: int, rows: slice, columns: slice) -> Tensor:
    return tile[..., rows.start * scale:rows.stop * scale, columns.start * scale:columns.stop * scale]

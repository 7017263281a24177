"""Work on an image in strips of rows, so that wide hidden tensors stay in the cache and never get memory pages of their own.

On a CPU most of the time of a wide layer on a large image goes into fresh memory pages; a strip's hidden tensors reuse
the same ones. Strips are taken only where no gradients are recorded; training sees one strip, the whole image.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from basicsr.archs.layers.whole_image import in_parts

_CPU_BYTES = 4 << 20  # of one hidden tensor; a few of them fit into the last-level cache
_GPU_BYTES = 1 << 30  # large enough to keep a GPU busy, small enough to matter for its memory


def lines_of_strip(x: Tensor, channels: int, dim: int = 2) -> int:
    """Rows (or with `dim` 3 columns) of a strip of (B, C, H, W) whose hidden tensors have `channels` channels.

    All of them where the image is small, is itself a part of one, or gradients are recorded.
    """
    if in_parts() or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return x.shape[dim]
    budget = _CPU_BYTES if x.device.type == 'cpu' else _GPU_BYTES
    line = x.shape[0] * x.shape[5 - dim] * channels * x.element_size()
    return min(x.shape[dim], max(8, budget // max(1, line)))


def row_strips(x: Tensor, channels: int, halo: int = 0) -> Iterator[tuple[slice, slice]]:
    """(rows to read, rows of those to keep) for (B, C, H, W) whose hidden tensors have `channels` channels.

    `halo` rows are read on both sides where the image has them, for convolutions that look at neighbours.
    """
    height, rows = x.shape[2], lines_of_strip(x, channels)
    if rows == height:
        yield slice(0, height), slice(0, height)
        return
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(0, top - halo), min(height, bottom + halo)
        yield slice(first, last), slice(top - first, bottom - first)


def in_strips(function: Callable[..., Tensor], *images: Tensor, channels: int, halo: int = 0) -> Tensor:
    """`function(*images)`, strip by strip.

    Args:
        function: maps (B, C_i, h, W) to (B, C, h, W) and looks at most `halo` rows up and down; zero padding at the
            image's own border is kept.
        channels: width of its widest hidden tensor.
    """
    out: Any = None
    top = 0
    for read, keep in row_strips(images[0], channels, halo):
        if read.stop - read.start == images[0].shape[2]:
            return function(*images)
        part = function(*(t[:, :, read] for t in images))[:, :, keep]
        if out is None:  # one copy of the image less than by joining the strips in the end
            out = _rows_like(part, images[0].shape[2])
        bottom = top + part.shape[2]
        out[:, :, top:bottom] = part
        top = bottom
    return out


def _rows_like(part: Tensor, height: int) -> Tensor:
    """An empty image of other height, in the same memory format."""
    last = part.is_contiguous(memory_format=torch.channels_last)
    return torch.empty((*part.shape[:2], height, part.shape[3]), dtype=part.dtype, device=part.device,
                       memory_format=torch.channels_last if last else torch.contiguous_format)

"""Bilinear interpolation over a whole image, the same in its parts, whose place in it decides (`whole_image.py`)."""
from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.layers.whole_image import Span, spans

_Axis = Callable[[Tensor, int, Span], Tensor]


class CornerToCorner(nn.UpsamplingBilinear2d):
    """`nn.UpsamplingBilinear2d` by a factor, in which the image's corners stay its corners: further in, pixels move."""

    scale_factor: float

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, factor * h, factor * w)."""

        def positions(pixels: Tensor, length: int, span: Span) -> Tensor:
            step = (span.whole - 1) / max(span.whole * self.scale_factor - 1, 1)
            return (pixels + span.start * self.scale_factor) * step - span.start

        places = spans(x)
        if places is None:
            return super().forward(x)
        size = [round(side * self.scale_factor) for side in x.shape[2:]]
        return _interpolated(x, size, places, positions)


def spread(x: Tensor, like: Tensor) -> Tensor:
    """Maps (B, C, h, w) of the whole image, stretched to the part of it that `like` (B, any, H, W) is: (B, C, H, W)."""

    def positions(pixels: Tensor, length: int, span: Span) -> Tensor:
        return (pixels + span.start + 0.5) * (length / span.whole) - 0.5

    places = spans(like)
    if places is None:
        return F.interpolate(x, like.shape[2:], mode='bilinear', align_corners=False)
    return _interpolated(x, like.shape[2:], places, positions)


def _interpolated(x: Tensor, size: torch.Size | list[int], places: list[tuple[Span, Span]], positions: _Axis) -> Tensor:
    """`positions`: from pixels of the result along a side, pixels that `x` has along it, and its span, to those in `x`."""
    parts = []
    for part, place in zip(x.split(1), places):
        for dim, span in zip((2, 3), place):
            pixels = torch.arange(size[dim - 2], device=x.device, dtype=torch.float64)
            part = _between(part, dim, positions(pixels, part.shape[dim], span).clamp(0, part.shape[dim] - 1))
        parts.append(part)
    return torch.cat(parts)


def _between(x: Tensor, dim: int, positions: Tensor) -> Tensor:
    """Linearly between the two pixels nearest to each position along a side."""
    first = positions.floor().long()
    share = (positions - first).to(x.dtype).view(-1, *(1, ) * (x.dim() - 1 - dim))
    second = (first + 1).clamp(max=x.shape[dim] - 1)
    return x.index_select(dim, first).lerp(x.index_select(dim, second), share)

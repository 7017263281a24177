"""Sums over a whole image, and how its parts share them.

Attention between channels, means of the image and group norms look at all pixels, so a part of an image would be answered
as if it were the whole one: tiles of a dark corner become brighter than the rest. Layers that ask here for their sums are
answered in three ways:

* Usually, with the sums of each image of the batch.
* While `sampling`, the batch holds crops of one image. All are given the sums over the pixels that each stands for.
* While `sharing`, they are given what was found so: each part of the image with the sums of all of it.

Layers are told apart by the order in which they ask, which must be the same for all parts of an image. Layers whose result
depends on where a pixel lies in the image ask for `spans`.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Sums = tuple[Tensor, ...]


class Place(NamedTuple):
    """Of a part in an image: its rows and columns, and the sides of the image."""
    rows: slice
    columns: slice
    height: int
    width: int


class Span(NamedTuple):
    """Along one side of features: where those of a part begin, and how many the whole image has."""
    start: float
    whole: float


class Crop(NamedTuple):
    """The pixels that a crop stands for, without the margin that it shares with its neighbours or has for context.

    Attributes:
        rows, columns: of the crop. weight: pixels of the image for each of these. place: of the crop in the image.
    """
    rows: slice
    columns: slice
    weight: float
    place: Place

    def of(self, image: Tensor, scale: float) -> Tensor:
        """Its pixels in features (H, W, C) whose sides are `scale` times the crop's."""
        rows, columns = (slice(round(s.start * scale), round(s.stop * scale)) for s in (self.rows, self.columns))
        return image[rows, columns]


class _Asked:
    """Answers from the outside while a network runs."""

    def __init__(self, found: list[Sums], places: Sequence[Place], crops: Sequence[Crop] = ()):
        self.found, self.places, self.crops = found, places, crops
        self.height = places[0].rows.stop - places[0].rows.start  # of all parts
        self.next = 0

    def __call__(self, found: Callable[[], Sums], batch: int) -> Sums:
        """What layers ask for, `found` while sampling, for each of the batch."""
        if self.crops:
            self.found.append(found())
        self.next += 1
        return tuple(t.expand(batch, *t.shape[1:]) for t in self.found[self.next - 1])

    def over_crops(self, sums: Callable[..., Sums], maps: Sequence[Tensor], largest: bool) -> Sums:
        total: Any = None
        for i, crop in enumerate(self.crops):
            part = sums(*(crop.of(m[i], m.shape[1] / self.height)[None] for m in maps))
            if largest:
                total = part if total is None else tuple(map(torch.maximum, total, part))
            else:
                part = tuple(t * crop.weight for t in part)
                total = part if total is None else tuple(a + b for a, b in zip(total, part))
        return total

    def pixels_of_crops(self, x: Tensor, most: int) -> Sums:
        scale = x.shape[1] / self.height
        own = [crop.of(image, scale) for crop, image in zip(self.crops, x)]
        step = math.ceil(math.sqrt(sum(t.shape[0] * t.shape[1] for t in own) / most))
        own = [t[step // 2::step, step // 2::step].flatten(0, 1) for t in own]
        weights = [t.new_full((len(t), ), crop.weight) for crop, t in zip(self.crops, own)]
        return torch.cat(own)[None], torch.cat(weights)[None]


_asked: _Asked | None = None


def over_image(sums: Callable[..., Sums], *maps: Tensor, largest: bool = False) -> Sums:
    """`sums(*maps)`, or what stands for it in a part of an image.

    Args:
        sums: of features (B, H, W, C) to tensors (B, ...) that can be added up over parts of an image.
        largest: they are largest values, of which the largest is taken.
    """
    if _asked is None:
        return sums(*maps)
    asked = _asked
    return asked(lambda: asked.over_crops(sums, maps, largest), len(maps[0]))


def pixels_of_image(x: Tensor, most: int = 1 << 14) -> tuple[Tensor, Tensor | None]:
    """(B, H, W, C) to pixels (B, N, C) that stand for the image, and how many each stands for (B, N); None: for itself.

    All of them, or of an image that is answered in parts about `most`, which lie evenly.
    """
    if _asked is None:
        return x.flatten(1, 2), None
    asked = _asked
    pixels, weights = asked(lambda: asked.pixels_of_crops(x, most), len(x))
    return pixels, weights


def in_parts() -> bool:
    """Whether sums come from the outside: then an image is not cut into further parts."""
    return _asked is not None


def spans(x: Tensor) -> list[tuple[Span, Span]] | None:
    """Of features (B, C, h, w) the rows and columns that they are in those of the image; None where they are all of it."""
    if _asked is None:
        return None
    scale = x.shape[2] / _asked.height
    found = [(Span(p.rows.start * scale, p.height * scale), Span(p.columns.start * scale, p.width * scale))
             for p in _asked.places]
    return found if _asked.crops else found * len(x)


@contextmanager
def sampling(crops: Sequence[Crop]) -> Iterator[list[Sums]]:
    """A network that runs within this block on a batch of crops of one size, one for each of `crops`, fills the list."""
    found: list[Sums] = []
    with _answering(_Asked(found, [crop.place for crop in crops], crops)):
        yield found


@contextmanager
def sharing(found: list[Sums], place: Place) -> Iterator[None]:
    """A network that runs once within this block on a part of the image is answered with what `sampling` has found."""
    with _answering(_Asked(found, [place])):
        yield


@contextmanager
def _answering(asked: _Asked) -> Iterator[None]:
    global _asked
    _asked, before = asked, _asked
    try:
        yield
    finally:
        _asked = before


def image_mean(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """(B, C, H, W) to the mean over all pixels of the image, (B, C, 1, 1), of another type where asked for."""
    if _asked is None:
        return x.mean((2, 3), keepdim=True, dtype=dtype) if dtype else x.mean((2, 3), keepdim=True)
    total, count = over_image(_sum_and_count, x.permute(0, 2, 3, 1))
    return (total / count)[..., None, None].to(dtype or x.dtype)


def image_max(x: Tensor) -> Tensor:
    """(B, C, H, W) to the largest value of the image, (B, C, 1, 1)."""
    if _asked is None:
        return x.amax((2, 3), keepdim=True)
    largest, = over_image(lambda t: (t.amax((1, 2)), ), x.permute(0, 2, 3, 1), largest=True)
    return largest[..., None, None]


class ImageMean(nn.Module):
    """`image_mean` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return image_mean(x)


class ImageGroupNorm(nn.GroupNorm):
    """Group norm with mean and variance over all pixels of the image."""

    def forward(self, x: Tensor) -> Tensor:
        if _asked is None:
            return super().forward(x)
        total, squares, count = over_image(self._moments, x.permute(0, 2, 3, 1))
        size = count * (x.shape[1] // self.num_groups)
        mean, square = ((t.unflatten(1, (self.num_groups, -1)).sum(-1) / size) for t in (total, squares))
        scale = (square - mean.square()).clamp(min=0).add(self.eps).rsqrt()
        mean, scale = (t.repeat_interleave(x.shape[1] // self.num_groups, 1)[..., None, None] for t in (mean, scale))
        weight, bias = (t[:, None, None] for t in (self.weight, self.bias))
        return ((x - mean) * scale * weight + bias).to(x.dtype)

    @staticmethod
    def _moments(t: Tensor) -> Sums:
        t = t.double()
        total, count = _sum_and_count(t)
        return total, t.square().sum((1, 2)), count


def _sum_and_count(t: Tensor) -> Sums:
    """Of (B, H, W, C): (B, C), at least in float32, and the number of pixels (B, 1)."""
    total = t.sum((1, 2), dtype=torch.promote_types(t.dtype, torch.float32))
    return total, total.new_full((len(t), 1), t.shape[1] * t.shape[2])

"""A quick look: a photo of at most 1,000 pixels a side, for most of whose detail the network is not asked.

The network sees a picture of at most 120,000 pixels. Its answer is enlarged, and the photo's detail that is lost on the way
there and back is added, as many times as bright as the answer makes the light around it. All of it in linear light. Edges
are those of the photo, as on both sides of one the same detail is missing.
"""
from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from basicsr.inference.light import gain
from basicsr.photos.photo import Frame, Photo, from_float, to_float
from basicsr.photos.profiles import luma
from basicsr.utils.srgb import linear_to_srgb, srgb_to_linear

LONGEST = 1000  # pixels of the answer's long side
_SEEN = 120_000  # pixels that the network sees


def reduced(photo: Photo) -> Photo:
    """The photo with pages and frames of at most 1,000 pixels on the long side; smaller ones stay as they are."""
    return replace(photo, frames=[_reduced(frame) for frame in photo.frames])


class Preview:
    """What restores pictures (see `restore_photo`), quicker. Results have the size of the picture, whatever the network's."""

    def __init__(self, restore: Any):
        self.restore = restore
        self.enlarges = False  # known by the first answer

    def __call__(self, img: np.ndarray, **settings: float) -> np.ndarray:
        shrink = math.sqrt(_SEEN / math.prod(img.shape[:2]))
        small = _resized(img, shrink) if shrink < 1 else img
        answer = self.restore(small, **settings)
        self.enlarges = len(answer) > len(small)
        if answer.shape[:2] == img.shape[:2]:
            return answer
        if self.enlarges:
            return _sized(answer, img)
        if answer.shape[2] == 1:
            img, small = luma(img), luma(small)
        times = gain(*(np.broadcast_to(picture, (*small.shape[:2], 3)) for picture in (small, answer)))
        light = srgb_to_linear(img)
        light -= _sized(srgb_to_linear(small), img)
        light *= _sized(times, img)
        light += _sized(srgb_to_linear(answer), img)
        return linear_to_srgb(light.clip(0, 1))


def _reduced(frame: Frame) -> Frame:
    shrink = LONGEST / max(frame.pixels.shape[:2])
    if shrink >= 1:
        return frame
    if frame.alpha is None:
        return replace(frame, pixels=_resized(frame.pixels, shrink))
    # colours that nobody sees are not to shine through where alpha begins
    alpha, pixels = to_float(frame.alpha)[..., None], to_float(frame.pixels)
    seen, plain = _resized(alpha, shrink), _resized(pixels, shrink)
    pixels = np.where(seen > 0, _resized(pixels * alpha, shrink) / np.maximum(seen, 1e-6), plain)
    return replace(frame, pixels=from_float(pixels, frame.pixels.dtype),
                   alpha=from_float(seen[..., 0], frame.alpha.dtype))


def _resized(img: np.ndarray, shrink: float) -> np.ndarray:
    """(H, W, C), smaller, by the mean of what falls together."""
    height, width = (max(1, math.floor(side * shrink + .5)) for side in img.shape[:2])
    return cv2.resize(img, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, img.shape[2])


def _sized(img: np.ndarray, like: np.ndarray) -> np.ndarray:
    """(H, W, C) in the size of another picture."""
    height, width = like.shape[:2]
    how = cv2.INTER_LINEAR if height > len(img) else cv2.INTER_AREA
    return cv2.resize(img, (width, height), interpolation=how).reshape(height, width, img.shape[2])

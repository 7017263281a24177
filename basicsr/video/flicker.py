"""Light that stays steady from frame to frame: the global light of results, smoothed over time.

A network judges each frame by itself, and grain or a passing shadow make it brighten one a little more than the next. Here
the light of each result is compared with that of the one before, where the picture stands still; the sum of these steps is
averaged over the frames around, and each result gets the difference in stops. A light that rises or falls evenly stays as it
is, as the weights are the same on both sides.

What is smoothed is the light of results, not the stops that the network brings: where the clip itself flickers, networks even
that out for the most part, and steady stops would bring it back.
"""
from __future__ import annotations

from collections import deque
from typing import Generic, NamedTuple, TypeVar

import cv2
import numpy as np

from basicsr.utils.srgb import srgb_to_linear

_FIELDS, _LARGE_FIELDS = 32, 8  # along the long side; of large ones grain leaves the light alone in the darkest clips, too
# stops by which what stands still may change unlike most; as many times their median, by grain alone
_STILL, _GRAIN = .5, 4 * 1.4826
_CUT, _BLACK = .5, 1e-4  # stops by which another scene differs; of white, what is darker counts as this
_POWER, _OFFSET = 2.4, .055  # of sRGB's curve: values and offset grow by 2**(stops / power)

Result = TypeVar('Result')


def fields_of(img: np.ndarray, number: int = _FIELDS) -> np.ndarray:
    """The mean values of a picture (H, W, C) in fields, so many along its long side."""
    height, width = img.shape[:2]
    shrink = max(1., max(height, width) / number)
    small = cv2.resize(img, (max(1, round(width / shrink)), max(1, round(height / shrink))),
                       interpolation=cv2.INTER_AREA)
    return small.mean(axis=2) if small.ndim == 3 else small


def step_of(before: np.ndarray, now: np.ndarray) -> float:
    """Stops by which a picture is brighter than the one before, from the fields of both.

    It is the mean brightness that counts, without the fields that change unlike most: they hold what moves.
    """
    before, now = before + _OFFSET, now + _OFFSET
    change = _POWER * np.log2(now / before)
    unlike = np.abs(change - np.median(change))
    still = unlike <= max(_STILL, _GRAIN * np.median(unlike))
    return float(_POWER * np.log2(now[still].sum() / before[still].sum()))


def is_cut(before: np.ndarray, now: np.ndarray) -> bool:
    """Whether a frame shows another scene than the one before, or a light switched on or off, from large fields of both.

    A light that is another everywhere counts half: a stop is a switch, and less is a lamp that sways.
    """
    first, second = (np.log2(srgb_to_linear(fields) + _BLACK) for fields in (before, now))
    change = second - first
    light = np.median(change)
    return float(np.abs(change - light).mean() + abs(light) / 2) > _CUT


class Light:
    """The light of results, followed from frame to frame."""

    def __init__(self) -> None:
        self._seen: tuple[np.ndarray, np.ndarray] | None = None  # fields of the frame before, and of its result
        self._stops = 0.

    def of(self, frame: np.ndarray, result: np.ndarray) -> tuple[float, bool]:
        """The light of the next result in stops, from the beginning of the scene, and whether a scene begins with it."""
        seen, self._seen = self._seen, (fields_of(frame, _LARGE_FIELDS), fields_of(result))
        cut = seen is not None and is_cut(seen[0], self._seen[0])
        self._stops = 0. if cut or seen is None else self._stops + step_of(seen[1], self._seen[1])
        return self._stops, cut


class _Waiting(NamedTuple, Generic[Result]):
    time: float
    stops: float
    result: Result


class Steady(Generic[Result]):
    """Results in, and out again with the stops that each is to be brighter, a little later.

    Args:
        seconds: of the window around each frame, weights falling to both ends; 0: nothing changes.
        ahead: results that may wait, which bounds the memory; what comes later then counts less.
    """

    def __init__(self, seconds: float, ahead: int):
        self.half, self.ahead = seconds / 2, ahead
        self._past: deque[tuple[float, float]] = deque()
        self._waiting: deque[_Waiting[Result]] = deque()

    def add(self, time: float, stops: float, result: Result, cut: bool = False) -> list[tuple[Result, float]]:
        """The next frame, at a time in seconds, and its light in stops. `cut`: a scene begins with it."""
        done = self.rest() if cut else []
        if cut:
            self._past.clear()
        self._waiting.append(_Waiting(time, stops, result))
        while self._waiting and (time - self._waiting[0].time >= self.half or len(self._waiting) > self.ahead):
            done.append(self._next())
        return done

    def rest(self) -> list[tuple[Result, float]]:
        """All that still wait, as nothing of their scene follows."""
        return [self._next() for _ in range(len(self._waiting))]

    def _next(self) -> tuple[Result, float]:
        now = self._waiting[0]
        while self._past and now.time - self._past[0][0] > self.half:
            self._past.popleft()
        around = [*self._past, *((other.time, other.stops) for other in self._waiting)]
        weights = [
            max(0., 1 - abs(time - now.time) / self.half) if self.half else time == now.time for time, _ in around
        ]
        mean = float(np.average([stops for _, stops in around], weights=weights))
        self._waiting.popleft()
        self._past.append((now.time, now.stops))
        return now.result, mean - now.stops

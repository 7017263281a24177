"""How much of a network's answer a photo needs: `--strength auto`.

Three questions, each answered by a number between two ends, so that the strength is continuous in the pixels:

1. How dark is the photo, and how much light does the network find missing? A photo's light is that of its local means (the
   picture as 32 fields along its long side) which 60 % of the fields do not exceed: a lamp in a dark room is less than 40 %
   of it, the sky of a sunset is more. The stops from there to white and the stops that the network brings are added: 2.5
   and 0 for a picture around mid-grey. From 3.75 to 4.75 stops, "needs nothing" becomes "needs all".
2. Does the network bring light to this photo?
3. Can it be believed, because it leaves a well-lit photo alone? That is tried on the photo itself, made small and bright.

    strength = missing * (need or else trust)

What the result clips and the photo does not is not asked: white walls of dark rooms are to be white.

The numbers were chosen on training pairs of LOL-v1: dark photos, bright ones, and those darkened.

That is asked of networks that bring light. Whether one does is tried on the photo made small and dark: others, such as those
against rain or noise, are taken as they are.
"""
from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from basicsr.inference.light import exposed
from basicsr.photos.profiles import luma
from basicsr.utils.srgb import srgb_to_linear

_FIELDS, _SHARE = 32, 60  # along the long side; percentile
_NEED = 3.75, 4.75  # stops, from the photo's light to white and those that the network brings
_MISSING = .25, .75  # stops that the network brings
_LIT, _TOO_MUCH = -2., (.2, .4)  # stops, of a photo that need not be brighter, and that a network may bring to it
_NIGHT, _SMALL, _BRINGS = -6., 160, (.5, 1.5)  # stops; pixels; stops that a network brings in the dark
_BLACK = 1e-4  # of white


def auto_strength(restore: Any, before: np.ndarray, after: np.ndarray, exposure: float = 0.) -> float:
    """0 to 1; exactly 1 for dark photos.

    Args:
        restore: the network, see `restore_photo`.
        before: the photo, sRGB (H, W, 3) in [0, 1]. after: the network's answer, brighter by `exposure` stops.
    """
    if before.shape[:2] != after.shape[:2] or getattr(restore, 'enlarges', False):
        return 1.  # which can only be taken as it is
    light = light_of(before)
    brought = light_of(after) - exposure - light
    need, missing = _between(brought - light, *_NEED), _between(brought, *_MISSING)
    if need * missing == 1:
        return 1.
    small = _small(before)
    if missing and need < 1:
        need = 1 - (1 - need) * _between(_brings(restore, small, max(0., _LIT - light)), *_TOO_MUCH)
    strength = 1 - _between(_brings(restore, small, min(0., _NIGHT - light)), *_BRINGS) * (1 - missing * need)
    return strength if .005 < strength < .995 else float(round(strength))


def light_of(img: np.ndarray) -> float:
    """Stops, white at 0, of the light of a picture (H, W, 1 or 3): the bright end of its darker 60 %."""
    height, width = img.shape[:2]
    light = srgb_to_linear(luma(np.broadcast_to(img, (height, width, 3))))[..., 0]
    shrink = max(1., max(height, width) / _FIELDS)
    fields = cv2.resize(light, (max(1, round(width / shrink)), max(1, round(height / shrink))),
                        interpolation=cv2.INTER_AREA)
    return float(np.log2(np.percentile(fields, _SHARE) + _BLACK))


def in_words(strength: float) -> str:
    """What a strength below 1 says of a photo."""
    return f"is {'bright' if strength < .5 else 'partly bright'} already, strength {strength:.2g}"


def _small(img: np.ndarray) -> np.ndarray:
    shrink = min(1., _SMALL / max(img.shape[:2]))
    return cv2.resize(img, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if shrink < 1 else img


def _brings(restore: Any, img: np.ndarray, stops: float) -> float:
    """Stops that the network brings to a picture of so many stops more."""
    img = exposed(img, stops).clip(0, 1)
    return light_of(restore(img)) - light_of(img)


def _between(value: float, no: float, yes: float) -> float:
    """0 at `no`, 1 at `yes`, a straight line between."""
    return float(np.clip((value - no) / (yes - no), 0, 1))

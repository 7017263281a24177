"""Colour profiles: from a photo's own colours to sRGB, in which networks work, and back."""
from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from basicsr.photos.photo import Metadata
from basicsr.utils.srgb import LUMA, linear_to_srgb

_BLACK_POINT = 0x2000  # of inks, whose black is none
_RELATIVE = 1  # colorimetric, the intent of lossless ways between screens
_CHANNELS = {b'RGB ': 3, b'GRAY': 1, b'CMYK': 4}
_NAMES = {3: 'rgb', 1: 'gray', 4: 'cmyk'}
# D50, as TIFF has it, to the primaries of sRGB
_FROM_XYZ = np.array(
    ((3.1338561, -1.6168667, -.4906146), (-.9787684, 1.9161415, .0334540), (.0719453, -.2289914, 1.4052427)))
_D50 = np.array((.96422, 1, .82521))


class Colours:
    """The way between the colours of a photo and sRGB.

    Args:
        icc: the profile; b'' is sRGB.
        channels: of the photo, 1 or 3.

    Attributes:
        remark: why the profile is not used, in words; ''.
        same: the photo's colours are sRGB, so that nothing has to be done.
    """

    def __init__(self, icc: bytes, channels: int):
        self.icc, self.remark = icc, ''
        self.space = _CHANNELS.get(icc[16:20], 0)  # channels that the profile speaks of
        self.same = not icc
        if not icc:
            return
        if self.space not in (1, 3) or (self.space == 1 and channels == 3):
            self._unused(f'is one of other colours ({icc[16:20].decode("latin-1").strip() or "none"})')
            return
        try:
            self.same = _is_srgb(icc, self.space)
        except _failures() as error:
            self._unused(f'cannot be used ({error})')

    def _unused(self, why: str) -> None:
        self.same, self.remark = True, f'its colour profile {why}, so its colours are taken as sRGB'

    def to_srgb(self, img: np.ndarray) -> np.ndarray:
        """(H, W, 1|3) float32 to sRGB (H, W, 3); what lies outside sRGB is below 0 or above 1."""
        if self.same:
            return np.repeat(img, 3, axis=2) if img.shape[2] == 1 else img
        if self.space == 3 and img.shape[2] == 1:  # some programs write grey photos with a profile of colours
            img = np.repeat(img, 3, axis=2)
        return _transform(img, self.icc, srgb(), self.space, 3)

    def from_srgb(self, img: np.ndarray, channels: int) -> np.ndarray:
        """The opposite, to 1 or 3 channels of the photo's own."""
        if channels == 1 and (self.same or self.space == 1):
            grey = luma(img)
            return grey if self.same else _transform(np.repeat(grey, 3, axis=2), srgb(), self.icc, 3, 1)
        out = img if self.same else _transform(img, srgb(), self.icc, 3, self.space)
        return luma(out) if channels == 1 else np.repeat(out, 3, axis=2) if out.shape[2] == 1 else out


def luma(img: np.ndarray) -> np.ndarray:
    """(H, W, 3) to the (H, W, 1) that looks as bright; equal channels stay exactly what they are."""
    red = img[..., :1]
    return red + ((img[..., 1:2] - red) * np.float32(LUMA[1]) + (img[..., 2:] - red) * np.float32(LUMA[2]))


@lru_cache(maxsize=1)
def srgb() -> bytes:
    import imagecodecs
    return bytes(imagecodecs.cms_profile('srgb'))


def _failures() -> tuple[type[Exception], ...]:
    import imagecodecs
    return imagecodecs.CmsError, ValueError, TypeError


@lru_cache(maxsize=16)
def _is_srgb(icc: bytes, channels: int) -> bool:
    """Whether a profile is sRGB but for rounding: its colours differ by less than a half of an eighth bit."""
    steps = np.linspace(0, 1, 9 if channels == 3 else 256, dtype=np.float32)
    grid = np.stack(np.meshgrid(*[steps] * channels), axis=-1).reshape(1, -1, channels)
    same = np.repeat(grid, 3, axis=2) if channels == 1 else grid
    return bool(np.abs(_transform(grid, icc, srgb(), channels, 3) - same).max() < .5 / 255)


def _transform(img: np.ndarray, source: bytes, target: bytes, channels: int, out: int, flags: int = 0) -> np.ndarray:
    import imagecodecs
    array = np.ascontiguousarray(img[..., 0] if channels == 1 else img)
    done: Any = imagecodecs.cms_transform(array, source, target, colorspace=_NAMES[channels], outcolorspace=_NAMES[out],
                                          planar=False, outplanar=False, outdtype=np.float32, intent=_RELATIVE,
                                          flags=flags)
    return done[..., None] if out == 1 else done


def without_inks(pixels: np.ndarray, meta: Metadata) -> tuple[np.ndarray, Metadata, str]:
    """CMYK (H, W, 4), uint8 or uint16 with full ink at the peak, to sRGB of the same type; without its profile, and why."""
    peak = np.iinfo(pixels.dtype).max
    img, remark = None, 'is of inks (CMYK) and becomes RGB'
    if meta.icc[16:20] == b'CMYK':
        try:
            img = _transform(pixels, meta.icc, srgb(), 4, 3, _BLACK_POINT)
        except _failures():
            remark += '; its colour profile cannot be used'
    if img is None:
        light = 1 - pixels.astype(np.float32) / np.float32(peak)
        img = light[..., :3] * light[..., 3:]
    return np.rint(img.clip(0, 1) * peak).astype(pixels.dtype), replace(meta, icc=b''), remark


def from_lab(lab: np.ndarray) -> np.ndarray:
    """L* a* b* under D50 (L from 0 to 100), (H, W, 3), to sRGB in 16 bits."""
    fy = (lab[..., 0].astype(np.float64) + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500., fy, fy - lab[..., 2] / 200.], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29)**2 * (f - 4 / 29)) * _D50
    return np.rint(linear_to_srgb((xyz @ _FROM_XYZ.T).clip(0, 1)) * 65535).astype(np.uint16)

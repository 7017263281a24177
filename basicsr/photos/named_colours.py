"""Colours that a file names without holding their profile: by the numbers of ITU-T H.273, or in chunks of a PNG.

HEIC, AVIF and the cICP chunk of PNG have such numbers. A profile is made of them, so that the photo keeps its colours
in any format.
"""
from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from basicsr.utils.srgb import srgb_to_linear

_WHITE = (.3127, .3290)  # D65, where nothing else is said
_SRGB = (.640, .330, .300, .600, .150, .060)
# H.273, table 2: x and y of red, green and blue, and of white where that is another
_PRIMARIES = {
    4: (.670, .330, .210, .710, .140, .080, .310, .316),
    5: (.640, .330, .290, .600, .150, .060),
    6: (.630, .340, .310, .595, .155, .070),
    7: (.630, .340, .310, .595, .155, .070),
    9: (.708, .292, .170, .797, .131, .046),
    11: (.680, .320, .265, .690, .150, .060, .314, .351),
    12: (.680, .320, .265, .690, .150, .060),
}
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.}  # table 3; the curves of television are taken as that of sRGB, as browsers do
_HDR = (16, 18)  # the curves of PQ and HLG
_AS_SRGB = .45455  # what a PNG of sRGB's curve says of it
_CLOSE = .003


def by_numbers(primaries: int, transfer: int) -> tuple[bytes, str]:
    """The profile that H.273's numbers stand for, b'' for sRGB and what is unknown; and what is wrong with it, in words."""
    if transfer in _HDR:
        return b'', 'is of the colours of HDR screens, which are taken as sRGB'
    gamma = _GAMMAS.get(transfer)
    places = _PRIMARIES.get(primaries, () if gamma is None else _SRGB)
    return (_profile(places, gamma) if places else b''), ''


def of_png(chunks: Mapping[bytes, bytes], grey: bool) -> tuple[bytes, str]:
    """The same for a PNG without a profile. Of its chunks cICP comes first, then sRGB, then gAMA and cHRM."""
    named, gamma, places = (chunks.get(key, b'') for key in (b'cICP', b'gAMA', b'cHRM'))
    if len(named) == 4 and not grey:
        return by_numbers(named[0], named[1])
    if b'sRGB' in chunks:
        return b'', ''
    power = int.from_bytes(gamma, 'big') / 1e5 or _AS_SRGB
    if grey:
        return (b'' if abs(power - _AS_SRGB) < _CLOSE else _grey(1 / power)), ''
    white_first = np.array(struct.unpack('>8I', places)) / 1e5 if len(places) == 32 else np.array((*_WHITE, *_SRGB))
    usual = np.abs(white_first - (*_WHITE, *_SRGB)).max() < _CLOSE
    if usual and abs(power - _AS_SRGB) < _CLOSE:
        return b'', ''
    return _profile((*map(float, white_first[2:]), *map(float, white_first[:2])), 1 / power), ''


@lru_cache(maxsize=16)
def _profile(places: tuple[float, ...], gamma: float | None) -> bytes:
    """`places`: x and y of the primaries, and of white where it is not D65. `gamma`: None for the curve of sRGB."""
    import imagecodecs
    white = (*(places[6:] or _WHITE), 1.)
    primaries = (*places[:2], 1., *places[2:4], 1., *places[4:6], 1.)
    curve = srgb_to_linear(np.linspace(0, 1, 512)).astype(np.float32) if gamma is None else None
    try:
        return bytes(
            imagecodecs.cms_profile('rgb', whitepoint=white, primaries=primaries, gamma=gamma, transferfunction=curve))
    except (imagecodecs.CmsError, ValueError):  # places of no colours
        return b''


@lru_cache(maxsize=16)
def _grey(gamma: float) -> bytes:
    import imagecodecs
    return bytes(imagecodecs.cms_profile('gray', gamma=gamma))

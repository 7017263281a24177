"""Colours that a file names without holding their profile: by the numbers of ITU-T H.273, or in chunks of a PNG.

HEIC, AVIF and the cICP chunk of PNG have such numbers. A profile is made of them, so that the photo keeps its colours
in any format.
"""
from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

_WHITE = (.3127, .3290)  # D65, where nothing else is said
_SRGB = (.640, .330, .300, .600, .150, .060)
# H.273, table 2: x and y of red, green and blue, and of white where that is another
_PRIMARIES = {
    1: _SRGB,
    4: (.670, .330, .210, .710, .140, .080, .310, .316),
    5: (.640, .330, .290, .600, .150, .060),
    6: (.630, .340, .310, .595, .155, .070),
    7: (.630, .340, .310, .595, .155, .070),
    8: (.681, .319, .243, .692, .145, .049, .310, .316),
    9: (.708, .292, .170, .797, .131, .046),
    11: (.680, .320, .265, .690, .150, .060, .314, .351),
    12: (.680, .320, .265, .690, .150, .060),
    22: (.630, .340, .295, .605, .155, .077),
}
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.}  # table 3
_AS_SRGB = (1, 6, 7, 11, 12, 13, 14, 15)  # sRGB, and the curves of television, which are taken as it, as browsers do
_HDR = (16, 18)  # the curves of PQ and HLG
_UNSAID = (0, 2)
_USUAL_POWER, _CLOSE = .45455, .003  # what a PNG of sRGB's curve says of it
_POWERS = (.1, 10.)  # of which one may be meant
# ICC's parametric curve number 3 with the constants of sRGB
_CURVE = struct.pack('>4sIHH5i', b'para', 0, 3, 0,
                     *(round(value * 65536) for value in (2.4, 1 / 1.055, .055 / 1.055, 1 / 12.92, .04045)))


def by_numbers(primaries: int, transfer: int, grey: bool) -> tuple[bytes, str] | None:
    """The profile that H.273's numbers stand for, b'' for sRGB, and what is wrong with it, in words.

    None where they say nothing.
    """
    if transfer in _HDR:
        return b'', 'is of the colours of HDR screens, which are taken as sRGB'
    if primaries in _UNSAID and transfer in _UNSAID:
        return None
    if primaries not in (*_UNSAID, *_PRIMARIES) or transfer not in (*_UNSAID, *_AS_SRGB, *_GAMMAS):
        return b'', f'names its colours by numbers that are not known ({primaries}, {transfer}), which are taken as sRGB'
    gamma, places = _GAMMAS.get(transfer), _PRIMARIES.get(primaries, _SRGB)
    if gamma is None and (grey or places == _SRGB):
        return b'', ''
    return (_grey(gamma) if grey and gamma else _profile(places, gamma)), ''


def of_png(chunks: Mapping[bytes, bytes], icc: bytes, grey: bool) -> tuple[bytes, str]:
    """The same for a PNG with the profile `icc`. Of its chunks cICP comes first, then the profile, sRGB, gAMA and cHRM."""
    named = chunks.get(b'cICP', b'')
    said = by_numbers(named[0], named[1], grey) if len(named) == 4 else None
    if said is not None:
        return said
    if icc or b'sRGB' in chunks:
        return icc, ''
    gamma, places = chunks.get(b'gAMA', b''), chunks.get(b'cHRM', b'')
    power = int.from_bytes(gamma, 'big') / 1e5 if len(gamma) == 4 else _USUAL_POWER
    if not _POWERS[0] <= power <= _POWERS[1]:
        return b'', 'says of its gamma what cannot be, so its colours are taken as sRGB'
    curved = abs(power - _USUAL_POWER) >= _CLOSE
    if grey:
        return (_grey(1 / power) if curved else b''), ''
    white_first = np.array(struct.unpack('>8I', places)) / 1e5 if len(places) == 32 else np.array((*_WHITE, *_SRGB))
    if not curved and np.abs(white_first - (*_WHITE, *_SRGB)).max() < _CLOSE:
        return b'', ''
    if not _are_colours(white_first):
        return b'', 'says of its colours what cannot be, so they are taken as sRGB'
    return _profile((*map(float, white_first[2:]), *map(float, white_first[:2])), 1 / power), ''


def _are_colours(places: np.ndarray) -> bool:
    """Whether x and y of white, red, green and blue are places in the diagram, and the last three span a part of it."""
    x, y = places[::2], places[1::2]
    area = (x[2] - x[1]) * (y[3] - y[1]) - (x[3] - x[1]) * (y[2] - y[1])
    return bool(y[0] > .05 and (places >= 0).all() and (x + y <= 1.01).all() and abs(area) > .01)


@lru_cache(maxsize=16)
def _profile(places: tuple[float, ...], gamma: float | None) -> bytes:
    """`places`: x and y of the primaries, and of white where it is not D65. `gamma`: None for the curve of sRGB."""
    import imagecodecs
    primaries = (*places[:2], 1., *places[2:4], 1., *places[4:6], 1.)
    profile = bytearray(
        imagecodecs.cms_profile('rgb', whitepoint=(*(places[6:] or _WHITE), 1.), primaries=primaries, gamma=gamma
                                or 1.))
    if gamma is None:
        for entry in range(132, 132 + 12 * struct.unpack_from('>I', profile, 128)[0], 12):
            if profile[entry:entry + 4] in (b'rTRC', b'gTRC', b'bTRC'):
                struct.pack_into('>II', profile, entry + 4, len(profile), len(_CURVE))
        profile += _CURVE
        struct.pack_into('>I', profile, 0, len(profile))
    return bytes(profile)


@lru_cache(maxsize=16)
def _grey(gamma: float) -> bytes:
    import imagecodecs
    return bytes(imagecodecs.cms_profile('gray', gamma=gamma))

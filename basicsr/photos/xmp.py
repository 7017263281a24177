"""XMP packets: what of them is no longer true of new pixels."""
from __future__ import annotations

import re

_ORIENTATION = re.compile(rb'(tiff:Orientation(?:\s*=\s*["\']|>))\d')
_WIDTH, _HEIGHT = (re.compile(rb'((?:tiff:Image%b|exif:Pixel%bDimension)(?:\s*=\s*["\']|>))\d+' % words)
                   for words in ((b'Width', b'X'), (b'Length', b'Y')))
_THUMBNAILS = re.compile(rb'<(xmp:Thumbnails|xap:Thumbnails)\b.*?</\1>', re.DOTALL)
_GAIN_MAP = re.compile(rb'\s+hdrgm:[A-Za-z]+\s*=\s*(?:"[^"]*"|\'[^\']*\')')  # as attributes, where phones write it
_CONTAINER = re.compile(rb'<(Container:Directory|GContainer:Directory)\b.*?</\1>', re.DOTALL)


def renewed(packet: bytes, height: int, width: int, turned: bool) -> bytes:
    """The same for pixels of this size: without thumbnails and what refers to further images behind the photo's.

    `turned`: the pixels were turned upright, so that no program may do it again.
    """
    for pattern in (_THUMBNAILS, _GAIN_MAP, _CONTAINER):
        packet = pattern.sub(b'', packet)
    packet = _HEIGHT.sub(rb'\g<1>%d' % height, _WIDTH.sub(rb'\g<1>%d' % width, packet))
    return _ORIENTATION.sub(rb'\g<1>1', packet) if turned else packet


def has_gain_map(packet: bytes) -> bool:
    """Whether a photo has a second image that says how bright a bright screen may show it."""
    return b'hdrgm:Version' in packet

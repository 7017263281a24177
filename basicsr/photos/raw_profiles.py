"""EXIF, XMP, profile and IPTC among the text of a PNG, as ImageMagick writes them: hexadecimal digits behind three lines."""
from __future__ import annotations

from collections.abc import Mapping

_BEGIN = 'Raw profile type '
_KINDS = ('exif', 'app1', 'xmp', 'icc', 'icm', 'iptc', '8bim')
_XMP = b'http://ns.adobe.com/xap/1.0/\0'  # begins an APP1 that is no EXIF


def decoded(text: Mapping[str, str]) -> dict[str, bytes]:
    """What entries hold, by their keywords; without those that are any other text."""
    found = {key: _bytes_of(value) for key, value in text.items() if key.startswith(_BEGIN) and _kind(key) in _KINDS}
    return {key: value for key, value in found.items() if value}


def by_kind(found: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same by 'exif', 'xmp', 'icc' and 'iptc', which may be a resource of Photoshop."""
    kinds = {_kind(key): value for key, value in found.items()}
    app1 = kinds.get('app1', b'')
    is_xmp = app1.startswith(_XMP)
    return {
        'exif': kinds.get('exif') or (b'' if is_xmp else app1),
        'xmp': kinds.get('xmp') or (app1[len(_XMP):] if is_xmp else b''),
        'icc': kinds.get('icc') or kinds.get('icm', b''),
        'iptc': kinds.get('8bim') or kinds.get('iptc', b''),
    }


def encoded(kind: str, data: bytes) -> bytes:
    """Keyword and text of an entry, with a zero between."""
    digits = data.hex()
    lines = '\n'.join(digits[at:at + 72] for at in range(0, len(digits), 72))
    return f'{_BEGIN}{kind}\0\n{kind}\n{len(data):8d}\n{lines}\n'.encode()


def _kind(key: str) -> str:
    return key.removeprefix(_BEGIN).lower()


def _bytes_of(text: str) -> bytes:
    try:
        return bytes.fromhex(''.join(text.split('\n')[3:]))
    except ValueError:
        return b''

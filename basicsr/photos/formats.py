"""What formats of photos there are, by what they are known, and what each of them holds: one table, a row for each."""
from __future__ import annotations

import re
from typing import NamedTuple

from basicsr.photos import exif
from basicsr.utils.errors import UserError, nearest
from basicsr.utils.image_header import read_header

_RAW = (
    '.dng .nef .nrw .cr2 .cr3 .crw .arw .srf .sr2 .raf .rw2 .orf .pef .srw .x3f .3fr .fff .iiq .erf .kdc .dcr .mrw .rwl .mos'
    ' .mef .raw')
_DATA = ('profile', 'EXIF', 'XMP', 'IPTC', 'resolution', 'comment', 'text'
         )  # what a photo has beside its pixels, in this order


class Format(NamedTuple):
    """A row of the table.

    Attributes:
        suffixes: the first is that of new files.
        bits: the most per channel that are written.
        holds: of `alpha`, `grey`, `pages` or `frames`, and of what a photo has beside its pixels.
        extra: without which it can neither be read nor written. module: the package that this extra installs.
        reading: a word on what is read. writing: a word on how it is written; '' where it is not.
    """
    name: str
    suffixes: tuple[str, ...]
    bits: int
    holds: frozenset[str]
    reading: str
    writing: str
    extra: str = ''
    module: str = ''


def _row(name: str, suffixes: str, bits: int, holds: str, reading: str, writing: str, extra: str = '',
         module: str = '') -> Format:
    return Format(name, tuple(suffixes.split()), bits, frozenset(holds.split()), reading, writing, extra, module)


JPEG = _row('JPEG', '.jpg .jpeg .jfif .jpe', 8, 'grey profile EXIF XMP IPTC resolution comment', 'grey, RGB, CMYK',
            'with the tables and the subsampling of a JPEG input, else quality 95, 4:4:4')
PNG = _row('PNG', '.png .apng', 16, 'grey alpha frames profile EXIF XMP IPTC resolution comment text',
           '1 to 16 bits, palettes, animations', 'lossless')
WEBP = _row('WebP', '.webp', 8, 'alpha frames profile EXIF XMP', 'animations',
            'lossy or lossless, and of the quality of a WebP input, else quality 90')
TIFF = _row('TIFF', '.tif .tiff', 32, 'grey alpha pages profile EXIF XMP IPTC resolution',
            '1 to 32 bits, float, planes, tiles, pages, palettes, CMYK, Lab, YCbCr',
            'with the compression and the layout of a TIFF input')
BMP = _row('BMP', '.bmp .dib', 8, 'grey resolution', 'palettes', 'lossless')
GIF = _row('GIF', '.gif', 8, 'grey alpha frames comment', 'animations', 'with 256 colours')
NETPBM = _row('PPM', '.ppm .pgm .pnm .pbm', 16, 'grey', 'P1 to P6',
              'binary; `.pgm` for grey photos alone; `.pbm` as `.pgm`')
JPEG_2000 = _row('JPEG 2000', '.jp2', 16, 'grey alpha profile EXIF XMP', '1 to 16 bits',
                 'lossless, but for lossy inputs: 45 dB')
CODESTREAM = _row('JPEG 2000 codestream', '.j2k .j2c', 16, 'grey alpha', '1 to 16 bits', 'as JPEG 2000')
AVIF = _row('AVIF', '.avif', 12, 'alpha frames profile EXIF XMP', '8 to 12 bits, animations',
            'quality 90, with the subsampling of an AVIF input of 8 bits')
HEIC = _row('HEIC', '.heic .heif .hif', 12, 'alpha pages profile EXIF XMP', '8 to 12 bits, several images',
            'quality 90, with the subsampling of a HEIC input', 'heic', 'pillow_heif')
RAW = _row('camera RAW', _RAW, 16, '', "the camera's white balance and black level", '', 'raw', 'rawpy')

FORMATS = (JPEG, PNG, WEBP, TIFF, BMP, GIF, NETPBM, JPEG_2000, CODESTREAM, AVIF, HEIC, RAW)
_BY_SUFFIX = {suffix: row for row in FORMATS for suffix in row.suffixes}
ONLY_GREY, _BITMAP = '.pgm', '.pbm'
WRITTEN = tuple(suffix for suffix, row in _BY_SUFFIX.items() if row.writing and suffix != _BITMAP)

_NETPBM = re.compile(rb'P[1-6](?:\s|#)')
_MAGIC = ((b'\xff\xd8\xff', JPEG), (b'\x89PNG\r\n\x1a\n', PNG), (b'GIF87a', GIF), (b'GIF89a', GIF), (b'BM', BMP),
          (b'\0\0\0\x0cjP  ', JPEG_2000), (b'\xff\x4f\xff\x51', CODESTREAM), (b'FUJIFILMCCD-RAW', RAW), (b'\0MRM', RAW),
          (b'FOVb', RAW), (b'IIRO', RAW), (b'IIRS', RAW), (b'MMOR', RAW), (b'IIU\0', RAW))
_TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_SENSOR = (32803, 34892)  # what a TIFF that is a camera's RAW file says of its pixels
_HEIC_BRANDS = (b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1')


def by_suffix(suffix: str) -> Format | None:
    """The row that a file's name says; None for other names."""
    return _BY_SUFFIX.get(suffix.lower())


def by_content(data: bytes) -> Format | None:
    """The row that a file's bytes say, whatever its name says; None for what is no photo."""
    found = next((row for magic, row in _MAGIC if data.startswith(magic)), None)
    if found is not None:
        return found
    if data[:4] == b'RIFF' and data[8:12] == b'WEBP':
        return WEBP
    if data[:4] in _TIFF:
        return RAW if data[8:10] == b'CR' or set(exif.photometrics(data)) & set(_SENSOR) else TIFF
    if data[6:14] == b'HEAPCCDR':
        return RAW
    if data[4:8] == b'ftyp':
        return _by_brand(data)
    return NETPBM if _NETPBM.match(data) else None


def _by_brand(data: bytes) -> Format | None:
    """Of a file in ISO's container: what its brands say."""
    brands = data[8:int.from_bytes(data[:4], 'big')]
    found = {brands[at:at + 4] for at in range(0, min(len(brands), 400), 4)}
    if data[8:12] == b'crx ':
        return RAW
    if found & {b'avif', b'avis'}:
        return AVIF
    return HEIC if found & set(_HEIC_BRANDS) else None


def suffix_for(suffix: str, data: bytes) -> str:
    """The suffix of what is made of a photo whose own is not written, or unknown. `data`: the beginning of its file."""
    row = by_suffix(suffix) or by_content(data) or PNG
    if row is NETPBM:
        return ONLY_GREY if read_header(data).kind.startswith('grey') else NETPBM.suffixes[0]
    return row.suffixes[0] if row.writing else PNG.suffixes[0]


def of_output(path: str, suffix: str) -> Format:
    """The format in which a file of that suffix is written. Raises `UserError`, before anything is computed."""
    row = by_suffix(suffix)
    if row is None:
        hint = nearest(suffix, WRITTEN)
        raise UserError(f"cannot write '{path}': unknown image type '{suffix}'; one of: {', '.join(WRITTEN)}" +
                        (f'.{hint}' if hint else ''))
    if suffix.lower() == _BITMAP:
        raise UserError(
            f"cannot write '{path}': .pbm files, of black and white without grey, are only read; choose .pgm")
    if not row.writing:
        raise UserError(f"cannot write '{path}': {row.name} files are only read; choose .png or .tif")
    needs(row, path)
    return row


def needs(row: Format, path: str) -> None:
    """Raise `UserError` where a format's package is not installed."""
    from importlib.util import find_spec
    if row.module and find_spec(row.module) is None:
        raise UserError(f"'{path}' is {row.name}; to read or write it: pip install 'retinexmamba[{row.extra}]'")


def check_grey(name: str, suffix: str, grey: bool) -> None:
    """Raise `UserError` where a photo in colours is to be written as .pgm."""
    if suffix.lower() == ONLY_GREY and not grey:
        raise UserError(f"cannot write '{name}': .pgm holds grey images; choose .ppm or .png")


def beside(held: dict[str, bool], row: Format) -> list[str]:
    """Of what a photo has beside its pixels, by name in the table, what a format does not hold."""
    return [name for name in _DATA if held.get(name) and name not in row.holds]


def markdown() -> str:
    """The table of the documentation."""
    lines = ['| format | names | read | written | bits | kept |', '|---|---|---|---|---|---|']
    for row in FORMATS:
        names = ' '.join(f'`{suffix}`' for suffix in row.suffixes[:4])
        more = f' and {len(row.suffixes) - 4} more' if len(row.suffixes) > 4 else ''
        needed = f'; needs the extra `{row.extra}`' if row.extra else ''
        kept = ', '.join(name for name in ('alpha', 'pages', 'frames', *_DATA) if name in row.holds)
        lines.append(
            f"| {row.name} | {names}{more} | {row.reading}{needed} | {row.writing or 'no; as .png'} | {row.bits} |"
            f" {kept or 'pixels alone'} |")
    return '\n'.join(lines)

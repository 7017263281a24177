"""Whether a photo's file is whole: cut off, or damaged amid its pixels, of which decoders make a picture all the same."""
from __future__ import annotations

from basicsr.photos import formats
from basicsr.utils import tiff
from basicsr.utils.errors import UserError
from basicsr.utils.image_header import CUT_OFF, read_header
from basicsr.utils.notes import doubt
from basicsr.utils.zero_runs import longest_zeros

_HEARD = (formats.JPEG, formats.PNG, formats.TIFF, formats.WEBP, formats.JPEG_2000, formats.CODESTREAM)
_UNKNOWN = 'decoding is not implemented'  # says libtiff
_CONTAINERS = (formats.AVIF, formats.HEIC)


def check(data: bytes, row: formats.Format, name: str) -> None:
    """Raise `UserError` for bytes of this format that are not whole; a `note` where that is only likely."""
    if row is formats.TIFF:
        _check_tiff(data, name)
    elif row is not formats.RAW and (refused := read_header(data).refused):
        raise UserError(f"'{name}' {refused}")
    if row in _HEARD:
        _listen(data, row, name)
    header = read_header(data)
    if header.surplus and row is not formats.TIFF:
        doubt(f"'{name}' {header.odd_length()}")


def check_zeros(data: bytes, row: formats.Format, pixels: int, name: str) -> None:
    """A `note` for an empty block amid the pixels of formats that have no checksums. `pixels`: how many there are."""
    least = 256 + pixels // 8000
    zeros = longest_zeros(data, least)
    if row in _CONTAINERS:
        body = data[data.find(b'mdat'):]
        at = body.find(bytes(least + 1))
        zeros = len(body) - at - len(body[at:].lstrip(b'\0')) if at >= 0 else 0
    if zeros:
        doubt(f"'{name}' holds {zeros} zero bytes in a row amid its pixels")


def _check_tiff(data: bytes, name: str) -> None:
    pages, ended = tiff.chain(data)
    if not ended:
        raise UserError(
            f"'{name}' is cut off: its {'next' if pages else 'first'} page is missing (an incomplete download or copy?)"
        )
    for page in pages:
        if not tiff.complete(page, len(data)):
            raise UserError(f"'{name}' {CUT_OFF}")
        if not tiff.whole(data, page):
            raise UserError(f"'{name}' is damaged inside: its pixels do not fit their checksum")


def _listen(data: bytes, row: formats.Format, name: str) -> None:
    """Decode once more, by OpenCV, whose libraries say on stderr what they do not tell programs."""
    import cv2

    from basicsr.utils.decoder import decode, decode_pages
    try:
        if row is formats.TIFF:
            directories = tiff.directories(data)
            pages, messages = decode_pages(data, cv2.IMREAD_UNCHANGED)
            if _UNKNOWN in ' '.join(messages):
                return  # a compression that other decoders know
            # of a page that it does not know OpenCV may say anything
            heard = [messages] if len(pages) == len(directories) else []
            # what libtiff hears of libjpeg OpenCV keeps to itself before 4.13
            jpegs = (decode(jpeg, cv2.IMREAD_UNCHANGED) for tags in directories for jpeg in tiff.jpegs(data, tags))
            heard += [said for part, said in jpegs if part is not None]
        else:
            messages = decode(data, cv2.IMREAD_UNCHANGED)[1]
            heard = [messages]
    except cv2.error:
        return  # too large for OpenCV alone
    if damaged := next((said.damage for said in heard if said.damage), ''):
        raise UserError(f"'{name}' is damaged inside: {damaged}")
    if messages.doubt:
        doubt(f"'{name}': the decoder says: {messages.doubt}")

"""A photo as arrays, with all that its file says beside the pixels."""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from basicsr.photos import exif, resources, xmp

COMMENT = 'Comment'  # the keyword of text that belongs to no other

_TOO_BRIGHT = 2.  # of white, which half of a picture does not exceed


@dataclass(frozen=True)
class Metadata:
    """What a file holds beside its pixels.

    Attributes:
        exif: a TIFF structure, without a format's marker in front.
        xmp: a packet. icc: a profile. resources: those of Photoshop, among them IPTC.
        resolution: pixels per inch, across and down.
        text: keyword and text of each entry; 'Comment' is that of a JPEG or GIF. What is not UTF-8 is as Python's
            'surrogateescape' has it, so that the bytes stay.
    """
    exif: bytes = b''
    xmp: bytes = b''
    icc: bytes = b''
    resources: bytes = b''
    resolution: tuple[float, float] | None = None
    text: tuple[tuple[str, str], ...] = ()

    def held(self) -> dict[str, bool]:
        """Which there are, by the names of the table of formats."""
        return {
            'profile': bool(self.icc), 'EXIF': bool(self.exif) and exif.says_something(self.exif),
            'XMP': bool(self.xmp), 'IPTC': bool(resources.iptc(self.resources)), 'resolution': self.resolution
            is not None, 'comment': bool(self.comment), 'text': any(key != COMMENT for key, _ in self.text)
        }

    @property
    def comment(self) -> bytes:
        """What a JPEG or GIF can hold of the text."""
        return b'\n'.join(self.comments)

    @property
    def comments(self) -> list[bytes]:
        return [text.encode(errors='surrogateescape') for key, text in self.text if key == COMMENT]

    def of_new_pixels(self, pixels: np.ndarray, turned: bool) -> Metadata:
        """The same for other pixels (H, W, C): without thumbnails, which show the earlier ones. `turned`: upright by now."""
        height, width = pixels.shape[:2]
        return replace(self, exif=exif.renewed(self.exif, height,
                                               width), xmp=xmp.renewed(self.xmp, height, width, turned),
                       resources=resources.without_thumbnails(self.resources))


@dataclass
class Frame:
    """One picture of a photo, upright.

    Attributes:
        pixels: (H, W, 3) RGB or (H, W, 1) grey: uint8, uint16, or float32 in which 0 is black and 1 is white.
        alpha: (H, W) of the same type, None where all is opaque. The colours are not multiplied by it.
        duration: of a frame, in milliseconds. meta: of this page; all frames of an animation have the first one's.
    """
    pixels: np.ndarray
    alpha: np.ndarray | None = None
    duration: float = 0
    meta: Metadata = Metadata()

    @property
    def grey(self) -> bool:
        return self.pixels.shape[2] == 1


@dataclass
class Encoding:
    """How a file stores its pixels, as far as one of the same format should do it again.

    Attributes:
        bits: per channel, as stored. lossless: of WebP and JPEG 2000. quality: of WebP, None where it is not known.
        tables, sampling, progressive: of JPEG; `sampling` is Pillow's number, -1 where it has none.
        unwritten_sampling: the name of one that is not written; ''.
        compression, planar, tile, premultiplied, sample: of TIFF; `sample`: 'uint' or 'float'.
        chunks: those of PNG that say of which colours the pixels are. loop: how often an animation is shown, 0 for ever.
    """
    bits: int = 8
    lossless: bool = False
    quality: int | None = None
    tables: dict[int, list[int]] | None = None
    sampling: int = -1
    unwritten_sampling: str = ''
    progressive: bool = False
    compression: str = ''
    planar: bool = False
    tile: tuple[int, int] | None = None
    premultiplied: bool = False
    sample: str = 'uint'
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    loop: int | None = None


@dataclass
class Photo:
    """A file that was read.

    Attributes:
        format: its name in the table. frames: its pages, or the frames of its animation; at least one.
        animated: frames follow one another in time. remarks: what reading has changed, in words.
    """
    format: str
    frames: list[Frame]
    encoding: Encoding = field(default_factory=Encoding)
    animated: bool = False
    remarks: list[str] = field(default_factory=list)

    @property
    def meta(self) -> Metadata:
        return self.frames[0].meta

    @property
    def lossy(self) -> bool:
        """Whether its file keeps pixels almost; of AVIF and HEIC that is taken for granted."""
        if self.format in ('WebP', 'JPEG 2000'):
            return not self.encoding.lossless
        return self.format in ('JPEG', 'AVIF', 'HEIC') or (self.format == 'TIFF'
                                                           and self.encoding.compression in ('jpeg', 'ojpeg'))


def upright(img: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, ...) turned and mirrored as EXIF's number from 1 to 8 asks for; others leave it as it is."""
    if orientation in (5, 6, 7, 8):
        img = img.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        img = img[::-1]
    return img[:, ::-1] if orientation in (2, 3, 6, 7) else img


def full_range(img: np.ndarray, bits: int) -> np.ndarray:
    """Whole numbers of so many bits to uint8 or uint16 of the same light; more than 16 bits to float32."""
    if bits > 16:
        return (img.astype(np.float64) / (2.**bits - 1)).astype(np.float32)
    wide, dtype = (255, np.uint8) if bits <= 8 else (65535, np.uint16)
    most = (1 << bits) - 1
    return np.asarray((img.astype(np.uint32) * wide + most // 2) // most if most != wide else img, dtype)


def odd_white(pixels: np.ndarray) -> str:
    """What is odd about floating numbers (H, W, C) in which 1 should be white, in words; ''."""
    if pixels.dtype.kind != 'f' or np.median(pixels) <= _TOO_BRIGHT:
        return ''
    return (
        '1 is white in images of floating point, and most of this one is far brighter: its numbers should be divided by'
        ' their peak, 255 for instance')


def to_float(img: np.ndarray) -> np.ndarray:
    """The values of a frame as float32, in which 1 is white."""
    if img.dtype.kind != 'u':
        return img
    out = img.astype(np.float32)
    out /= np.iinfo(img.dtype).max
    return out


def from_float(img: np.ndarray, dtype: Any) -> np.ndarray:
    """The opposite of `to_float`: rounded, and clipped where the type has an end."""
    if np.dtype(dtype).kind != 'u':
        return img.astype(dtype)
    out = img.clip(0, 1)
    out *= np.iinfo(dtype).max
    return np.rint(out, out=out).astype(dtype)


def in_bits(img: np.ndarray, bits: int) -> np.ndarray:
    """The pixels of a frame as uint8 or uint16, whichever holds so many bits; 8 bits stay 8."""
    dtype = np.uint8 if bits <= 8 else np.uint16
    return img if img.dtype in (np.uint8, dtype) else from_float(to_float(img), dtype)


def stacked(frame: Frame, colour: bool = False, alpha: bool = True) -> np.ndarray:
    """(H, W, 1 to 4): the pixels with their alpha behind them; `colour`: three channels also of a grey frame."""
    pixels = np.repeat(frame.pixels, 3, axis=2) if colour and frame.grey else frame.pixels
    return np.dstack([pixels, frame.alpha]) if alpha and frame.alpha is not None else pixels

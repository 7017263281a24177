"""Frames as decoders give them to sRGB values, upright, and back in the clip's own colours."""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from av import VideoFrame
from av.sidedata.sidedata import Type
from av.video.format import VideoFormat

_BICUBIC, _ACCURATE = 4, 0x40000 | 0x2000 | 0x4000  # of swscale: exact rounding, chroma at full width
_LIMITED, _FULL = 1, 2
_UNKNOWN, _AS_RGB = 2, 0  # what a clip says of its matrix
# by AVColorSpace: the matrices of swscale
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_BT709, _BT601 = 1, 6
_HD = 720  # rows from which players take BT.709 where a clip does not say
_HDR = {16: 'PQ', 18: 'HLG'}
_RGB = 'rgb48le'


@dataclass(frozen=True)
class Colours:
    """What the numbers of a clip mean.

    Attributes:
        space, range, curve, primaries: FFmpeg's numbers, as the clip has them.
        matrix: swscale's, also where the clip names none. full: black is 0, not 16 of 255.
    """
    space: int
    range: int
    curve: int
    primaries: int
    matrix: int
    full: bool

    @property
    def hdr(self) -> str:
        """The curve of a clip for bright screens; '' of others."""
        return _HDR.get(self.curve, '')


def colours_of(frame: VideoFrame, stream: Any) -> Colours:
    """`stream`: or whatever else has its `color_trc` and `color_primaries`, which frames of older PyAV do not say."""
    space = int(frame.colorspace)
    full = int(frame.color_range) == _FULL or frame.format.name.startswith('yuvj') or frame.format.is_rgb
    usual = _BT709 if min(frame.width, frame.height) >= _HD else _BT601
    return Colours(space, int(frame.color_range), int(stream.color_trc), int(stream.color_primaries),
                   _MATRICES.get(space, _MATRICES[usual]), full)


def written_colours(colours: Colours, source: VideoFormat, target: VideoFormat) -> Colours:
    """Those of the result: the same, unless one of both is RGB."""
    if source.is_rgb == target.is_rgb:
        return colours
    if target.is_rgb:
        return Colours(_AS_RGB, _FULL, colours.curve, colours.primaries, colours.matrix, True)
    space = next(space for space in (_BT709, _BT601) if _MATRICES[space] == colours.matrix)
    return Colours(space, _LIMITED, colours.curve, colours.primaries, colours.matrix, False)


def to_rgb(frame: VideoFrame, colours: Colours) -> np.ndarray:
    """(H, W, 3) float32 in [0, 1], as the file stores it: not yet upright."""
    pixels = _converted(frame, _RGB, colours, True).to_ndarray()
    out = pixels.astype(np.float32)
    out /= _white(frame.format.name, colours)
    return out.clip(0, 1, out=out)


def from_rgb(pixels: np.ndarray, pixel_format: str, colours: Colours) -> VideoFrame:
    """The opposite, of uint16 (H, W, 3) in which 65535 is white."""
    # swscale's white is not always that of 16 bits, but the same on both ways
    white = _white(pixel_format, colours)
    scaled = np.empty(pixels.shape, np.uint16)
    np.multiply(pixels, np.float32(white / 65535), out=scaled, casting='unsafe')
    source = VideoFrame.from_ndarray(scaled, _RGB)
    if colours.space in _MATRICES:
        source.colorspace = colours.space  # PyAV 17 takes BT.2020 from here alone
    frame = _converted(source, pixel_format, colours, False)
    frame.colorspace, frame.color_range = colours.space, colours.range
    return frame


def _converted(frame: VideoFrame, pixel_format: str, colours: Colours, reading: bool) -> VideoFrame:
    own = _FULL if colours.full else _LIMITED
    return frame.reformat(format=pixel_format, src_colorspace=colours.matrix, dst_colorspace=colours.matrix,
                          src_color_range=own if reading else _FULL, dst_color_range=_FULL if reading else own,
                          interpolation=_BICUBIC | _ACCURATE)


@lru_cache(maxsize=16)
def _white(pixel_format: str, colours: Colours) -> int:
    """What swscale makes of white: 255 * 256 of 8 bits, for instance."""
    frame = VideoFrame(16, 16, pixel_format)
    if frame.format.is_rgb:
        full = VideoFrame.from_ndarray(np.full((16, 16, 3), 65535, np.uint16), _RGB)
        frame = _converted(full, pixel_format, colours, False)
    else:
        for plane, component in zip(frame.planes, frame.format.components):
            bits = component.bits
            white = (1 << bits) - 1 if colours.full else 235 << bits - 8
            value = white if component.is_luma else 1 << bits - 1
            dtype = np.dtype(np.uint16 if bits > 8 else np.uint8)
            plane.update(np.full(plane.buffer_size // dtype.itemsize, value, dtype).tobytes())
    return int(_converted(frame, _RGB, colours, True).to_ndarray()[8, 8].max())


# ---------------------------------------------------------------------------------------------- upright


def display_matrix(frame: VideoFrame) -> tuple[int, int, int, int] | None:
    """How a frame is to be turned: across and down of its columns, then of its rows; None where it lies as it is."""
    data: Any = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]
    if data is None:
        return None
    a, b, _, c, d, *_ = (int(number) for number in np.frombuffer(bytes(data), np.int32))
    matrix = tuple(int(np.sign(number)) for number in (a, b, c, d))
    return None if matrix == (1, 0, 0, 1) else matrix  # type: ignore[return-value]


def is_right_angled(matrix: tuple[int, int, int, int]) -> bool:
    a, b, c, d = matrix
    return (a == d == 0 and bool(b and c)) or (b == c == 0 and bool(a and d))


def is_sideways(matrix: tuple[int, int, int, int] | None) -> bool:
    return matrix is not None and matrix[0] == 0


def upright(img: np.ndarray, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """(H, W, C) turned and mirrored by multiples of 90 degrees."""
    if matrix is None:
        return img
    a, b, c, d = matrix
    across, down = (c, b) if is_sideways(matrix) else (a, d)
    img = img.swapaxes(0, 1) if is_sideways(matrix) else img
    img = img[:, ::-1] if across < 0 else img
    return np.ascontiguousarray(img[::-1] if down < 0 else img)

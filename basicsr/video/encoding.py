"""In which container, by which encoder and as which numbers a clip is written."""
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from av.video.format import VideoFormat

from basicsr.utils.errors import UserError, nearest

# suffix to FFmpeg's name; those that hold the time of each frame
_CONTAINERS = {
    '.mp4': 'mp4', '.m4v': 'mp4', '.mov': 'mov', '.mkv': 'matroska', '.webm': 'webm', '.ts': 'mpegts', '.mts': 'mpegts',
    '.m2ts': 'mpegts'
}
# FFmpeg's name to what players read in it; the first is taken where the clip's own is none of them
_HELD = {
    'mp4': ('h264', 'hevc', 'av1', 'vp9'), 'mov': ('h264', 'hevc'), 'matroska': ('h264', 'hevc', 'av1', 'vp9', 'ffv1'),
    'webm': ('vp9', 'av1'), 'mpegts': ('h264', 'hevc')
}


@dataclass(frozen=True)
class _Codec:
    """`encoders`: the first that PyAV has is taken. `quality`: by default. `ends`: from best to least; None: lossless."""
    encoders: tuple[str, ...]
    quality: int = 0
    ends: tuple[int, int] | None = None
    options: tuple[tuple[str, str], ...] = ()


_CODECS = {
    'h264': _Codec(('libx264', ), 18, (0, 51)),
    'hevc': _Codec(('libx265', ), 20, (0, 51), (('x265-params', 'log-level=none'), )),
    'av1': _Codec(('libsvtav1', 'libaom-av1'), 24, (1, 63)),
    'vp9': _Codec(('libvpx-vp9', ), 24, (0, 63), (('b', '0'), ('row-mt', '1'))),
    'ffv1': _Codec(('ffv1', ), options=(('level', '3'), )),
}
CODECS = tuple(_CODECS)
_EVEN = ('libx264', 'libx265')  # sides are whole numbers of their chroma samples


@dataclass(frozen=True)
class Encoding:
    """`container`: FFmpeg's name. `codec`, `encoder`, `pixel_format`, `options`: of the picture. `remarks`: what differs."""
    container: str
    codec: str
    encoder: str
    pixel_format: str
    options: dict[str, str]
    remarks: tuple[str, ...] = ()


def container_of(target: str | Path) -> str:
    """Raises `UserError` for a name that is none of a video."""
    suffix = Path(target).suffix.lower()
    if suffix not in _CONTAINERS:
        hint = nearest(suffix, _CONTAINERS) if suffix else ''
        raise UserError(f"cannot write '{target}': the suffix of a video is one of {', '.join(_CONTAINERS)}.{hint}")
    return _CONTAINERS[suffix]


def check_codec(target: str | Path, codec: str | None) -> list[str]:
    """The codecs that can be written into a file of this name. Raises `UserError` where `codec` is none of them."""
    held = _HELD[container_of(target)]
    able = [name for name in held if _encoder(name)]
    if (codec is not None and codec not in able) or not able:
        what = codec or ' or '.join(held)
        here = 'PyAV has no encoder of it here' if codec in (*held, None) else f'{Path(target).suffix} files hold none'
        raise UserError(f"cannot write '{target}' as {what}: {here}{'; one of ' + ', '.join(able) if able else ''}")
    return able


def check_quality(codec: str | None, quality: int | None) -> None:
    """Raises `UserError` for a number that no encoder, or not this one, takes."""
    if quality is None:
        return
    ends = [end for name in (CODECS if codec is None else (codec, )) if (end := _CODECS[name].ends)]
    if not ends:
        raise UserError(f'{codec} is lossless: leave out --quality')
    least, most = min(first for first, _ in ends), max(last for _, last in ends)
    if not least <= quality <= most:
        raise UserError(f'--quality is a whole number from {least} (best) to {most}, not {quality}')


def choose(target: str | Path, source_codec: str, source: VideoFormat, size: tuple[int, int], codec: str | None = None,
           quality: int | None = None) -> Encoding:
    """How the result of a clip is written.

    Args:
        size: width and height of the result. codec: a name of `CODECS`; None: the clip's own, where it can be written.

    Raises:
        UserError: where the container takes no such codec, or the codec no such picture.
    """
    container, remarks = container_of(target), list[str]()
    able = check_codec(target, codec)
    if codec is None:
        codec = source_codec if source_codec in able else able[0]
        if codec != source_codec:
            remarks.append(f'is {source_codec}, and becomes {codec}')
    check_quality(codec, quality)
    encoder, how = _encoder(codec), _CODECS[codec]
    pixel_format = _nearest(source, encoder, size)
    if pixel_format is None:
        raise UserError(f'{codec} takes no picture of {size[0]}x{size[1]} pixels; choose another --codec')
    lost = _lost(source, pixel_format)
    remarks += [f'{lost}, as {codec} is written here'] if lost else []
    options = dict(how.options)
    if how.ends:
        options['crf'] = str(how.quality if quality is None else quality)
    return Encoding(container, codec, encoder, pixel_format.name, options, tuple(remarks))


def _encoder(codec: str) -> str:
    """The encoder that PyAV has; '' where it has none."""
    for name in _CODECS[codec].encoders:
        with suppress(ValueError, LookupError):
            av.Codec(name, 'w')
            return name
    return ''


def _nearest(source: VideoFormat, encoder: str, size: tuple[int, int]) -> VideoFormat | None:
    """Of the numbers that an encoder takes those that lose least."""
    offered = [offer for offer in av.Codec(encoder, 'w').video_formats or [] if not _has_alpha(offer)]
    if encoder in _EVEN:
        offered = [offer for offer in offered if all(side % part == 0 for side, part in zip(size, _parts(offer)))]

    def losses(offer: VideoFormat) -> tuple[Any, ...]:
        across, down = _parts(offer)
        wanted = _parts(source)
        return (
            offer.name != source.name,
            _is_grey(offer) and not _is_grey(source),
            _bits(offer) < _bits(source),
            across > wanted[0] or down > wanted[1],
            offer.is_rgb != source.is_rgb,
            abs(_bits(offer) - _bits(source)),
            not _is_grey(offer) and across * down != wanted[0] * wanted[1],
            not offer.is_planar,
            len(offer.components),
        )

    return min(offered, key=losses, default=None)


def _lost(source: VideoFormat, target: VideoFormat) -> str:
    """What the numbers of the result do not hold, in words."""
    lost = ['its transparency is lost'] if _has_alpha(source) else []
    if _bits(target) < _bits(source):
        lost.append(f'{_bits(source)} bits become {_bits(target)}')
    if any(new > old for new, old in zip(_parts(target), _parts(source))):
        lost.append('colours get fewer pixels')
    return ' and '.join(lost)


def _bits(format: VideoFormat) -> int:
    return max(component.bits for component in format.components)


def _parts(format: VideoFormat) -> tuple[int, int]:
    """Pixels that share a colour, across and down."""
    return 8 // max(1, format.chroma_width(8)), 8 // max(1, format.chroma_height(8))


def _is_grey(format: VideoFormat) -> bool:
    return format.name.startswith(('gray', 'ya', 'mono'))


def _has_alpha(format: VideoFormat) -> bool:
    return any(component.is_alpha for component in format.components) or format.name in ('rgba64le', 'bgra', 'pal8')


@contextmanager
def quiet_encoders() -> Iterator[None]:
    """SVT-AV1 writes to the terminal by itself."""
    before = os.environ.get('SVT_LOG')
    os.environ.setdefault('SVT_LOG', '1')
    try:
        yield
    finally:
        if before is None:
            os.environ.pop('SVT_LOG', None)

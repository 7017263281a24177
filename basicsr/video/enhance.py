"""A clip through a network: every frame at its time, in steady light, with sound and all else that its file holds."""
from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from av import FFmpegError, Packet, VideoFrame
from tqdm import tqdm

from basicsr.inference.amount import AUTO, Amount, applied, check_size
from basicsr.inference.auto_strength import auto_strength, in_words, light_of
from basicsr.inference.light import exposed
from basicsr.inference.progress import Progress
from basicsr.inference.restorer import ImageRestorer
from basicsr.photos.photo import from_float
from basicsr.utils.errors import UserError
from basicsr.utils.files import atomic_write
from basicsr.utils.img import NOT_FINITE
from basicsr.utils.logger import get_root_logger
from basicsr.video.clip import Clip, Survey
from basicsr.video.colours import Colours, from_rgb, is_sideways, to_rgb, upright, written_colours
from basicsr.video.encoding import Encoding, check_codec, check_quality, choose, quiet_encoders
from basicsr.video.flicker import Light, Steady
from basicsr.video.writing import Moment, Writer

_PROBE = (64, 64, 3)  # a picture that tells whether a network enlarges
_WHITE = 1.36  # what is kept above white, about a stop, for frames that come out darker than the network made them
_AHEAD = 1 << 29  # bytes of results that wait for the frames after them
_LEVELS = 65536


@dataclass(frozen=True)
class Asked:
    """What is asked of a clip: `codec` and `quality` as `choose` takes them, the first `frames`, seconds to `smooth` over."""
    amount: Amount
    codec: str | None = None
    quality: int | None = None
    smooth: float = 1.
    frames: int | None = None

    def __post_init__(self) -> None:
        check_quality(self.codec, self.quality)
        if not 0 <= self.smooth <= 60:
            raise UserError(f'--smooth is a number of seconds from 0 (off) to 60, not {self.smooth:g}')
        if self.frames is not None and self.frames < 1:
            raise UserError(f'--frames is a number of frames, at least 1, not {self.frames}')


def enhance_clip(restorer: ImageRestorer, source: str | Path, target: str | Path, asked: Asked) -> int:
    """Read, restore, write. Returns the number of frames.

    Raises:
        UserError: for what is no video, is damaged or cannot be written, and where an answer is not finite. `target` stays
            as it was then.
        OSError: of the disk.
    """
    check_codec(target, asked.codec)
    log, name = get_root_logger(), Path(source).name
    survey = _survey(source, asked.frames)
    for remark in survey.remarks:
        log.warning(f'{name} {remark}')
    amount = _decided(restorer, survey, asked.amount, name)
    survey.samples.clear()
    scale = 1 if amount.strength == 0 else _scale(restorer, amount)
    first = survey.first
    sides = (first.height, first.width) if is_sideways(survey.matrix) else (first.width, first.height)
    size = (sides[0] * scale, sides[1] * scale)
    end = None if asked.frames is None else survey.end
    with Clip(source, asked.frames, end) as clip, quiet_encoders():
        encoding = choose(target, clip.video.codec_context.codec.canonical_name, first.format, size, asked.codec,
                          asked.quality)
        for remark in encoding.remarks:
            log.warning(f'{name} {remark}')
        colours = written_colours(survey.colours, first.format, _format(encoding))
        frames = _Frames(restorer, survey, replace(asked, amount=amount), encoding, colours)
        with atomic_write(target) as file, Progress(restorer, survey.frames, 'frame') as progress:
            try:
                writer = Writer(file, clip, encoding, colours, size, is_sideways(survey.matrix))
                if writer.left_out:
                    log.warning(f'{name}: not held by this {Path(target).suffix} file, and left out:'
                                f" {', '.join(writer.left_out)}")
                with writer:
                    _write(writer, clip, frames, progress)
            except FFmpegError as error:
                raise UserError(f"cannot write '{target}': {error.strerror}") from error
    log.info(f'wrote {target}')
    return survey.frames


def _write(writer: Writer, clip: Clip, frames: _Frames, progress: Progress) -> None:
    for item in clip.read():
        if isinstance(item, Packet):
            writer.copy(item)
            continue
        for frame, moment in frames.add(item):
            writer.add(frame, moment)
        progress.file_done()
    for frame, moment in frames.rest():
        writer.add(frame, moment)


def _survey(source: str | Path, limit: int | None) -> Survey:
    with Clip(source, limit) as clip, _reading(clip.expected) as bar:
        return clip.survey(bar.update)


@contextmanager
def _reading(count: int | None) -> Iterator[Any]:
    with tqdm(total=count, desc='reading', unit='frame', leave=False, disable=not sys.stderr.isatty()) as bar:
        yield bar


def _format(encoding: Encoding) -> Any:
    return VideoFrame(16, 16, encoding.pixel_format).format


def _scale(restorer: ImageRestorer, amount: Amount) -> int:
    """How many times as large a network makes its images."""
    shape = restorer(np.zeros(_PROBE, np.float32)).shape
    if amount.compares:
        check_size(_PROBE, shape)
    return shape[0] // _PROBE[0]


def _decided(restorer: ImageRestorer, survey: Survey, amount: Amount, name: str) -> Amount:
    """One strength for all frames: that of the one whose light is the median of some, as others would make it flicker."""
    if amount.strength != AUTO:
        return amount
    lights = [light_of(to_rgb(frame, survey.colours)) for frame in survey.samples]
    middle = to_rgb(survey.samples[int(np.argsort(lights)[len(lights) // 2])], survey.colours)
    strength = auto_strength(restorer, middle, _finite(restorer(middle)))
    if strength < 1:
        get_root_logger().info(f'{name}: {in_words(strength)}')
    return replace(amount, strength=strength)


def _finite(answer: np.ndarray) -> np.ndarray:
    if not np.isfinite(answer).all():
        raise UserError(NOT_FINITE)
    return answer


class _Frames:
    """Frames in, and results out: each with its time, and later, where light is smoothed."""

    def __init__(self, restorer: ImageRestorer, survey: Survey, asked: Asked, encoding: Encoding, colours: Colours):
        self.restorer, self.survey, self.amount = restorer, survey, asked.amount
        self.encoding, self.colours = encoding, colours
        self.number = 0
        self._light = Light()
        same = encoding.pixel_format == survey.first.format.name and survey.matrix is None
        self._untouched = same and asked.amount.strength == 0 and not asked.amount.exposure
        # without the network there is nothing that could flicker
        self.smooth = asked.smooth if asked.amount.strength != 0 else 0.
        self._steady: Steady[tuple[np.ndarray, Moment]] | None = None

    def add(self, frame: VideoFrame) -> Iterator[tuple[VideoFrame, Moment]]:
        self.number += 1
        moment = Moment(frame.pts or 0, frame.time_base, frame.duration)
        if self._untouched:
            yield frame, moment
            return
        img = upright(to_rgb(frame, self.survey.colours), self.survey.matrix)
        result = self._restored(img)
        if not self.smooth:
            yield self._written(from_float(_colour(result), np.uint16)), moment
            return
        stops, cut = self._light.of(img, result)
        held = from_float(_colour(result) / np.float32(_WHITE), np.uint16)
        if self._steady is None:
            self._steady = Steady(self.smooth, max(1, _AHEAD // held.nbytes))
        yield from map(self._lit, self._steady.add(frame.time, stops, (held, moment), cut))

    def rest(self) -> Iterator[tuple[VideoFrame, Moment]]:
        """The results that still wait."""
        if self._steady is not None:
            yield from map(self._lit, self._steady.rest())

    def _restored(self, img: np.ndarray) -> np.ndarray:
        amount = self.amount
        if amount.strength == 0:
            return exposed(img, amount.exposure).clip(0, 1)
        try:
            result = _finite(self.restorer(img, exposure=amount.exposure, white=_WHITE if self.smooth else 1.))
        except UserError as error:
            raise UserError(f'frame {self.number}: {error}') from error
        before = exposed(img, amount.exposure).clip(0, 1) if amount.exposure and amount.strength != 1 else img
        return applied(amount, float(amount.strength), before, result)

    def _lit(self, done: tuple[tuple[np.ndarray, Moment], float]) -> tuple[VideoFrame, Moment]:
        (held, moment), stops = done
        return self._written(_levels(stops).take(held)), moment

    def _written(self, pixels: np.ndarray) -> VideoFrame:
        return from_rgb(pixels, self.encoding.pixel_format, self.colours)


def _levels(stops: float) -> np.ndarray:
    """What becomes of each value that was held: so many stops brighter, and clipped at white."""
    values = np.linspace(0, _WHITE, _LEVELS, dtype=np.float32)
    return from_float(exposed(values, stops), np.uint16)


def _colour(img: np.ndarray) -> np.ndarray:
    return np.repeat(img, 3, axis=2) if img.shape[2] == 1 else img

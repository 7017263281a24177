"""Reading a clip: what it is, whether it is whole, and all that it holds in the order of its file."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av import Packet, VideoFrame
from av.stream import Disposition

from basicsr.utils.errors import UserError, counted, some
from basicsr.utils.notes import doubt
from basicsr.video.colours import Colours, colours_of, display_matrix, is_right_angled

_BUFFER = 1 << 18
_SAMPLES = 16  # frames that stand for all, at most
_MISSING = .02, 3  # of the length, and frames: what the end of a whole clip may differ from what its head says
_WITH_GAPS = ('mpegts', )  # broadcasts, whose decoders go on behind what is missing
_AFTER = 1.  # seconds of the file in which sound lies behind the picture that it belongs to


@dataclass
class Survey:
    """What one reading of a clip has found.

    Attributes:
        frames: how many there are. end: of the last, in seconds.
        first: the first. samples: some, spread over the clip. matrix: how its frames are to be turned.
        remarks: what somebody should know of it, beginning with a verb.
    """
    frames: int
    end: float
    first: VideoFrame
    samples: list[VideoFrame]
    colours: Colours
    matrix: tuple[int, int, int, int] | None
    remarks: list[str] = field(default_factory=list)


class Clip:
    """An open video file; a context. Raises `UserError` for what is none, `OSError` where there is no file.

    Args:
        limit: only so many frames. end: in seconds, of what else is read; None: all.

    Attributes:
        container: PyAV's. video: the stream that is shown. skipped: packets before its first frame that cannot be read.
    """

    def __init__(self, path: str | Path, limit: int | None = None, end: float | None = None):
        self.path, self.limit, self.end, self.skipped = Path(path), limit, end, 0
        self._file = open(path, 'rb')  # FFmpeg would take some names as addresses of a network
        try:
            self.container = av.open(self._file, 'r', buffer_size=_BUFFER, metadata_errors='surrogateescape')
            self._check()
        except av.FFmpegError as error:
            self._file.close()
            raise UserError(f"'{path}' is no video that can be read ({error.strerror})") from error
        except BaseException:
            self._file.close()
            raise

    def _check(self) -> None:
        name = self.container.format.name
        if name.endswith('_pipe') or name in ('image2', 'gif', 'apng', 'tty', 'ico'):
            what = 'is a text' if name == 'tty' else 'is a picture, for basicsr enhance'
            raise UserError(f"'{self.path}' is no video: it {what}")
        pictures = [s for s in self.container.streams.video if not s.disposition & Disposition.attached_pic]
        if not pictures:
            raise UserError(f"'{self.path}' holds no video")
        self.video = next((s for s in pictures if s.disposition & Disposition.default), pictures[0])
        if self.video.codec_context is None:
            raise UserError(f"'{self.path}' is of a codec that PyAV cannot read")
        self.video.thread_type = 'AUTO'

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.container.close()
        self._file.close()

    @property
    def expected(self) -> int | None:
        """How many frames its head says there are, where it does."""
        rate, length = self.video.average_rate, self.container.duration
        count = self.video.frames or (round(rate * length / av.time_base) if rate and length else None)
        return min(count, self.limit) if count and self.limit else count or self.limit

    def read(self) -> Iterator[VideoFrame | Packet]:
        """Frames, each with its time, and packets of the other streams, as they lie in the file.

        Raises `UserError` with the number of the frame that cannot be read.
        """
        count, end, last = 0, 0., None
        for packet in self._packets():
            if packet.stream.index != self.video.index:
                time = packet.pts if packet.pts is not None else packet.dts
                if time is not None and (self.end is None or seconds(time, packet) < self.end):
                    yield packet  # not the empty ones, with which a file ends
                continue
            if self._done(count):
                if packet.dts is not None and seconds(packet.dts, packet) > end + _AFTER:
                    return
                continue
            frames, failure = self._decoded(packet)
            for frame in frames[:None if self.limit is None else self.limit - count]:
                last = frame.pts = self._time(frame, last)
                count += 1
                end = seconds(last + (frame.duration or 0), frame)
                yield frame
            if failure and count == 0:
                self.skipped += 1  # a recording that begins in the middle
            elif failure and not self._done(count):
                raise self._damaged(count, failure)

    def _done(self, count: int) -> bool:
        return self.limit is not None and count >= self.limit

    def _packets(self) -> Iterator[Packet]:
        packets = self.container.demux()
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                raise UserError(f"'{self.path}' is damaged: {error.strerror}") from error
            if packet is None:
                return
            yield packet

    def _decoded(self, packet: Packet) -> tuple[list[VideoFrame], str]:
        """The frames that a packet completes, and why it cannot be read; ''."""
        try:
            if not (packet.is_corrupt and packet.size and self.container.format.name not in _WITH_GAPS):
                return packet.decode(), ''
            failure = 'it is cut off'
        except av.FFmpegError as error:
            failure = error.strerror or str(error)
        frames: list[VideoFrame] = []
        with suppress(av.FFmpegError):  # those before it that the decoder still holds
            frames = self.video.codec_context.decode(None)
        self.video.codec_context.flush_buffers()
        return frames, failure

    def _damaged(self, count: int, why: str) -> UserError:
        take = f'; --frames {count} takes those' if count else ''
        return UserError(
            f"'{self.path}' is damaged: frame {count + 1} cannot be read ({why}), {counted(count, 'frame')}"
            f' before it can{take}')

    @staticmethod
    def _time(frame: VideoFrame, last: int | None) -> int:
        """The time of a frame in its time base: after that of the one before, as no container holds others."""
        time = frame.pts if frame.pts is not None else frame.dts
        if time is None:
            time = 0 if last is None else last + (frame.duration or 1)
        return time if last is None or time > last else last + 1

    def survey(self, seen: Callable[[], Any]) -> Survey:
        """Read all once, so that damage is told before hours of work. `seen`: called for each frame. For a fresh clip."""
        samples: list[VideoFrame] = []
        first, count, every, end, ends, corrupt = None, 0, 1, 0., 0., list[int]()
        for item in self.read():
            if isinstance(item, Packet):
                ends = max(ends, seconds((item.pts or item.dts or 0) + (item.duration or 0), item))
                continue
            first = first or item
            if (item.width, item.height) != (first.width, first.height):
                raise UserError(f"'{self.path}': frame {count + 1} is {item.width}x{item.height}, and the first"
                                f' {first.width}x{first.height}; clips of one size alone are enhanced')
            corrupt += [count + 1] if item.is_corrupt else []
            if count % every == 0:
                samples.append(item)
            if len(samples) > _SAMPLES:
                samples, every = samples[::2], every * 2
            count += 1
            end = seconds((item.pts or 0) + (item.duration or 0), item)
            seen()
        if first is None:
            raise UserError(f"'{self.path}' holds no frame that can be read")
        if corrupt:
            doubt(f"'{self.path}': {counted(len(corrupt), 'frame')} with damage ({some(corrupt)})")
        return self._described(count, end, max(end, ends), first, samples)

    def _described(self, count: int, end: float, ends: float, first: VideoFrame, samples: list[VideoFrame]) -> Survey:
        matrix, remarks = display_matrix(first), list[str]()
        if matrix is not None and not is_right_angled(matrix):
            matrix = None
            remarks.append('is to be shown at an angle, which is lost')
        colours = colours_of(first, self.video.codec_context)
        if colours.hdr:
            remarks.append(f'is HDR ({colours.hdr}): its values are taken as those of a usual screen, and stay HDR')
        if first.interlaced_frame:
            remarks.append('is interlaced: both fields are taken as one picture')
        if self.skipped:
            remarks.append(f'begins with {counted(self.skipped, "piece")} without a picture, which are left out')
        length = (self.container.duration or 0) / av.time_base
        start = (self.container.start_time or 0) / av.time_base
        short = length - (ends - start)
        if self.limit is None and short > max(_MISSING[0] * length, _MISSING[1] * float(1 / self.rate)):
            raise UserError(
                f"'{self.path}' is cut off behind frame {count}: it ends {short:.2g} s before the {length:.3g} s"
                f' that it says; --frames {count} takes what is there')
        return Survey(count, end, first, samples, colours, matrix, remarks)

    @property
    def rate(self) -> Fraction:
        """Frames per second, of a variable rate the mean."""
        return self.video.average_rate or self.video.guessed_rate or Fraction(25)


def seconds(time: int, of: VideoFrame | Packet) -> float:
    return float(time * (of.time_base or 0))

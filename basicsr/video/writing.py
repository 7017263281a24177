"""Writing a clip: new frames at their old times, and everything else of the file as it was."""
from __future__ import annotations

import io
from contextlib import suppress
from fractions import Fraction
from typing import IO, Any, NamedTuple

import av
from av import Packet, VideoFrame
from av.codec.context import Flags
from av.stream import Stream

from basicsr.utils.errors import UserError
from basicsr.video.clip import Clip
from basicsr.video.colours import Colours
from basicsr.video.encoding import Encoding

_REFUSED = (av.FFmpegError, ValueError, LookupError, TypeError, NotImplementedError)
_WRITTEN_ANEW = ('major_brand', 'minor_version', 'compatible_brands', 'encoder')
_OF_THE_PICTURE = ('encoder', 'DURATION', 'BPS', 'NUMBER_OF_FRAMES', 'NUMBER_OF_BYTES', 'rotate', 'vendor_id')
_OF_PHONES = ('com.apple.', 'com.android.')
_QUICKTIME = ('mp4', 'mov')
_SHAPED = ('h264', 'hevc')  # codecs that say it themselves; PyAV cannot make other containers say it


class Moment(NamedTuple):
    """When a frame is shown, and for how long."""
    pts: int
    time_base: Fraction | None
    duration: int


class Writer:
    """A video file that is being written; a context, which ends the file unless it is left by an error.

    Args:
        file: where to. clip: what it is made of. size: width and height of the new frames.
        sideways: they are turned by 90 degrees.

    Attributes:
        left_out: what of the clip the file does not hold, in words.
    """

    def __init__(self, file: IO[bytes], clip: Clip, encoding: Encoding, colours: Colours, size: tuple[int, int],
                 sideways: bool = False):
        self.clip, self.encoding, self.colours, self.size = clip, encoding, colours, size
        tags = {key: value for key, value in clip.container.metadata.items() if key not in _WRITTEN_ANEW}
        # what phones say of a place or a lens needs keys of its own, which hide the usual ones from others
        phone = encoding.container in _QUICKTIME and any(key.startswith(_OF_PHONES) for key in tags)
        self.output = av.open(file, 'w', format=encoding.container,
                              container_options={'movflags': '+use_metadata_tags'} if phone else {},
                              metadata_errors='surrogateescape')
        self.output.metadata.update(tags)
        self.copies: dict[int, Stream] = {}
        self.left_out: list[str] = []
        for stream in clip.container.streams:  # in their order, by which players and scripts find them
            if stream.index == clip.video.index:
                self.video = self._picture(sideways)
            else:
                self._copy(stream)
        self._chapters(clip.end)

    def _picture(self, sideways: bool) -> Any:
        source, encoding = self.clip.video, self.encoding
        stream: Any = self.output.add_stream(encoding.encoder, rate=self.clip.rate, options=dict(encoding.options),
                                             time_base=source.time_base)
        context = stream.codec_context
        context.width, context.height = self.size
        context.pix_fmt, context.time_base = encoding.pixel_format, source.time_base
        context.color_range, context.colorspace = self.colours.range, self.colours.space
        context.color_trc, context.color_primaries = self.colours.curve, self.colours.primaries
        context.flags |= Flags.frame_duration
        shape = source.sample_aspect_ratio
        if shape and shape != 1:
            context.sample_aspect_ratio = 1 / shape if sideways else shape
            if encoding.codec not in _SHAPED and encoding.container not in _QUICKTIME:
                self.left_out.append('the shape of its pixels, which are not square')
        if encoding.codec == 'hevc' and encoding.container in _QUICKTIME:
            context.codec_tag = 'hvc1'  # Apple's players know no other
        stream.disposition = source.disposition.value
        stream.metadata.update({
            key: value for key, value in source.metadata.items()
            if not key.startswith(('_STATISTICS', *_OF_THE_PICTURE))
        })
        return stream

    def _copy(self, stream: Stream) -> None:
        if not self._takes(stream):
            codec = f' ({stream.codec_context.codec.canonical_name})' if stream.codec_context else ''
            self.left_out.append(f'{stream.type} {stream.index}{codec}')
            return
        self.copies[stream.index] = _added(self.output, stream)

    def _takes(self, stream: Stream) -> bool:
        """Tried on a file of its own: some containers say what they do not take when it is too late."""
        try:
            with av.open(io.BytesIO(), 'w', format=self.encoding.container) as probe:
                _added(probe, stream)
                probe.start_encoding()
        except _REFUSED:
            return False
        return True

    def _chapters(self, end: float | None) -> None:
        chapters = self.clip.container.chapters()
        if end is not None:
            chapters = [chapter for chapter in chapters if chapter['start'] * (chapter['time_base'] or 1) < end]
        if chapters:
            self.output.set_chapters(chapters)

    def __enter__(self) -> Writer:
        try:
            self.output.start_encoding()
        except _REFUSED as error:
            width, height = self.size
            raise UserError(
                f'{self.encoding.codec} cannot encode {width}x{height} pixels of {self.encoding.pixel_format}'
                f' ({error}); choose another --codec') from error
        return self

    def add(self, frame: VideoFrame, moment: Moment) -> None:
        """The next frame."""
        frame.pts, frame.time_base, frame.duration = moment
        frame.pict_type = 0  # the encoder chooses: decoded frames say what they were
        self.output.mux(self.video.encode(frame))

    def copy(self, packet: Packet) -> None:
        """A packet of another stream, as it is."""
        stream = self.copies.get(packet.stream.index)
        if stream is not None:
            if packet.dts is None:
                packet.dts = packet.pts
            packet.stream = stream
            self.output.mux(packet)

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        if exc_type is None:
            self.output.mux(self.video.encode(None))
            self.output.close()
        else:
            with suppress(Exception):  # the file is not kept, and what went wrong is known already
                self.output.close()


def _added(output: Any, stream: Stream) -> Stream:
    copy = output.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition.value
    copy.time_base = stream.time_base or Fraction(1, 1000)
    return copy

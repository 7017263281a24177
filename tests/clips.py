"""Small clips made with PyAV, what is in one, and what stands in place of a network."""
from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from basicsr.inference.amount import Amount
from basicsr.inference.light import exposed
from basicsr.video.enhance import Asked, enhance_clip

RATE = 24


def scene(width: int = 64, height: int = 48, seed: int = 0, brightest: int = 60) -> np.ndarray:
    """A dark picture (H, W, 3) without edges, in 8 bits."""
    fields = np.random.RandomState(seed).randint(5, brightest, (6, 8, 3)).astype(np.uint8)
    return cv2.resize(fields, (width, height), interpolation=cv2.INTER_LINEAR)


def make(path: str | Path, codec: str = 'libx264', pixel_format: str = 'yuv420p', size: tuple[int, int] = (64, 48),
         frames: int = 12, noise: float = 2., times: Sequence[int] | None = None, sound: bool = True,
         pictures: Sequence[np.ndarray] | None = None, rotation: int | None = None, subtitles: str | Path | None = None,
         **context: Any) -> str:
    """A clip of a static dark scene. `times`: of frames, in 600ths of a second. `context`: settings of the codec."""
    base = Fraction(1, RATE) if times is None else Fraction(1, 600)
    random = np.random.RandomState(1)
    with av.open(str(path), 'w') as output:
        stream: Any = output.add_stream(codec, rate=RATE, time_base=base)
        stream.width, stream.height = size
        stream.pix_fmt, stream.codec_context.time_base = pixel_format, base
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        audio = output.add_stream('aac', rate=44100, layout='mono') if sound else None
        if audio:
            audio.metadata['language'] = 'deu'
        texts = av.open(str(subtitles)) if subtitles else None
        if texts:
            output.metadata['title'] = 'A dark clip'
            output.set_chapters(
                [{'id': 1, 'start': 0, 'end': 250, 'time_base': Fraction(1, 1000), 'metadata': {'title': 'first'}}])
            copy = output.add_stream_from_template(texts.streams[0], opaque=True)
        for number in range(frames):
            if pictures is None:
                picture = scene(*size) + random.normal(0, noise, (size[1], size[0], 3))
            else:
                picture = pictures[number]
            frame = av.VideoFrame.from_ndarray(np.rint(picture).clip(0, 255).astype(np.uint8), 'rgb24')
            frame = frame.reformat(format=pixel_format)
            frame.pts, frame.time_base = number if times is None else times[number], base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if audio:
            _sound(output, audio)
        if texts:
            for packet in texts.demux():
                if packet.dts is not None:
                    packet.stream = copy
                    output.mux(packet)
            texts.close()
    return str(path)


def _sound(output: Any, stream: Any) -> None:
    tone = (.3 * np.sin(np.arange(22050) * 2 * np.pi * 440 / 44100)).astype(np.float32)
    for start in range(0, len(tone), 1024):
        frame = av.AudioFrame.from_ndarray(tone[None, start:start + 1024], 'fltp', 'mono')
        frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


class Found:
    """What a clip holds: `frames`, their `times` in seconds, and `packets` of all else: (kind, time, bytes)."""

    def __init__(self, path: str | Path):
        with av.open(str(path)) as clip:
            video: Any = clip.streams.video[0]
            self.codec, self.size = video.codec_context.codec.canonical_name, (video.width, video.height)
            self.pixel_format, self.shape = video.pix_fmt, video.sample_aspect_ratio
            self.tags = tuple(
                int(getattr(video.codec_context, name))
                for name in ('color_range', 'colorspace', 'color_trc', 'color_primaries'))
            self.kinds, self.languages = [s.type for s in clip.streams], [s.language for s in clip.streams]
            self.metadata, self.chapters = dict(clip.metadata), clip.chapters()
            self.frames: list[Any] = []
            self.packets: list[tuple[str, float, bytes]] = []
            for packet in clip.demux():
                if packet.stream.type == 'video':
                    self.frames += packet.decode()
                elif packet.size:
                    self.packets.append((packet.stream.type, float(packet.pts * packet.time_base), bytes(packet)))
        self.times = [frame.time for frame in self.frames]

    def picture(self, number: int) -> np.ndarray:
        """(H, W, 3) in 8 bits."""
        return self.frames[number].to_ndarray(format='rgb24')

    @property
    def brightness(self) -> np.ndarray:
        """The mean value of each frame."""
        return np.array([frame.to_ndarray(format='rgb48le').mean() for frame in self.frames])


class Fake:
    """In place of a network: four times the light, and a little more or less in each frame."""

    def __init__(self, jitter: float = 0., fail_at: int = 0, failure: BaseException | None = None):
        self.random, self.jitter = np.random.RandomState(5), jitter
        self.calls, self.fail_at, self.failure, self.watch = 0, fail_at, failure, None

    def __call__(self, img, exposure=0., white=1.):
        self.calls += 1
        if self.failure and self.calls == self.fail_at:
            raise self.failure
        return exposed(img, 2 + exposure + self.jitter * self.random.normal()).clip(0, white)


def fake(source: str, target: str, restorer: Any = None, amount: Amount | None = None, **asked: Any) -> Found:
    """What `basicsr video` makes of a clip."""
    enhance_clip(restorer or Fake(), source, target, Asked(amount or Amount(), **asked))
    return Found(target)

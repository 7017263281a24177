"""The quality of a lossy WebP, of which its file holds the quantizers alone (RFC 6386, section 9)."""
from __future__ import annotations

import numpy as np

_START = 10  # bytes of the frame's tag and size, before what is coded
_MOST = 127  # the coarsest quantizer


class _Bits:
    """The boolean decoder of section 7, for values of even chances."""

    def __init__(self, data: bytes):
        self.data, self.at, self.range, self.shifts = data, 2, 255, 0
        self.value = int.from_bytes(data[:2], 'big')

    def flag(self) -> int:
        split = 1 + ((self.range - 1) * 128 >> 8)
        bit = self.value >= split << 8
        self.value -= (split << 8) * bit
        self.range = self.range - split if bit else split
        while self.range < 128:
            self.value, self.range, self.shifts = self.value << 1, self.range << 1, self.shifts + 1
            if self.shifts == 8:
                self.value |= self.data[self.at] if self.at < len(self.data) else 0
                self.at, self.shifts = self.at + 1, 0
        return int(bit)

    def number(self, bits: int) -> int:
        value = 0
        for _ in range(bits):
            value = value << 1 | self.flag()
        return value

    def signed(self, bits: int) -> int:
        """An optional one: 0 where there is none."""
        if not self.flag():
            return 0
        value = self.number(bits)
        return -value if self.flag() else value


def quality_of(frame: bytes) -> float:
    """What an encoder of libwebp was asked for, 0 to 100, by the content of a chunk 'VP8 '.

    A few points off, as parts of a picture have quantizers of their own.
    """
    bits = _Bits(frame[_START:])
    bits.number(2)  # colours, clamping
    parts: list[int] = []
    absolute = 0
    if bits.flag():
        new_map, new_values = bits.flag(), bits.flag()
        if new_values:
            absolute = bits.flag()
            parts = [bits.signed(7) for _ in range(4)]
            for _ in range(4):
                bits.signed(6)
        for _ in range(3 * new_map):
            if bits.flag():
                bits.number(8)
    bits.number(10)  # the loop filter
    if bits.flag() and bits.flag():
        for _ in range(8):
            bits.signed(6)
    bits.number(2)
    base = bits.number(7)
    used = [value if absolute else base + value for value in parts] or [base]
    return _asked_for(float(np.clip(np.mean(sorted(used)[:3]), 0, _MOST)))


def _asked_for(quantizer: float) -> float:
    """The inverse of libwebp's curve from quality to quantizer: a cube root, below it two straight lines."""
    light = (1 - quantizer / _MOST)**3
    return 100 * (light * 1.5 if light < .5 else (light + 1) / 2)

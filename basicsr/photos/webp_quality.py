"""The quality of a lossy WebP, of which its file holds the quantizers alone (RFC 6386, section 9)."""
from __future__ import annotations

import numpy as np

_START = 10  # bytes of the frame's tag and size, before what is coded
_COARSEST = 127


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
    """What an encoder of libwebp was asked for, 0 to 100, by the content of a chunk 'VP8 '; some points off.

    It gives four parts of a picture quantizers of their own, around the one that it was asked for.
    """
    bits = _Bits(frame[_START:])
    bits.number(2)  # colours, clamping
    parts: list[int] = []
    absolute, chances = 0, [255, 255, 255]
    if bits.flag():
        new_map, new_values = bits.flag(), bits.flag()
        if new_values:
            absolute = bits.flag()
            parts = [bits.signed(7) for _ in range(4)]
            for _ in range(4):
                bits.signed(6)
        if new_map:
            chances = [bits.number(8) if bits.flag() else 255 for _ in range(3)]
    bits.number(10)  # the loop filter
    if bits.flag() and bits.flag():
        for _ in range(8):
            bits.signed(6)
    bits.number(2)
    base = bits.number(7)
    quantizers = np.array([value if absolute else base + value for value in parts] or [base] * 4)
    # libwebp rounds quantizers down, but for the finest
    light = 1 - (quantizers.clip(0, _COARSEST - .5) + .5 * (quantizers > 0)) / _COARSEST
    return _asked_for(float(np.exp((_shares(chances) * np.log(light.clip(1e-3))).sum())))


def _shares(chances: list[int]) -> np.ndarray:
    """How much of the picture each part is, by the chances (of 255) in the tree of section 10 that codes where it is."""
    first, left, right = (chance / 255 for chance in chances)
    return np.array([first * left, first * (1 - left), (1 - first) * right, (1 - first) * (1 - right)])


def _asked_for(fineness: float) -> float:
    """The inverse of libwebp's curve from quality to 1 - quantizer / 127: a cube root of two straight lines."""
    line = fineness**3
    return 100 * (line * 1.5 if line < .5 else (line + 1) / 2)

"""Which kernels run the scan, and how: a table of candidates, and what was found fastest on each kind of GPU.

`python benchmarks/gpu.py --tune` measures the candidates on the GPU that it finds and writes `tuned.json` beside this file;
until a kind of GPU has been measured, the first candidate of each part runs there.
"""
from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch

TUNED = Path(__file__).with_name('tuned.json')
WARP = 32


@dataclass(frozen=True)
class Candidate:
    """One way to run a part of the scan.

    Attributes:
        kernel: 'sweep' or 'pass' for the forward (ends, output and the adjoint's ends); 'tile', 'split' or 'walk' for the
            gradients.
        block: channels of a program.
        tile: positions that are worked on at once.
        share: states of a thread at a time; the others are spread over lanes and warps.
        together: states of a program at a time; None works on all.
        registers: of a thread at most; None leaves it to the assembler.
    """
    kernel: str
    block: int = 32
    tile: int = 8
    share: int = 4
    together: int | None = None
    registers: int | None = None

    def states(self, pad: int) -> int:
        """States of a program at a time, when there are `pad` (a power of two) in all."""
        return min(pad, self.together or pad)

    def warps(self, pad: int) -> int:
        return max(1, self.states(pad) * self.block // (WARP * self.share))


# The first of each part is what has run on a GPU; the order of the others says nothing.
CANDIDATES: dict[str, tuple[Candidate, ...]] = {
    'forward': (
        Candidate('sweep', tile=1, share=32),
        Candidate('sweep', tile=1, share=16),
        Candidate('pass', block=16, tile=8),
        Candidate('pass', block=16, tile=4, share=8),
        Candidate('pass', block=32, tile=4, share=8),
        Candidate('pass', block=8, tile=8),
    ),
    'gradient': (
        Candidate('tile', share=1, together=1, registers=200),
        Candidate('split', share=1, together=4),
        Candidate('split', share=1, together=4, registers=128),
        Candidate('walk', block=16, tile=4),
        Candidate('walk', block=16, tile=4, share=2),
        Candidate('walk', block=16, tile=8, share=2),
        Candidate('walk', block=16, tile=8),
        Candidate('walk', block=8, tile=8),
    ),
}  # yapf: disable


def key(states: int, rank: int, dtype: torch.dtype) -> str:
    """Kernels are compiled, and chosen, for these."""
    return f'{states} states, rank {rank}, {str(dtype).removeprefix("torch.")}'


def architecture(device: torch.device) -> str:
    """What the table of measured candidates calls a kind of GPU."""
    return 'sm_{}{}'.format(*torch.cuda.get_device_capability(device)) if device.type == 'cuda' else ''


# Not a context variable: the backward of a CUDA tensor runs in a thread of autograd's, which would not see it.
_forced: dict[str, Candidate] = {}


@contextmanager
def forced(**parts: Candidate | None) -> Iterator[None]:
    """Inside, these candidates run, whatever was measured: forced(forward=..., gradient=...); None forces nothing."""
    before = dict(_forced)
    _forced.update({part: candidate for part, candidate in parts.items() if candidate})
    try:
        yield
    finally:
        _forced.clear()
        _forced.update(before)


def choose(part: str, states: int, rank: int, dtype: torch.dtype, device: torch.device) -> Candidate:
    """The candidate of a part ('forward', 'gradient') that runs on a device."""
    if part in _forced:
        return _forced[part]
    return tuned().get(architecture(device), {}).get(part, {}).get(key(states, rank, dtype), CANDIDATES[part][0])


@cache
def tuned() -> dict[str, dict[str, dict[str, Candidate]]]:
    """Architecture, part and key to the fastest candidate, as measured."""
    if not TUNED.is_file():
        return {}
    content = json.loads(TUNED.read_text(encoding='utf-8'))
    return {arch: {part: {name: Candidate(**row) for name, row in rows.items()} for part, rows in parts.items()}
            for arch, parts in content.items()}  # yapf: disable


def store(arch: str, part: str, name: str, candidate: Candidate) -> None:
    """Write what was found fastest; other entries stay."""
    content = json.loads(TUNED.read_text(encoding='utf-8')) if TUNED.is_file() else {}
    content.setdefault(arch, {}).setdefault(part, {})[name] = asdict(candidate)
    unfinished = TUNED.with_suffix('.tmp')  # every scan reads the table, so half of one must never be there
    unfinished.write_text(json.dumps(content, indent=1, sort_keys=True) + '\n', encoding='utf-8')
    os.replace(unfinished, TUNED)
    tuned.cache_clear()

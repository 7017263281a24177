"""Which candidates of `triton_candidates` are fastest on this GPU; the winners go to the table that the launcher reads.

Gradients of a kind of scan first, then its forward with the gradients that won. All are compiled ahead, side by side.
A candidate must give what the first of the table gives. The fastest so far is stored after each measurement, so that a
run that is cut off leaves the best that it found.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path

import torch
from gpu_run import Compilers, Context, Row, Task, distinct
from gpu_scan import SHAPES, inputs, kind_of, named
from gpu_timing import eager, replayed
from scan import Shape
from torch import Tensor

from basicsr.ops.selective_scan import triton_candidates
from basicsr.ops.selective_scan.triton_candidates import Candidate, forced

# where the candidates of a kind of scan are measured, in order of worth; MambaIR's other widths after its official one
PLACES: list[Shape] = [*(SHAPES[name] for name in ('S1', 'S2', 'S3', 'D2', 'D1', 'MambaIR')), (4, 64, 64, 216, 16, 7),
                       (4, 64, 64, 72, 10, 3)]  # yapf: disable
TINY: list[Shape] = [(1, 3, 4, 8, 3, 1), (1, 3, 4, 8, 16, 1)]
DTYPES = (torch.float32, torch.bfloat16)
# |candidate - first| / |first| of output and gradients: two roundings of each type, and sums in another order
AGREE = {torch.float32: 2e-5, torch.bfloat16: 8e-3}


@lru_cache(1)
def problem(shape: Shape, dtype: torch.dtype, device: str) -> tuple[list[Tensor], Tensor]:
    tensors = inputs(shape, dtype, device)
    return tensors, torch.randn(tensors[0].shape, generator=torch.Generator().manual_seed(1)).to(tensors[0])


def run(tensors: list[Tensor], dy: Tensor) -> list[Tensor]:
    """Output and gradients, without autograd around the host's code."""
    if dy.is_cuda:
        from basicsr.ops.ss2d import triton_ss2d as module
    else:  # the rehearsal
        from basicsr.ops.ss2d import torch_ss2d as module
    y, starts = module.forward(*tensors, True)
    return [y, *module.backward(dy, *tensors, starts)]


@lru_cache(1)
def right(shape: Shape, dtype: torch.dtype, device: str) -> list[Tensor]:
    """What the first candidates give."""
    with forced(**{part: rows[0] for part, rows in triton_candidates.CANDIDATES.items()}):
        return [t.clone() for t in run(*problem(shape, dtype, device))]


def difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    found = [((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30)).item()
             for a, b in zip(ours, theirs)]
    return max(x if x == x else float('inf') for x in found)


def measure(part: str, shape: Shape, dtype: torch.dtype, candidate: Candidate, context: Context,
            compilers: Compilers) -> Iterator[Row]:  # yapf: disable
    device, kind = context.device, kind_of(shape, dtype)
    name = triton_candidates.key(kind.states, kind.rank, dtype)
    compilers.ready(kind, **{part: candidate})
    expected = right(shape, dtype, device)
    with forced(**{part: candidate}):
        apart = difference(run(*problem(shape, dtype, device)), expected)
        row: Row = {'part': part, 'kind': name, 'candidate': named(candidate), 'differs by': apart,
                    'right': 'yes' if apart <= AGREE[dtype] else 'no'}  # yapf: disable
        # the rehearsal cannot tell candidates apart, and takes figures that can be told
        row['ms'] = milliseconds(partial(run, *problem(shape, dtype, device)), device) if device == 'cuda' else float(
            len(repr(candidate)))
    rivals = [r['ms'] for r in context.rows if (r.get('part'), r.get('kind'), r.get('right')) == (part, name, 'yes')]
    row['stored'] = 'yes' if row['right'] == 'yes' and row['ms'] < min(rivals, default=float('inf')) else ''
    if row['stored']:
        triton_candidates.store(architecture(device), part, name, candidate)
    yield row


def milliseconds(function: Callable[[], object], device: str) -> float:
    found = replayed(function, device)
    return found if found == found else eager(function, device)  # kernels of milliseconds hide the host


def architecture(device: str) -> str:
    return triton_candidates.architecture(torch.device(device)) or 'rehearsal'


def tasks(context: Context) -> list[Task]:
    if context.tiny:  # nothing of a rehearsal reaches the tree
        triton_candidates.TUNED = Path(context.options['scratch'], 'tuned.json')
    compilers, found = Compilers(context.device), []
    for shape in TINY if context.tiny else PLACES:
        for dtype in DTYPES:
            kind = kind_of(shape, dtype)
            for part in ('gradient', 'forward'):
                rows = list(triton_candidates.CANDIDATES[part])
                # what is in use goes first: a run that is cut off must not replace it by something slower
                used = triton_candidates.choose(part, kind.states, kind.rank, dtype, torch.device(context.device))
                for candidate in distinct(kind, part, dict.fromkeys([used, *rows])):
                    compilers.submit(kind, **{part: candidate})
                    found.append((f'{part} {triton_candidates.key(kind.states, kind.rank, dtype)} {named(candidate)}',
                                  partial(measure, part, shape, dtype, candidate, context, compilers)))  # yapf: disable
    return found

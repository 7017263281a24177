"""Which plans of `basicsr/ops/cuda/plans.py` are fastest on this GPU; the winners go to the table that the launcher reads.

All are compiled ahead, side by side. A plan must give what the first of the table gives. The fastest so far is stored after
each measurement, so that a run that is cut off leaves the best that it found.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path

import torch
from gpu_run import Compilers, Context, Row, Task
from gpu_scan import SHAPES, inputs, kind_of, named
from gpu_timing import eager, replayed
from scan import Shape
from torch import Tensor

from basicsr.ops.cuda import plans
from basicsr.ops.cuda.driver import architecture
from basicsr.ops.cuda.plans import Plan, forced

# where the candidates of a kind of scan are measured, in order of worth; MambaIR's other widths after its official one
PLACES: list[Shape] = [
    *(SHAPES[name] for name in ('S1', 'S2', 'S3', 'D2', 'D1', 'MambaIR')), (4, 64, 64, 216, 16, 7),
    (4, 64, 64, 72, 10, 3)
]
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
        from basicsr.ops.cuda import ss2d as module
    else:  # the rehearsal
        from basicsr.ops.ss2d import torch_ss2d as module
    y, starts = module.forward(*tensors, True)
    return [y, *module.backward(dy, *tensors, starts)]


@lru_cache(1)
def right(shape: Shape, dtype: torch.dtype, device: str) -> list[Tensor]:
    """What the first plan gives."""
    with forced(plans.candidates(kind_of(shape, dtype))[0]):
        return [t.clone() for t in run(*problem(shape, dtype, device))]


def difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    found = [((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30)).item()
             for a, b in zip(ours, theirs)]
    return max(x if x == x else float('inf') for x in found)


def measure(shape: Shape, dtype: torch.dtype, plan: Plan, context: Context, compilers: Compilers) -> Iterator[Row]:
    device, kind = context.device, kind_of(shape, dtype)
    compilers.ready(kind, plan)
    expected = right(shape, dtype, device)
    with forced(plan):
        apart = difference(run(*problem(shape, dtype, device)), expected)
        row: Row = {
            'kind': kind.name, 'plan': named(plan), 'differs by': apart,
            'right': 'yes' if apart <= AGREE[dtype] else 'no'
        }
        # the rehearsal cannot tell plans apart, and takes figures that can be told
        row['ms'] = milliseconds(partial(run, *problem(shape, dtype, device)), device) if device == 'cuda' else float(
            len(repr(plan)))
    rivals = [r['ms'] for r in context.rows if (r.get('kind'), r.get('right')) == (kind.name, 'yes')]
    row['stored'] = 'yes' if row['right'] == 'yes' and row['ms'] < min(rivals, default=float('inf')) else ''
    if row['stored']:
        plans.store(architecture(torch.device('cuda')) if device == 'cuda' else 'rehearsal', kind, plan)
    yield row


def milliseconds(function: Callable[[], object], device: str) -> float:
    found = replayed(function, device)
    return found if found == found else eager(function, device)  # kernels of milliseconds hide the host


def tasks(context: Context) -> list[Task]:
    if context.tiny:  # nothing of a rehearsal reaches the tree
        plans.TUNED = Path(context.options['scratch'], 'tuned.json')
    compilers, found = Compilers(context.device), []
    for shape in TINY if context.tiny else PLACES:
        for dtype in DTYPES:
            kind = kind_of(shape, dtype)
            # what is in use goes first: a run that is cut off must not replace it by something slower
            used = plans.choose(kind, '' if context.tiny else architecture(torch.device('cuda')))
            for plan in dict.fromkeys([used, *plans.candidates(kind)]):
                compilers.submit(kind, plan)
                found.append((f'{kind.name} {named(plan)}', partial(measure, shape, dtype, plan, context, compilers)))
    return found

"""The scan of SS2D on a GPU: milliseconds, launches and memory at the shapes of published networks.

`eager` is what a program sees that calls the scan alone; `graph` replays a recorded CUDA graph, which is the GPU's part.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from gpu_run import Compilers, Context, Row, Task
from gpu_timing import eager, launches_and_busy, peak, replayed
from scan import Shape, problem, project
from torch import Tensor

from basicsr.ops.cuda.driver import architecture
from basicsr.ops.cuda.plans import Kind, Plan, choose
from basicsr.ops.ss2d import ss2d_scan

# of RetinexMamba at its three levels, encoder and decoder, batch 8 at 128 x 128; a photograph; the middle of MambaIR
SHAPES: dict[str, Shape] = {
    'S1': (8, 128, 128, 80, 16, 3),
    'S2': (8, 64, 64, 160, 32, 5),
    'S3': (8, 32, 32, 320, 64, 10),
    'D2': (8, 64, 64, 160, 64, 5),
    'D1': (8, 128, 128, 80, 32, 3),
    'F1': (1, 400, 600, 80, 16, 3),
    'MambaIR': (4, 64, 64, 360, 16, 12),
}
FORWARD_ONLY = ('F1', )
STEP = {'S1': 1, 'S2': 2, 'S3': 2, 'D2': 2, 'D1': 1}  # scans of a training step of RetinexMamba
# milliseconds of forward, and of forward with backward, as a graph, at most, in either dtype; MiB beside the inputs
TARGETS: dict[str, tuple[float | None, float | None]] = {
    'S1': (0.6, 2.2), 'S2': (None, 2.2), 'S3': (None, 2.2), 'D1': (None, 4.2), 'D2': (None, 4.2)
}
TARGET_STEP, TARGET_MIB = 24., {'S1': 300}
DTYPES = (torch.float32, torch.bfloat16)


def shapes(tiny: bool) -> dict[str, Shape]:
    return dict.fromkeys(SHAPES, (1, 6, 5, 8, 2, 1)) if tiny else SHAPES


def kind_of(shape: Shape, dtype: torch.dtype) -> Kind:
    return Kind(shape[4], shape[5], dtype, shape[3] % 2 == 0)


def inputs(shape: Shape, dtype: torch.dtype, device: str) -> list[Tensor]:
    """The arguments of `ss2d_scan`: the image and what is projected from it in `dtype`, the rest float32."""
    tensors = project(*problem(shape, device))
    return [t.to(dtype) for t in tensors[:2]] + tensors[2:]


def step(function: Callable[..., Tensor], tensors: list[Tensor]) -> Callable[[], object]:
    """Forward and backward."""
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    with torch.no_grad():
        dy = torch.randn_like(function(*tensors))
    return lambda: torch.autograd.grad(function(*leaves), leaves, dy)


def named(plan: Plan) -> str:
    """A plan in a table's cell."""
    return (f'{plan.chunk}/{plan.tile}/{plan.half}, {plan.part} at once,'
            f' blocks {plan.ends}/{plan.output}/{plan.gradients}')


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix('torch.')


def targets(context: Context, *pairs: tuple[float, float]) -> Row:
    """Of (value, at most); of a rehearsal none."""
    return {} if context.tiny else {
        'targets': ', '.join(f'{limit:g}' for _, limit in pairs), 'met': ', '.join('yes' if value <= limit else 'no'
                                                                                   for value, limit in pairs)
    }


def measure(name: str, shape: Shape, dtype: torch.dtype, context: Context, compilers: Compilers) -> Iterator[Row]:
    device, kind = context.device, kind_of(shape, dtype)
    compilers.ready(kind)
    tensors = inputs(shape, dtype, device)
    forward = torch.no_grad()(partial(ss2d_scan, *tensors))
    row: Row = {
        'shape': name, 'dtype': dtype_name(dtype), 'forward eager': eager(forward, device),
        'forward graph': replayed(forward, device), 'both eager': '', 'both graph': '',
        'forward launches': launches_and_busy(forward, device)[0], 'both launches': '',
        'forward MiB': peak(forward, device), 'both MiB': ''
    }
    if name not in FORWARD_ONLY:
        both = step(ss2d_scan, tensors)
        row |= {
            'both eager': eager(both, device), 'both graph': replayed(both, device),
            'both launches': launches_and_busy(both, device)[0], 'both MiB': peak(both, device)
        }
    pairs = zip((row['forward graph'], row.get('both graph'), row.get('both MiB')),
                (*TARGETS.get(name, (None, None)), TARGET_MIB.get(name)))
    row |= targets(context, *((value, limit) for value, limit in pairs if value and limit))
    yield row | {'plan': named(choose(kind, architecture(torch.device('cuda')))) if device == 'cuda' else ''}


def total(dtype: torch.dtype, context: Context) -> Iterator[Row]:
    """The scans of one training step of RetinexMamba."""
    found = {row['shape']: row for row in context.rows if row.get('dtype') == dtype_name(dtype) and 'shape' in row}
    missing = [name for name in STEP if name not in found]
    if missing:
        raise RuntimeError(f'{", ".join(missing)} were not measured')
    columns = ('forward eager', 'forward graph', 'both eager', 'both graph', 'forward launches', 'both launches')
    sums = {c: sum(found[name][c] * count for name, count in STEP.items()) for c in columns}
    yield {
        'shape': 'all of a step', 'dtype': dtype_name(dtype), **sums,
        **targets(context, (sums['both graph'], TARGET_STEP))
    }


def tasks(context: Context) -> list[Task]:
    compilers = Compilers(context.device)
    jobs = [(name, shape, dtype) for name, shape in shapes(context.tiny).items() for dtype in DTYPES]
    for _, shape, dtype in jobs:
        compilers.submit(kind_of(shape, dtype))
    run: list[Task] = [(f'{name} {dtype_name(dtype)}', partial(measure, name, shape, dtype, context, compilers))
                       for name, shape, dtype in jobs]
    position = 2 * len(STEP)
    sums = [(f'step {dtype_name(dtype)}', partial(total, dtype, context)) for dtype in DTYPES]
    return run[:position] + sums + run[position:]

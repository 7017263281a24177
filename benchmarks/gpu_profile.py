"""Where the time goes on a GPU: kernels of a training step; of the scan's kernels the resident blocks and why they wait.

python benchmarks/gpu_profile.py SHAPE DTYPE       (what `ncu` looks at)
"""
from __future__ import annotations

import csv
import ctypes
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import common  # noqa: F401  finds the checkout
import torch
from gpu_run import Compilers, Context, Row, Task
from gpu_scan import DTYPES, dtype_name, inputs, kind_of, shapes, step
from gpu_timing import kernels

from basicsr.ops.cuda import ss2d
from basicsr.ops.cuda.driver import architecture, driver
from basicsr.ops.cuda.plans import THREADS, choose, shared_bytes
from basicsr.ops.ss2d import ss2d_scan

SCAN = ('ends', 'adjoint_ends', 'carry', 'output', 'gradients', 'sum_chunks')
LOCAL, REGISTERS = 3, 4  # CUfunction_attribute of the driver
LOOKED_AT = ('S1', 'S3')
SECTIONS = ('SpeedOfLight', 'Occupancy', 'LaunchStats', 'SchedulerStats', 'WarpStateStats', 'MemoryWorkloadAnalysis')
# of the report of ncu: time, occupancy, and for how many cycles a warp waits for what between two instructions
COUNTERS = re.compile(r'gpu__time_duration\.sum|sm__warps_active\.avg\.pct|launch__(occupancy_limit|registers|waves)'
                      r'|smsp__average_warps_issue_stalled_\w+_per_issue_active\.ratio|smsp__issue_active\.avg\.pct'
                      r'|smsp__inst_executed\.sum$|l1tex__throughput\.avg\.pct|dram__bytes\.sum$')


def by_kernel(function: Any, context: Context) -> dict[str, float]:
    """Milliseconds of the scan's kernels in a call."""
    found: dict[str, float] = {}
    for name, _, ms in kernels(function, context.device):
        key = name if name in SCAN else 'rest'
        found[key] = found.get(key, 0) + ms
    return found


def resident(name: str, dtype: torch.dtype, context: Context, compilers: Compilers) -> Iterator[Row]:
    """Blocks of each kernel that a multiprocessor holds at once, as the driver counts them; then their times."""
    shape = shapes(context.tiny)[name]
    kind = kind_of(shape, dtype)
    compilers.ready(kind)
    run = step(ss2d_scan, inputs(shape, dtype, context.device))
    run(), run()
    where = f'{name} {dtype_name(dtype)}'
    if not context.tiny:
        device = torch.device('cuda', torch.cuda.current_device())
        plan = choose(kind, architecture(device))
        for kernel, function in ss2d.module(kind, plan, device).functions.items():
            threads = THREADS.get(kernel, 32 * plan.warps)
            shared, blocks = shared_bytes(kernel, kind, plan), ctypes.c_int()
            driver().cuOccupancyMaxActiveBlocksPerMultiprocessor(ctypes.byref(blocks), function, threads,
                                                                 ctypes.c_size_t(shared))
            yield {
                'scan': where, 'kernel': kernel, 'resident blocks': blocks.value,
                'resident warps': blocks.value * threads // 32, 'registers': attribute(function, REGISTERS),
                'local': attribute(function, LOCAL), 'shared': shared
            }
    yield {'scan': where, **{f'{k} ms': v for k, v in by_kernel(run, context).items()}}


def attribute(function: ctypes.c_void_p, number: int) -> int:
    value = ctypes.c_int()
    driver().cuFuncGetAttribute(ctypes.byref(value), number, function)
    return value.value


def counters(name: str, dtype: torch.dtype, context: Context) -> Iterator[Row]:
    """What `ncu` counts in the first launch of each kernel."""
    where = f'{name} {dtype_name(dtype)}'
    ncu = shutil.which('ncu')
    if ncu is None or context.tiny:
        yield {'scan': where, 'failed': 'no GPU' if context.tiny else 'ncu is not on the PATH'}
        return
    command = [
        ncu, *(f'--section={s}' for s in SECTIONS), '--page', 'raw', '--csv', '--clock-control', 'none',
        '--profile-from-start', 'off', sys.executable, __file__, name,
        dtype_name(dtype)
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=max(5, context.left - 2))
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    if len(lines) < 3:
        raise RuntimeError(f'ncu: {(done.stdout + done.stderr)[-300:]}')
    names, units, *rows = csv.reader(lines)
    for values in rows:
        kernel = values[names.index('Kernel Name')]
        for label, unit, value in zip(names, units, values):
            if COUNTERS.search(label):
                yield {'scan': where, 'kernel': kernel, 'counter': label, 'value': value, 'unit': unit}


def network(name: str, context: Context) -> Iterator[Row]:
    from gpu_networks import top_kernels  # needs more packages than the scan does
    yield from top_kernels(name, context)


def tasks(context: Context) -> list[Task]:
    compilers = Compilers(context.device)
    jobs = [(name, dtype) for name in LOOKED_AT for dtype in DTYPES]
    for name, dtype in jobs:
        compilers.submit(kind_of(shapes(context.tiny)[name], dtype))
    found: list[Task] = [(f'resident {n} {dtype_name(d)}', partial(resident, n, d, context, compilers))
                         for n, d in jobs]
    found.append(('step', partial(network, 'RetinexMamba_LOL_v1', context)))
    return found + [(f'ncu {n} {dtype_name(d)}', partial(counters, n, d, context)) for n, d in jobs]


def profiled(name: str, dtype: torch.dtype) -> None:
    """Forward and backward; `ncu` looks at the first launch of each kernel in the second one."""
    twice = step(ss2d_scan, inputs(shapes(False)[name], dtype, 'cuda'))
    twice()
    launch, seen = ss2d.Scan.launch, set()

    def watched(self: ss2d.Scan, kernel: str, *args: Any, **kwargs: Any) -> None:
        torch.cuda.synchronize()
        if kernel not in seen:
            torch.cuda.profiler.start()
        launch(self, kernel, *args, **kwargs)
        torch.cuda.synchronize()
        if kernel not in seen:
            torch.cuda.profiler.stop()
        seen.add(kernel)

    ss2d.Scan.launch = watched
    twice()
    torch.cuda.synchronize()


if __name__ == '__main__':
    torch.manual_seed(0)
    profiled(sys.argv[1], getattr(torch, sys.argv[2]))

"""Where the time goes on a GPU: kernels of a training step; of the scan's kernels the resident programs and why they wait.

python benchmarks/gpu_profile.py SHAPE DTYPE       (forward and backward twice, for `ncu` to look at)
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

from basicsr.ops.selective_scan.triton_gradient import gradient_kernel
from basicsr.ops.selective_scan.triton_kernels import carry_kernel, sweep_kernel
from basicsr.ops.selective_scan.triton_split import split_kernel
from basicsr.ops.selective_scan.triton_walk import pass_kernel, walk_kernel
from basicsr.ops.ss2d import ss2d_scan

GRADIENTS = ('gradient_kernel', 'split_kernel', 'walk_kernel')
SCAN = (*GRADIENTS, 'sweep_kernel', 'pass_kernel', 'carry_kernel')
STATIC_SHARED, LOCAL, REGISTERS, CARVE_OUT = 1, 3, 4, 9  # CUfunction_attribute of the driver
LOOKED_AT = ('S1', 'S3')
# of the report of ncu: time, occupancy, and for how many cycles a warp waits for what between two instructions
COUNTERS = re.compile(r'gpu__time_duration\.sum|sm__warps_active\.avg\.pct|launch__(occupancy_limit|registers|waves)'
                      r'|smsp__average_warps?_(latency_)?issue_stalled_\w+\.ratio|sm__throughput\.avg\.pct'
                      r'|sm__inst_executed\.avg\.per_cycle_active$|lts__t_sector_hit_rate\.pct|dram__bytes\.sum$')


def compiled() -> Iterator[Any]:
    """The kernels that have run in this process."""
    for kernel in (sweep_kernel, pass_kernel, carry_kernel, gradient_kernel, split_kernel, walk_kernel):
        for caches in kernel.device_caches.values():
            for found in caches[0].values():
                if found.function is not None:
                    yield found


def by_kernel(function: Any, context: Context) -> dict[str, float]:
    """Milliseconds of the scan's kernels in a call."""
    found: dict[str, float] = {}
    for name, _, ms in kernels(function, context.device):
        key = next((k for k in SCAN if k in name), 'rest')
        found[key] = found.get(key, 0) + ms
    return found


def scan_step(name: str, dtype: torch.dtype, context: Context, compilers: Compilers) -> Any:
    shape = shapes(context.tiny)[name]
    compilers.ready(kind_of(shape, dtype))
    run = step(ss2d_scan, inputs(shape, dtype, context.device))
    run(), run()
    return run


def resident(name: str, dtype: torch.dtype, context: Context, compilers: Compilers) -> Iterator[Row]:
    """Programs of each kernel that a multiprocessor holds at once, as the driver counts them."""
    before = {id(c) for c in compiled()}
    run = scan_step(name, dtype, context, compilers)
    driver = None if context.tiny else ctypes.CDLL('libcuda.so.1')
    for found in compiled():
        if id(found) in before:
            continue
        threads, shared = 32 * found.metadata.num_warps, found.metadata.shared
        function, programs = ctypes.c_void_p(found.function), ctypes.c_int()
        driver.cuOccupancyMaxActiveBlocksPerMultiprocessor(ctypes.byref(programs), function, threads,
                                                           ctypes.c_size_t(shared))  # yapf: disable
        yield {'scan': f'{name} {dtype_name(dtype)}', 'kernel': found.name, 'warps': found.metadata.num_warps,
               'resident programs': programs.value, 'resident warps': programs.value * found.metadata.num_warps,
               'registers': attribute(driver, function, REGISTERS), 'local': attribute(driver, function, LOCAL),
               'shared': shared + attribute(driver, function, STATIC_SHARED)}  # yapf: disable
    yield {'scan': f'{name} {dtype_name(dtype)}', **{f'{k} ms': v for k, v in by_kernel(run, context).items()}}


def attribute(driver: Any, function: Any, number: int) -> int:
    value = ctypes.c_int()
    driver.cuFuncGetAttribute(ctypes.byref(value), number, function)
    return value.value


def carve_out(name: str, dtype: torch.dtype, context: Context, compilers: Compilers) -> Iterator[Row]:
    """What the division of the first cache into cache and shared memory does to the gradients."""
    run = scan_step(name, dtype, context, compilers)
    driver = None if context.tiny else ctypes.CDLL('libcuda.so.1')
    for percent in (0, 25, 50, 100, -1):  # -1 gives the choice back to the driver
        for found in compiled():
            if found.name in GRADIENTS:
                driver.cuFuncSetAttribute(ctypes.c_void_p(found.function), CARVE_OUT, percent)
        run()
        times = by_kernel(run, context)
        yield {'scan': f'{name} {dtype_name(dtype)}', 'shared memory %': percent,
               'gradient ms': sum(times.get(k, 0) for k in GRADIENTS)}  # yapf: disable


def counters(name: str, dtype: torch.dtype, context: Context) -> Iterator[Row]:
    """What `ncu` counts in one launch of the gradient kernel."""
    ncu = shutil.which('ncu')
    if ncu is None or context.tiny:
        yield {'scan': f'{name} {dtype_name(dtype)}', 'failed': 'no GPU' if context.tiny else 'ncu is not on the PATH'}
        return
    command = [ncu, '--set', 'full', '--page', 'raw', '--csv', '--clock-control', 'none', '--launch-skip', '5',
               '--launch-count', '1', '--kernel-name', f'regex:{"|".join(GRADIENTS)}', sys.executable, __file__, name,
               dtype_name(dtype)]  # yapf: disable
    done = subprocess.run(command, capture_output=True, text=True, timeout=max(5, context.left - 2))
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    if len(lines) < 3:
        raise RuntimeError(f'ncu: {(done.stdout + done.stderr)[-300:]}')
    names, units, values = csv.reader(lines[:3])
    yield {'scan': f'{name} {dtype_name(dtype)}', 'counter': 'kernel', 'value': values[names.index('Kernel Name')][:60]}
    for label, unit, value in zip(names, units, values):
        if COUNTERS.search(label):
            yield {'scan': f'{name} {dtype_name(dtype)}', 'counter': label, 'value': value, 'unit': unit}


def network(name: str, context: Context) -> Iterator[Row]:
    from gpu_networks import top_kernels  # needs more packages than the scan does
    yield from top_kernels(name, context)


def tasks(context: Context) -> list[Task]:
    compilers = Compilers(context.device)
    jobs = [(name, dtype) for name in LOOKED_AT for dtype in DTYPES]
    for name, dtype in jobs:
        compilers.submit(kind_of(shapes(context.tiny)[name], dtype))
    found: list[Task] = []
    for label, function in (('resident', resident), ('carve-out', carve_out)):
        found += [(f'{label} {n} {dtype_name(d)}', partial(function, n, d, context, compilers)) for n, d in jobs]
    found.append(('step', partial(network, 'RetinexMamba_LOL_v1', context)))
    return found + [(f'ncu {n} {dtype_name(d)}', partial(counters, n, d, context)) for n, d in jobs]


if __name__ == '__main__':
    torch.manual_seed(0)
    dtype = getattr(torch, sys.argv[2])
    twice = step(ss2d_scan, inputs(shapes(False)[sys.argv[1]], dtype, 'cuda'))
    twice(), twice()
    torch.cuda.synchronize()

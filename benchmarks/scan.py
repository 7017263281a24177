"""The scan of SS2D: backends against the published loop and each other, two threads, peak memory.

Where a peer is the loop, both sides start from the image and include the projection to step, B and C.
"""
from __future__ import annotations

import logging
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from common import report
from peers.published_scan import mambapy_scan, published_scan, published_ss2d
from torch import Tensor

from basicsr.ops.native.library import best_isa, supported_isas
from basicsr.ops.ss2d import ss2d_scan
from basicsr.utils.logger import get_root_logger
from basicsr.utils.peak_memory import peak_growth

Shape = tuple[int, int, int, int, int, int]  # batch, height, width, channels, states, rank
SMALL, STEP, MIDDLE, S1 = ((b, side, side, 80, 16, 3) for b, side in ((1, 32), (1, 24), (1, 64), (8, 128)))


def problem(shape: Shape, device: str = 'cpu') -> list[Tensor]:
    """Image, projection to step, B and C, step weight and bias, A, D: as drawn when a network is built."""
    batch, height, width, channels, states, rank = shape
    g = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(batch, height, width, channels, generator=g),
        torch.randn(4, rank + 2 * states, channels, generator=g) * channels**-0.5,
        torch.randn(4, channels, rank, generator=g) * rank**-0.5,
        torch.randn(4, channels, generator=g) * 0.5 - 4, -torch.arange(1.0, states + 1).repeat(4 * channels, 1),
        torch.ones(4 * channels)
    ]
    return [t.to(device) for t in tensors]


def project(x: Tensor, weight: Tensor, *rest: Tensor) -> list[Tensor]:
    """The arguments of `ss2d_scan`."""
    return [x, (x @ weight.flatten(0, 1).t()).unflatten(-1, weight.shape[:2]), *rest]


def ours(*tensors: Tensor) -> Tensor:
    return ss2d_scan(*project(*tensors))


def published(x: Tensor, *rest: Tensor, scan: Callable[..., Tensor] = published_scan) -> Tensor:
    return published_ss2d(x.permute(0, 3, 1, 2).contiguous(), *rest, scan)


def under(function: Callable[[], Any], backend: str, isa: str = '', threads: int = 1) -> Callable[[], Any]:
    """`function` on a backend, an instruction set and a number of threads."""

    def run() -> Any:
        os.environ.update(BASICSR_SCAN=backend, BASICSR_SCAN_ISA=isa)
        best_isa.cache_clear()
        torch.set_num_threads(threads)
        return function()

    return run


def forward(function: Callable[..., Tensor], tensors: list[Tensor]) -> Callable[[], Tensor]:
    return torch.no_grad()(partial(function, *tensors))


def step(function: Callable[..., Tensor], tensors: list[Tensor]) -> Callable[[], Any]:
    leaves = [t.clone().requires_grad_() for t in tensors]
    return lambda: torch.autograd.grad(function(*leaves).square().mean(), leaves)


def alternate(functions: dict[str, Callable[[], Any]], rounds: int = 5, turn: float = 0.1) -> dict[str, float]:
    """Median seconds of a call; a turn is one untimed call, then one timed call or as many as fit in `turn` seconds.

    Calls of a millisecond are timed here: straight after another function they mostly measure the cold caches and the
    returned pages that it left behind. The untimed call puts everyone, slow peers too, on memory of their own.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            function()
            start = now = time.perf_counter()
            end = start + turn
            while now < end:
                function()
                start, now = now, time.perf_counter()
                times[name].append(now - start)
    return {name: statistics.median(values) for name, values in times.items()}


def synchronised(function: Callable[[], Any]) -> Callable[[], Any]:
    """Wait for the GPU, so that the clock sees its work."""

    def run() -> Any:
        result = function()
        torch.cuda.synchronize()
        return result

    return run


def in_fresh_process(function: Callable[..., Any], *args: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as pool:
        return pool.submit(function, *args).result()


def forward_memory(backend: str, shape: Shape) -> int:
    """Peak growth of the forward; the scan alone, except for the loop, whose structure includes the projection."""
    get_root_logger().setLevel(logging.ERROR)
    tensors, tiny = (problem(s) if backend == 'loop' else project(*problem(s)) for s in (shape, (1, 8, 8, *shape[3:])))
    scan = published if backend == 'loop' else ss2d_scan
    under(forward(scan, tiny), 'auto' if backend == 'loop' else backend)()  # what is loaded once
    return peak_growth(forward(scan, tensors)) or 0


def row(what: str, ours: float, peer: float, ratio: float, unit: str = 's', at_least: float | None = None,
        at_most: float | None = None) -> dict[str, Any]:
    """One comparison; `ratio` is a speed-up (target: at least) or a cost (target: at most)."""
    result = {'what': what, 'unit': unit, 'ours': ours, 'peer': peer, 'ratio': ratio, 'target': '', 'met': ''}
    if at_least is not None:
        result |= {'target': f'>= {at_least:g}', 'met': 'yes' if ratio >= at_least else 'no'}
    if at_most is not None:
        result |= {'target': f'<= {at_most:g}', 'met': 'yes' if ratio <= at_most else 'no'}
    return result


def against_the_loop(name: str, runs: Callable, shape: Shape, isas: list[str], targets: dict[str, float]) -> list[dict]:
    """Rows of one problem: every contender takes its turn in one alternation."""
    tensors = problem(shape)
    contenders = {f'native {isa}': under(runs(ours, tensors), 'native', isa) for isa in isas}
    contenders |= {'torch': under(runs(ours, tensors), 'torch'), 'loop': under(runs(published, tensors), 'auto')}
    if find_spec('mambapy'):
        contenders['mambapy'] = under(runs(partial(published, scan=mambapy_scan), tensors), 'auto')
    expected = contenders['loop']()
    for label, contender in contenders.items():
        torch.testing.assert_close(contender(), expected, rtol=1e-3, atol=1e-4, msg=lambda m, k=label: f'{k}: {m}')
    t = alternate(contenders)
    best = f'native {isas[-1]}' if isas else 'torch'
    rows = [
        row(f'{k} / published loop, {name}', t[k], t['loop'], t['loop'] / t[k], at_least=targets.get(k.split()[-1]))
        for k in contenders if k not in ('loop', 'mambapy')
    ]
    if best != 'torch':
        rows.append(row(f'{best} / torch, {name}', t[best], t['torch'], t['torch'] / t[best], at_least=5))
    peers = [k for k in dict.fromkeys([best, 'torch']) if 'mambapy' in t]
    return rows + [row(f'{k} / mambapy pscan, {name}', t[k], t['mambapy'], t['mambapy'] / t[k]) for k in peers]


def large() -> list[dict]:
    """Native against torch, and two threads against one, at a training batch."""
    if not supported_isas():
        return [{'what': 'native at 8x128x128: skipped, the C kernels are not compiled'}]
    scan = forward(ss2d_scan, project(*problem(S1)))
    contenders = {'native': under(scan, 'native'), 'torch': under(scan, 'torch')}
    if os.cpu_count() > 1:
        contenders['two'] = under(scan, 'native', threads=2)
    t = alternate(contenders)
    torch.set_num_threads(1)
    rows = [row('native / torch, forward 8x128x128', t['native'], t['torch'], t['torch'] / t['native'], at_least=5)]
    if 'two' in t:
        rows.append(row('native 2 / 1 threads, forward 8x128x128', t['two'], t['native'], t['native'] / t['two']))
    return rows


def memory() -> list[dict]:
    rows, mb = [], 1 / 2**20
    if supported_isas():
        output, peak = problem(S1)[0].nbytes, in_fresh_process(forward_memory, 'native', S1)
        rows.append(
            row('native / its output, peak memory, forward 8x128x128', peak * mb, output * mb, peak / output, 'MB',
                at_most=1.2))
    plain, loop = (in_fresh_process(forward_memory, k, MIDDLE) for k in ('torch', 'loop'))
    rows.append(
        row('torch / published loop, peak memory, forward 1x64x64', plain * mb, loop * mb, plain / loop, 'MB',
            at_most=0.15))
    return rows


def gpu() -> list[dict]:
    if not torch.cuda.is_available() or not find_spec('mamba_ssm'):
        return [{'what': 'triton / mamba_ssm: skipped, needs a CUDA GPU and pip install mamba-ssm'}]
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    def peer(u, delta, A, B, C, D, bias, delta_softplus):
        return selective_scan_fn(u, delta, A, B, C, D, None, bias, delta_softplus)

    tensors, rows = problem(S1, 'cuda'), []
    for name, runs in (('forward', forward), ('forward + backward', step)):
        contenders = {'triton': runs(ours, tensors), 'peer': runs(partial(published, scan=peer), tensors)}
        t = alternate({k: synchronised(under(f, 'auto')) for k, f in contenders.items()})
        rows.append(row(f'triton / mamba_ssm, {name} 8x128x128', t['triton'], t['peer'], t['peer'] / t['triton']))
    return rows


def main() -> None:
    get_root_logger().setLevel(logging.ERROR)  # which backend runs is in the table
    torch.set_num_threads(1)
    isas = supported_isas()
    rows = memory()
    rows += against_the_loop('forward 1x32x32', forward, SMALL, isas, {'avx512': 100, 'avx2': 60, 'torch': 12})
    rows += against_the_loop('forward + backward 1x24x24', step, STEP, isas[-1:],
                             {'avx512': 100, 'avx2': 100, 'torch': 25})
    settings = {'shape': 'channels 80, states 16, rank 3', 'load_average': os.getloadavg()[0]}
    report('scan', rows + large() + gpu(), **settings)


if __name__ == '__main__':
    main()

"""Our scan against the published path on one GPU: mamba_ssm's CUDA kernel, with the permutes, projection and merge around it.

Both sides start from the image, each in the memory order that its network has it in, and include the projection. The
kernel comes from an installed `selective_scan_cuda`, or is built from its sources while other sections run:

python benchmarks/gpu_published.py SOURCES FOLDER       (what gpu.py starts for --mamba)
"""
from __future__ import annotations

import importlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import common  # noqa: F401  finds the checkout
import torch
from gpu_run import Compilers, Context, Row, Task, die_with_parent
from gpu_scan import DTYPES, FORWARD_ONLY, dtype_name, kind_of, shapes, step
from gpu_timing import replayed
from peers.published_scan import published_scan, published_ss2d
from scan import Shape, ours, problem
from torch import Tensor

NAME, LOG, ENDED = 'selective_scan_cuda', 'build.log', 'ended'
AT_LEAST, AT_LEAST_FOR = 2.5, {'S1': 3.5}  # times faster, forward and backward


def build(sources: Path, folder: Path) -> None:
    """Compile the extension; sources is a checkout of mamba or its folder csrc/selective_scan."""
    die_with_parent()
    from torch.utils.cpp_extension import load
    here = next(sources.rglob('selective_scan.cpp')).parent
    files = [str(f) for f in sorted(here.iterdir()) if f.suffix in ('.cpp', '.cu')]
    arch = '{}{}'.format(*torch.cuda.get_device_capability())
    flags = [
        '-O3', '-U__CUDA_NO_HALF_OPERATORS__', '-U__CUDA_NO_HALF_CONVERSIONS__', '-U__CUDA_NO_BFLOAT16_OPERATORS__',
        '-U__CUDA_NO_BFLOAT16_CONVERSIONS__', '-U__CUDA_NO_BFLOAT162_OPERATORS__',
        '-U__CUDA_NO_BFLOAT162_CONVERSIONS__', '--expt-relaxed-constexpr', '--expt-extended-lambda', '--use_fast_math',
        f'-gencode=arch=compute_{arch},code=sm_{arch}'
    ]
    load(NAME, files, extra_cflags=['-O3'], extra_cuda_cflags=flags, extra_include_paths=[str(here)],
         build_directory=str(folder), verbose=True)


def start_build(sources: str, folder: Path) -> subprocess.Popen:
    with (folder / LOG).open('w') as log:
        return subprocess.Popen([sys.executable, __file__, sources, str(folder)], stdout=log, stderr=log)


def find_kernel(context: Context) -> Any:
    """The extension, as soon as it is built. Raises `RuntimeError` saying why there is none."""
    folder = context.options.get('built')
    if folder and not find_spec(NAME):
        while not Path(folder, ENDED).is_file():
            if context.left < 15:
                raise RuntimeError(f'{NAME} is still being built')
            time.sleep(1)
        sys.path.insert(0, folder)
    elif not find_spec(NAME):
        raise RuntimeError(context.options.get('unbuilt') or f'{NAME} is not installed, and --mamba names no sources')
    importlib.invalidate_caches()
    try:
        return importlib.import_module(NAME)
    except ImportError as error:
        log = Path(folder, LOG).read_text()[-400:] if folder else ''
        raise RuntimeError(f'{NAME}: {error}; {log}') from error


class _Scan(torch.autograd.Function):
    """As mamba_ssm's `SelectiveScanFn` without a gate; `kernel` is the extension."""

    @staticmethod
    def forward(ctx: Any, kernel: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor,
                bias: Tensor) -> Tensor:
        y, states, *_ = kernel.fwd(u, delta, A, B, C, D, None, bias, True)
        ctx.kernel = kernel
        ctx.save_for_backward(u, delta, A, B, C, D, bias, states)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        u, delta, A, B, C, D, bias, states = ctx.saved_tensors
        dy = dy if dy.stride(-1) == 1 else dy.contiguous()
        found = ctx.kernel.bwd(u, delta, A, B, C, D, None, bias, dy, states, None, None, True, False)
        return None, *found[:7]


def scan_with(kernel: Any) -> Callable[..., Tensor]:

    def scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor,
             delta_softplus: bool) -> Tensor:
        assert delta_softplus
        return _Scan.apply(kernel, u, delta, A, B, C, D, bias)

    return scan


def compare(name: str, shape: Shape, dtype: torch.dtype, context: Context, compilers: Compilers) -> Iterator[Row]:
    # the rehearsal has no kernel, and takes the loop in its place
    scan = published_scan if context.tiny else scan_with(find_kernel(context))
    compilers.ready(kind_of(shape, dtype))
    x, weight, dt_w, *rest = problem(shape, context.device)
    mine = [x.to(dtype), weight.to(dtype), dt_w, *rest]
    theirs = [x.permute(0, 3, 1, 2).contiguous().to(dtype), weight.to(dtype), dt_w.to(dtype), *rest]
    published = partial(published_ss2d, scan=scan)
    with torch.no_grad():
        right, found = published(*theirs).float(), ours(*mine).float()
    row: Row = {'shape': name, 'dtype': dtype_name(dtype), 'differ by': ((found - right).norm() / right.norm()).item()}
    for what in ('forward', 'both'):
        if what == 'both' and name in FORWARD_ONLY:
            continue
        runs = [(torch.no_grad()(partial(f, *t)) if what == 'forward' else step(f, t))
                for f, t in ((ours, mine), (published, theirs))]
        times = [replayed(run, context.device) for run in runs]
        row |= {f'ours {what}': times[0], f'published {what}': times[1], f'{what} ratio': times[1] / times[0]}
    if 'both ratio' in row and not context.tiny:  # a rehearsal has another peer
        target = AT_LEAST_FOR.get(name, AT_LEAST)
        row |= {'target': f'>= {target:g}', 'met': 'yes' if row['both ratio'] >= target else 'no'}
    yield row


def tasks(context: Context) -> list[Task]:
    compilers = Compilers(context.device)
    jobs = [(name, shape, dtype) for name, shape in shapes(context.tiny).items() for dtype in DTYPES]
    if not context.tiny:
        try:
            find_kernel(context)
        except RuntimeError as error:
            return [('published', partial(_say, str(error)))]
    return [(f'{name} {dtype_name(dtype)}', partial(compare, name, shape, dtype, context, compilers))
            for name, shape, dtype in jobs]


def _say(why: str) -> Iterator[Row]:
    yield {'what': 'skipped', 'failed': why}


if __name__ == '__main__':
    try:
        build(Path(sys.argv[1]), Path(sys.argv[2]))
    finally:
        Path(sys.argv[2], ENDED).touch()

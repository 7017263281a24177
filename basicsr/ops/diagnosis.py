"""What works on this machine, and why not: versions, processor, GPUs, kernels, and every scan backend tried."""
from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import torch

from basicsr.ops.backend import VARIABLE
from basicsr.ops.backend_table import BACKENDS
from basicsr.ops.native import library as native
from basicsr.ops.native.compiled import compiler_here
from basicsr.ops.self_check import check
from basicsr.utils.machine import PACKAGES, environment, gpus, package_version, processor, shadowing
from basicsr.utils.threads import how_threads_wait


def diagnose() -> Iterator[tuple[str, bool]]:
    """Lines, each with whether it tells of something that is broken."""
    facts = {
        'system': platform.platform(),
        'packages': ', '.join(f'{name} {package_version(name)}' for name in PACKAGES),
        'CPU': f'{processor()}; kernels for: {", ".join(native.supported_isas()) or "none"}',
        'threads': f'{torch.get_num_threads()}, which {how_threads_wait()}',
        'C kernels': native.kernels().story,
        'C compiler': compiler_here(),
        **{f'GPU {i}': gpu for i, gpu in enumerate(gpus())},
        **({} if gpus() else {'GPU': 'none that PyTorch can use'}),
        'this package': str(Path(__file__).resolve().parents[1]),
        'others': shadowing() or 'no other basicsr is installed',
    }
    yield environment(), False
    width = max(map(len, facts)) + 2
    for name, fact in facts.items():
        yield f'{name + ":":<{width}}{fact}', False
    yield '', False
    yield f'selective scan backends ({VARIABLE}={os.environ.get(VARIABLE) or "auto"}), checked against the reference:', False
    width = max(map(len, BACKENDS)) + 2
    for row in BACKENDS.values():
        verdict = check(row)
        yield f'  {row.name:<{width}}{verdict.text}', verdict.broken
        yield f'  {"":<{width}}{row.summary}; runs on: {row.where}; needs: {row.needs}', False

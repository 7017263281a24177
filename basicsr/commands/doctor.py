"""What works here and why not: basicsr doctor"""
from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path

from basicsr.utils.errors import run_main

_PACKAGES = ('torch', 'torchvision', 'triton', 'numpy', 'opencv-python', 'lmdb', 'pydantic', 'mamba-ssm',
             'causal-conv1d')


def parse(argv: list[str] | None) -> argparse.Namespace:
    return argparse.ArgumentParser(description=__doc__).parse_args(argv)


def run() -> int:
    import torch

    from basicsr.ops.backend import BACKENDS, VARIABLE
    from basicsr.ops.native import library as native
    from basicsr.training.launch import environment, shadowing
    print(environment())
    print('system:      ', platform.platform())
    print('packages:    ', ', '.join(f'{name} {_version(name)}' for name in _PACKAGES))
    print('CPU:         ', f'{_cpu()}; kernels for: {", ".join(native.supported_isas()) or "none built"}')
    print('C compiler:  ', shutil.which('cc') or shutil.which('gcc') or shutil.which('clang') or 'none')
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(i)
        print(f'GPU {i}:       {properties.name}, compute capability {properties.major}.{properties.minor},'
              f' {properties.total_memory / 2**30:.0f} GiB')
    if not torch.cuda.is_available():
        print('GPU:          none that PyTorch can use')
    print('this package:',
          Path(__file__).resolve().parents[1], '\n            ',
          shadowing() or 'no other basicsr is installed')
    print(
        f'\nselective scan backends ({VARIABLE}={os.environ.get(VARIABLE) or "auto"}), checked against the reference:')
    failed = False
    for name in BACKENDS:
        text, broken = check(name)
        failed |= broken
        print(f'  {name:<10} {text}')
    return 2 if failed else 0


def check(name: str) -> tuple[str, bool]:
    """Run both operators on a small input with a backend: (what came out, whether an available backend is wrong)."""
    import torch

    from basicsr.ops.backend import VARIABLE, unavailable
    device = 'cuda' if name in ('cuda', 'triton', 'mamba_ssm') and torch.cuda.is_available() else 'cpu'
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    reasons, errors = [], []
    try:
        for op, error in (('ss2d', _ss2d_error), ('sequence', _sequence_error)):
            reason = unavailable(name, op, device, torch.float32)
            if reason:
                reasons.append(reason)
            else:
                errors.append(error(device))
    except Exception as error:  # a kernel that does not compile or crashes is what this command is for
        return f'FAILS: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}', True
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before
    if not errors:
        return f'not available: {reasons[-1]}', False
    worst = max(errors)
    note = f' ({reasons[0]})' if reasons else ''
    return (f'works, largest relative error {worst:.0e}{note}',
            False) if worst < 1e-4 else (f'WRONG: error {worst:.0e}', True)


def _relative_error(function, reference, inputs: list, device: str) -> float:
    """Of the output and of all gradients, against the reference in float64."""
    import torch
    ours = [t.to(device).requires_grad_() for t in inputs]
    exact = [t.double().requires_grad_() for t in inputs]
    results = []
    for call, args in ((function, ours), (reference, exact)):
        y = call(*args)
        results.append([y, *torch.autograd.grad(y.square().sum(), args)])
    return max(((a.cpu().double() - b).abs().max() / b.abs().max()).item() for a, b in zip(*results))


def _ss2d_error(device: str) -> float:
    import torch

    from basicsr.ops.ss2d import ss2d_scan
    from basicsr.ops.ss2d.reference import ss2d_reference
    g = torch.Generator().manual_seed(0)
    shapes = ((1, 5, 7, 20), (1, 5, 7, 4, 11), (4, 20, 3), (4, 20), (80, 4), (80, ))
    inputs = [torch.randn(s, generator=g) for s in shapes]
    inputs[4] = -inputs[4].exp()
    return _relative_error(ss2d_scan, ss2d_reference, inputs, device)


def _sequence_error(device: str) -> float:
    import torch

    from basicsr.ops.selective_scan import selective_scan
    from basicsr.ops.selective_scan.reference import selective_scan_reference
    g = torch.Generator().manual_seed(0)
    shapes = ((2, 12, 33), (2, 12, 33), (12, 4), (2, 2, 4, 33), (2, 2, 4, 33), (12, ), (12, ))
    inputs = [torch.randn(s, generator=g) for s in shapes]
    inputs[2] = -inputs[2].exp()
    return _relative_error(selective_scan, selective_scan_reference, inputs, device)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        module = {'opencv-python': 'cv2'}.get(name, name)
        return '(unknown version)' if importlib.util.find_spec(module.replace('-', '_')) else 'no'


def _cpu() -> str:
    info = Path('/proc/cpuinfo')
    name = re.search(r'model name\s*:\s*(.*)', info.read_text()) if info.is_file() else None
    return name.group(1).strip() if name else platform.processor() or platform.machine()


def main(argv: list[str] | None = None) -> int:
    parse(argv)
    return run_main(run)

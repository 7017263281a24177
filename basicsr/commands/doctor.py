"""What works here and why not: basicsr doctor"""
from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

from basicsr.utils.errors import run_main


def parse(argv: list[str] | None) -> argparse.Namespace:
    return argparse.ArgumentParser(description=__doc__).parse_args(argv)


def run() -> int:
    from basicsr.ops.backend import VARIABLE
    from basicsr.ops.backend_table import BACKENDS
    from basicsr.ops.native import library as native
    from basicsr.ops.native.compiled import compiler_here
    from basicsr.ops.self_check import check
    from basicsr.training.launch import environment, shadowing
    from basicsr.utils.machine import PACKAGES, gpus, package_version, processor
    print(environment())
    print('system:      ', platform.platform())
    print('packages:    ', ', '.join(f'{name} {package_version(name)}' for name in PACKAGES))
    print('CPU:         ', f'{processor()}; kernels for: {", ".join(native.supported_isas()) or "none"}')
    print('C kernels:   ', native.kernels().story)
    print('C compiler:  ', compiler_here())
    for i, gpu in enumerate(gpus()):
        print(f'GPU {i}:        {gpu}')
    if not gpus():
        print('GPU:          none that PyTorch can use')
    print('this package:',
          Path(__file__).resolve().parents[1], '\n            ',
          shadowing() or 'no other basicsr is installed')
    print(
        f'\nselective scan backends ({VARIABLE}={os.environ.get(VARIABLE) or "auto"}), checked against the reference:')
    width, failed = max(map(len, BACKENDS)) + 2, False
    for row in BACKENDS.values():
        verdict = check(row)
        failed |= verdict.broken
        print(f'  {row.name:<{width}}{verdict.text}')
        print(f'  {"":<{width}}{row.summary}; runs on: {row.where}; needs: {row.needs}')
    return 2 if failed else 0


def main(argv: list[str] | None = None) -> int:
    parse(argv)
    return run_main(run)

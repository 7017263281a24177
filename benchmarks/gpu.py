"""What a GPU should be asked, in minutes: are the kernels right, how fast are scans and networks, which candidates win.

python benchmarks/gpu.py [--sections NAME ...] [--tune] [--profile] [--golden DIR] [--mamba DIR] [--wheels DIR]

For a bare machine with PyTorch that may be taken away at any minute: each row is in the result file before the next one is
measured, sections come in order of worth, each has a time of its own, and none can take another one down. Without a GPU
the same sections run with tiny shapes on the CPU, as a rehearsal; its rows go to a temporary file.
"""
from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

# in order of worth; after tuning, the candidates that won are measured
SECTIONS = {
    'correct': 'gpu_correct', 'scan': 'gpu_scan', 'tune': 'gpu_tune', 'networks': 'gpu_networks',
    'profile': 'gpu_profile', 'published': 'gpu_published'
}
DEFAULT = ('correct', 'scan', 'networks', 'published')
BEGAN = time.time()


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sections', nargs='+', choices=SECTIONS, default=[], metavar='NAME',
                        help=f"of {', '.join(SECTIONS)}, run in the order given; default: {', '.join(DEFAULT)}")
    parser.add_argument('--tune', action='store_true',
                        help='also measure the candidates of the scan; store the fastest')
    parser.add_argument('--profile', action='store_true', help='kernels of a step, resident programs, reasons to wait')
    parser.add_argument('--seconds', type=float, default=55, help='for each section; default 55')
    parser.add_argument('--golden', metavar='DIR', help='*.npz of published networks; golden.py there or in ../tools')
    parser.add_argument('--mamba', metavar='DIR', help="sources of mamba_ssm's kernel, compiled meanwhile (needs nvcc)")
    parser.add_argument('--wheels', metavar='DIR', help='packages that are missing here: *.whl, or an installed folder')
    parser.add_argument('--out', metavar='FILE', help='result file; default results/<machine>.json')
    args = parser.parse_args(argv)
    for flag in ('golden', 'mamba', 'wheels'):
        if getattr(args, flag) and not Path(getattr(args, flag)).is_dir():
            parser.error(f"--{flag}: '{getattr(args, flag)}' is no folder")
    if args.golden and not any((Path(args.golden) / place / 'golden.py').is_file() for place in ('.', '../tools')):
        parser.error(f"--golden: there is no golden.py in '{args.golden}', nor in the folder 'tools' beside it")
    if not (args.seconds > 0 and math.isfinite(args.seconds)):
        parser.error('--seconds must be above 0')
    if args.out and Path(args.out).is_dir():
        parser.error(f"--out: '{args.out}' is a folder")
    extra = [name for name in ('tune', 'profile') if getattr(args, name)]
    args.sections += extra if args.sections else [name for name in SECTIONS if name in (*DEFAULT, *extra)]
    args.sections = list(dict.fromkeys(args.sections))
    return args


def add_packages(folder: str) -> None:
    """Make packages importable here and in every process that is started."""
    place = Path(folder).resolve()
    wheels = sorted(place.glob('*.whl'))
    if wheels:
        place = Path(tempfile.mkdtemp())
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as file:
                file.extractall(place)
    sys.path.insert(0, str(place))
    os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [str(place), os.environ.get('PYTHONPATH')]))


def prepare_published(args: argparse.Namespace, options: dict[str, str]) -> Any:
    """Start to compile the published kernel, which takes minutes; the process, or None."""
    from gpu_published import start_build
    if not shutil.which('nvcc') and not os.environ.get('CUDA_HOME'):
        options['unbuilt'] = 'nvcc is not on the PATH'
        return None
    options['built'] = tempfile.mkdtemp(dir=options['scratch'])
    return start_build(str(Path(args.mamba).resolve()), Path(options['built']))


def say(text: str) -> None:
    print(f'[{time.time() - BEGAN:5.1f}] {text}', flush=True)


def line(row: dict[str, Any]) -> str:
    return ', '.join(f'{k} {v:.4g}' if isinstance(v, float) else f'{k} {v}' for k, v in row.items() if v != '')


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if args.wheels:
        add_packages(args.wheels)
    import torch
    from common import print_table, results_file
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    file = Path(args.out) if args.out else results_file() if device == 'cuda' else Path(tempfile.mkdtemp(), 'gpu.json')
    say(f'{device}; rows go to {file}')
    if device == 'cpu':  # threads that wait for each other take longer than tiny shapes do
        os.environ['OMP_NUM_THREADS'] = '1'
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        tables = run(args, device, file, scratch)
    for name, rows in tables.items():
        if rows:
            print()
            print_table(f'gpu {name}', rows)
    say(f'rows are in {file}')
    return 1 if any(wrong(name, row) for name, rows in tables.items() for row in rows) else 0


def wrong(section: str, row: dict[str, Any]) -> bool:
    """Whether a row says that kernels are not right, or could not be looked at."""
    return row.get('right') == 'no' or (section == 'correct' and 'failed' in row)


def run(args: argparse.Namespace, device: str, file: Path, scratch: str) -> dict[str, list[dict[str, Any]]]:
    """The sections, one after the other; their rows by name."""
    from common import store
    from gpu_run import Context, run_section
    options = {'scratch': scratch, **({'golden': str(Path(args.golden).resolve())} if args.golden else {})}
    build = prepare_published(args, options) if args.mamba and device == 'cuda' else None
    tables: dict[str, list[dict[str, Any]]] = {}
    for name in args.sections:
        rows = tables[name] = []

        def keep(finished: bool, name: str = name, rows: list[dict[str, Any]] = rows) -> None:
            settings = {'seconds': args.seconds, 'load_average': os.getloadavg()[0]}
            try:
                store(f'gpu {name}', rows, file, finished, **settings)
            except (OSError, ValueError) as error:  # a full disk, a damaged file: what is printed is left
                say(f'{name}: not written to {file}: {error}')

        def add(row: dict[str, Any], name: str = name, rows: list[dict[str, Any]] = rows, keep: Any = keep) -> None:
            rows.append(row)
            say(f'{name}: {line(row)}')
            keep(finished=False)

        missing = run_section(SECTIONS[name], Context(device, options,
                                                      time.time() + args.seconds), add,
                              lambda text, name=name: say(f'{name}: {text}'))
        if missing and name == 'correct':
            add({'what': '; '.join(missing), 'failed': 'not reached'})
        if rows:
            keep(finished=not missing)
    if build:
        build.kill()
    return tables


if __name__ == '__main__':
    sys.exit(main())

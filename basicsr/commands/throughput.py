"""How fast a training runs here, in every precision that could pay: throughput --opt X.yml --minutes 60"""
from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from basicsr.utils.errors import UserError, nearest, run_main

CANDIDATES = {
    'float32': {},
    'bf16': {
        'train.amp': 'bf16'
    },
    'bf16+compile': {
        'train.amp': 'bf16',
        'train.compile': True
    },
    'bf16+cuda-graphs': {
        'train.amp': 'bf16',
        'train.compile': 'reduce-overhead'
    },
}


@dataclass
class Speed:
    """What one candidate does.

    Attributes:
        iterations, images: per second.
        first: seconds of the first iteration, compilation included.
        waiting: share of the time in which the next batch was not there yet.
        memory: GiB of the GPU at most, 0 on the CPU.
        failed: why there are no figures.
    """
    name: str
    iterations: float = 0
    images: float = 0
    first: float = 0
    waiting: float = 0
    memory: float = 0
    failed: str = ''

    def fits(self, minutes: float) -> int:
        """Iterations that end within `minutes`."""
        return max(0, int((60 * minutes - self.first) * self.iterations))


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--opt', '-opt', required=True, metavar='YAML', help='option file')
    parser.add_argument('--minutes', type=float, default=60, help='say how many iterations fit in this time')
    parser.add_argument('--iterations', type=int, default=20, help='timed for each candidate')
    parser.add_argument('--candidates', metavar='LIST', default='float32,bf16',
                        help=f"of: {', '.join(CANDIDATES)}; default float32,bf16")  # yapf: disable
    parser.add_argument('--json', metavar='FILE', help='also write the figures here')
    parser.add_argument('overrides', nargs='*', metavar='path=value', help='options for all candidates')
    args = parser.parse_intermixed_args(argv)
    args.candidates = args.candidates.split(',')
    for name in args.candidates:
        if name not in CANDIDATES:
            raise UserError(
                f"--candidates: there is no '{name}'.{nearest(name, CANDIDATES)} One of: {', '.join(CANDIDATES)}")
    if args.iterations < 1 or args.minutes <= 0:
        raise UserError('--iterations must be at least 1, and --minutes above 0')
    return args


def run(args: argparse.Namespace) -> None:
    from basicsr.config import load_options
    load_options(args.opt, args.overrides, is_train=True)  # its mistakes, before torch is there
    speeds = []
    for name in args.candidates:
        print(f'  measure {name}', flush=True)
        speeds.append(measure(args.opt, args.overrides, name, args.iterations))
    print(table(speeds, args.minutes))
    best = fastest(speeds)
    options = ' '.join(f'{key}={value}' for key, value in CANDIDATES[best.name].items())
    print(f'fastest: {best.name}{f" ({options})" if options else ""}, {best.fits(args.minutes)} iterations in'
          f' {args.minutes:g} minutes')  # yapf: disable
    if args.json:
        from basicsr.utils.files import atomic_write
        with atomic_write(args.json, 'w') as file:
            json.dump({'overrides': CANDIDATES[best.name], 'speeds': [asdict(s) for s in speeds]}, file, indent=2)


def measure(file: str | Path, overrides: list[str], name: str, iterations: int = 20, warmup: int = 3) -> Speed:
    """Train `warmup + iterations` iterations of an option file as `CANDIDATES[name]`; no file is written."""
    import torch

    from basicsr.config import load_options
    from basicsr.data.build import build_train_data
    from basicsr.engine.launch import start_run
    from basicsr.models import build_model
    changes = [f'{key}={value}' for key, value in CANDIDATES[name].items()]
    opt = start_run(load_options(file, [*overrides, *changes], is_train=True))
    on_gpu = opt['num_gpu'] != 0

    def now() -> float:
        if on_gpu:
            torch.cuda.synchronize()
        return time.monotonic()

    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    try:
        loader, sampler = build_train_data(opt)
        model, batches = build_model(opt), _batches(loader, sampler)
        started, waited, first = now(), 0., 0.
        for i in range(1, warmup + iterations + 1):
            asked = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - asked
            model.feed_data(batch)
            model.optimize_parameters(i)
            if i == 1:
                first = now() - started
            if i == warmup:
                started, waited = now(), 0.
        took = now() - started
    except UserError:
        raise
    except Exception as error:  # a compiler that is missing, too little memory: the others still count
        text = str(error).strip().splitlines() or ['']
        return Speed(name, failed=f'{type(error).__name__}: {text[0][:160]}')
    memory = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.
    return Speed(name, iterations / took, iterations * loader.batch_size / took, first, waited / took, memory)


def fastest(speeds: list[Speed]) -> Speed:
    """Raises `UserError` when none ran."""
    ran = [speed for speed in speeds if not speed.failed]
    if not ran:
        raise UserError('nothing ran: ' + '; '.join(f'{s.name}: {s.failed}' for s in speeds))
    return max(ran, key=lambda speed: speed.iterations)


def table(speeds: list[Speed], minutes: float) -> str:
    """The figures as text; the last column is how many iterations fit in `minutes`."""
    lines = [
        f'{"":<18}{"iter/s":>8}{"images/s":>10}{"first (s)":>11}{"waiting":>9}{"GPU GiB":>9}{f"in {minutes:g} min":>12}'
    ]
    for speed in speeds:
        figures = (f'{speed.iterations:8.3f}{speed.images:10.2f}{speed.first:11.1f}{speed.waiting:9.1%}{speed.memory:9.2f}'
                   f'{speed.fits(minutes):12d}')  # yapf: disable
        lines.append(f'{speed.name:<18}' + (f'failed: {speed.failed}' if speed.failed else figures))
    return '\n'.join(lines)


def _batches(loader: Any, sampler: Any) -> Iterator[dict[str, Any]]:
    epoch = 0
    while True:
        sampler.set_epoch(epoch)
        yield from loader
        epoch += 1


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))

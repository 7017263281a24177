"""How fast a training runs here, in every precision that could pay."""
from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from basicsr.config import load_options
from basicsr.utils.errors import UserError
from basicsr.utils.files import write_json
from basicsr.utils.freed_memory import freed_memory_is_kept

# CUDA graphs by default on a GPU, also of the compiled network; `reduce-overhead` are those of the compiler
CANDIDATES: dict[str, dict[str, Any]] = {
    'float32': {},
    'bf16': {'train.amp': 'bf16'},
    'bf16+eager': {'train.amp': 'bf16', 'train.cuda_graphs': False},
    'bf16+compile': {'train.amp': 'bf16', 'train.compile': True},
    'bf16+reduce-overhead': {'train.amp': 'bf16', 'train.compile': 'reduce-overhead'},
}

_WARMUP = 6  # three or four iterations before the step is recorded, the recording, and a replay


@dataclass
class Speed:
    """What one candidate does.

    Attributes:
        iterations, images: per second.
        first: seconds of the first iteration, compilation included; CUDA graphs are recorded after it.
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


def compare(file: str | Path, overrides: list[str], names: Sequence[str], iterations: int, minutes: float,
            table: str | None = None) -> Iterator[str]:
    """Measure candidates, a line each, and say which gets furthest. Raises `UserError` when none ran.

    Args:
        table: file for the figures, JSON; written after each candidate, as the next may take all the time that is left.
    """
    load_options(file, overrides, is_train=True)  # its mistakes, before torch is there
    yield heading(minutes)
    speeds: list[Speed] = []
    for name in names:
        speeds.append(measure_apart(file, overrides, name, iterations))
        ran = [speed for speed in speeds if not speed.failed]
        if table and ran:
            content = {'overrides': CANDIDATES[furthest(ran, minutes).name], 'speeds': [asdict(s) for s in speeds]}
            write_json(table, content)
        yield line(speeds[-1], minutes)
    if not ran:
        raise UserError('nothing ran: ' + '; '.join(f'{s.name}: {s.failed}' for s in speeds))
    best = furthest(ran, minutes)
    options = ' '.join(f'{key}={value}' for key, value in CANDIDATES[best.name].items())
    yield (f'gets furthest: {best.name}{f" ({options})" if options else ""}, {best.fits(minutes)} iterations in'
           f' {minutes:g} minutes without validations')


def measure_apart(file: str | Path, overrides: list[str], name: str, iterations: int) -> Speed:
    """`measure` in a process of its own: neither a crash nor memory that is kept touches the next candidate."""
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
        try:
            return pool.submit(measure, file, overrides, name, iterations).result()
        except BrokenProcessPool:
            return Speed(name, failed='the process was killed; too little memory?')


def measure(file: str | Path, overrides: list[str], name: str, iterations: int = 20, warmup: int = _WARMUP,
            alone: Callable[[float], AbstractContextManager] = nullcontext) -> Speed:
    """Train `warmup + iterations` iterations of an option file as `CANDIDATES[name]`; no file is written.

    What is timed runs inside `alone`, which is given the seconds of the first iteration.
    """
    import torch

    from basicsr.data.build import build_train_data
    from basicsr.models import build_model
    from basicsr.training.launch import start_run
    changes = [f'{key}={value}' for key, value in CANDIDATES[name].items()]
    loaded = load_options(file, [*overrides, *changes], is_train=True)
    opt = start_run(loaded)
    on_gpu = opt['num_gpu'] != 0

    def now() -> float:
        if on_gpu:
            torch.cuda.synchronize()
        return time.monotonic()

    try:
        with loaded.naming_places():
            loader, sampler = build_train_data(opt)
            model, batches = build_model(opt), _batches(loader, sampler)
        started, waited, first = now(), 0., 0.

        def train(i: int) -> None:
            nonlocal waited
            asked = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - asked
            model.feed_data(batch)
            model.optimize_parameters(i)

        for i in range(1, warmup + 1):
            train(i)
            if i == 1:
                first = now() - started
        with alone(first), freed_memory_is_kept('cuda' if on_gpu else 'cpu'):
            started, waited = now(), 0.
            for i in range(warmup + 1, warmup + iterations + 1):
                train(i)
            took = now() - started
        model.get_current_log()  # raises when the losses were not finite
    except Exception as error:  # a compiler that is missing, too little memory, a loss that is not finite
        if not isinstance(error, UserError):
            traceback.print_exc()
        return Speed(name, failed=f'{type(error).__name__}: {" ".join(str(error).split())[:160]}')
    memory = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.
    return Speed(name, iterations / took, iterations * loader.batch_size / took, first, waited / took, memory)


def furthest(speeds: list[Speed], minutes: float) -> Speed:
    """What ends most iterations in the time, compilation included."""
    return max(speeds, key=lambda speed: (speed.fits(minutes), speed.iterations))


def heading(minutes: float) -> str:
    return f'{"":<18}{"iter/s":>8}{"images/s":>10}{"first (s)":>11}{"waiting":>9}{"GPU GiB":>9}{f"in {minutes:g} min":>12}'


def line(speed: Speed, minutes: float) -> str:
    """A candidate's figures below `heading`; the last is how many iterations fit in `minutes`."""
    if speed.failed:
        return f'{speed.name:<18}failed: {speed.failed}'
    return (f'{speed.name:<18}{speed.iterations:8.3f}{speed.images:10.2f}{speed.first:11.1f}{speed.waiting:9.1%}'
            f'{speed.memory:9.2f}{speed.fits(minutes):12d}')


def _batches(loader: Any, sampler: Any) -> Iterator[dict[str, Any]]:
    epoch = 0
    while True:
        sampler.set_epoch(epoch)
        yield from loader
        epoch += 1

"""Whole networks on a GPU, with the options that their files in `Options` have: training and inference.

Iterations per second are those of the training loop (`basicsr throughput`) on generated pictures held on the device, batch 8 at
128 x 128. Kernels and busy time are of one eager step in bf16. To start takes a network most of a minute of a CPU, so all
start side by side, each in a process of its own, and when all have, they are timed one after the other.
"""
from __future__ import annotations

import gc
import logging
import os
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from typing import Any

import cv2
import numpy as np
import torch
from common import ROOT
from gpu_run import Context, Row, Task, die_with_parent
from gpu_timing import eager, kernels, launches_and_busy, peak, replayed

from basicsr.archs import build_network
from basicsr.config import load_options
from basicsr.data.build import build_train_data
from basicsr.models import build_model
from basicsr.training.launch import start_run
from basicsr.training.throughput import CANDIDATES, measure
from basicsr.utils.logger import get_root_logger

# one loss for all: those of some need weights that are downloaded
LOSS = ['train.losses=~', 'train.perceptual_opt=~', 'train.pixel_opt={type: L1Loss}']
FLAT = ['network_g.dim=8', 'network_g.num_blocks=[1,1,1,1]', 'network_g.num_refinement_blocks=1']
# option file: what is changed in it, and what makes it tiny for a rehearsal; in order of worth
NETWORKS: dict[str, tuple[list[str], list[str]]] = {
    'RetinexMamba_LOL_v1': ([], ['network_g.n_feat=4', 'network_g.num_blocks=[1,1,1]', 'network_g.d_state=2']),
    'RetinexFormer_LOL_v1': ([], ['network_g.n_feat=8', 'network_g.num_blocks=[1,1,1]']),
    'MST_Plus_Plus_NTIRE': ([], ['network_g.n_feat=6', 'network_g.stage=1']),
    'Restormer_LOL_v1': ([f'datasets.train.{k}=~' for k in ('mini_batch_sizes', 'gt_sizes', 'iters')], FLAT),
    'LoRa_Gate_Restormer_LOL_v1': ([], FLAT),
    'MASRNet_LOL_v1': ([*LOSS, 'datasets.train.resize=~', 'datasets.train.pair_by=name'],
                       ['network_g.embed_dim=16', 'network_g.stem_dim=6', 'network_g.moe_hidden=[[12],[12],[12,8]]']),
    'ISALux_LOL_v1': (
        [*LOSS, 'network_g.semantic=off'],  # the prior's weights are downloaded
        ['network_g.dim=8', 'network_g.num_blocks=[1,1,1]']),
    'IllRecNet_LOL_v1': ([], ['network_g.embed_dim=8', 'network_g.num_heads=4', 'network_g.num_resolution=3']),
}
FRAME, TINY_FRAME = (1, 3, 400, 600), (1, 3, 20, 28)


@cache
def pictures(side: int, scratch: str) -> Path:
    """Pairs of noise, once for all networks."""
    folder, rng = Path(tempfile.mkdtemp(dir=scratch)), np.random.default_rng(0)
    for name in ('input', 'target'):
        (folder / name).mkdir()
        for i in range(16):
            cv2.imwrite(str(folder / name / f'{i:02}.png'), rng.integers(0, 256, (side, side, 3), np.uint8))
    return folder


def side_of(context: Context) -> int:
    return 32 if context.tiny else 128


def overrides(name: str, context: Context) -> list[str]:
    side, batch = side_of(context), 2 if context.tiny else 8
    folder = pictures(side * 5 // 4, context.options['scratch'])
    data = {
        'dataroot_lq': folder / 'input', 'dataroot_gt': folder / 'target', 'cache': 'device', 'gt_size': side,
        'batch_size_per_gpu': batch
    }
    changes, tiny = NETWORKS[name]
    return [
        *(f'datasets.train.{k}={v}' for k, v in data.items()),
        *(f'datasets.val.{k}={v}' for k, v in data.items() if 'root' in k), f'num_gpu={0 if context.tiny else 1}',
        'train.amp=~', 'logger.use_tb_logger=false', *changes, *(tiny if context.tiny else [])
    ]


def options(name: str, context: Context, *more: str) -> Any:
    return load_options(ROOT / 'Options' / f'{name}.yml', [*overrides(name, context), *more], is_train=True)


def clean() -> None:
    """A process as for a first network; only warnings are told."""
    get_root_logger().setLevel(logging.WARNING)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def cold(name: str, context: Context) -> Iterator[Row]:
    """The first iteration with nothing compiled."""
    clean()
    before = os.environ.get('XDG_CACHE_HOME')
    with tempfile.TemporaryDirectory(dir=context.options['scratch']) as folder:
        os.environ['XDG_CACHE_HOME'] = folder
        try:
            found = measure(ROOT / 'Options' / f'{name}.yml', overrides(name, context), 'bf16', 1, 1)
        finally:
            os.environ.pop('XDG_CACHE_HOME') if before is None else os.environ.update(XDG_CACHE_HOME=before)
    yield {'network': name, 'what': 'cold', 'first s': found.first, 'failed': found.failed}


def train(name: str, candidate: str, context: Context, alone: Any = nullcontext) -> Row:
    """Iterations per second through the loop."""
    found = measure(ROOT / 'Options' / f'{name}.yml', overrides(name, context), candidate, 2 if context.tiny else 15,
                    alone=alone)
    return {
        'network': name, 'what': candidate, 'iter/s': found.iterations, 'first s': found.first,
        'peak MiB': found.memory * 1024, 'waiting': found.waiting, 'failed': found.failed
    }


def step(name: str, context: Context) -> Any:
    """One eager training step in bf16, ready to be called."""
    changes = CANDIDATES.get('bf16+eager', CANDIDATES['bf16'])
    opt = start_run(options(name, context, *(f'{k}={v}' for k, v in changes.items())))
    loader, sampler = build_train_data(opt)
    model = build_model(opt)
    sampler.set_epoch(0)
    batch = next(iter(loader))

    def run() -> None:
        model.feed_data(batch)
        model.optimize_parameters(1)

    return run


def profile_step(name: str, context: Context) -> Iterator[Row]:
    clean()
    run = step(name, context)
    run(), run()
    count, busy = launches_and_busy(run, context.device)
    yield {
        'network': name, 'what': 'eager bf16 step', 'kernels': count, 'busy ms': busy,
        'ms': eager(run, context.device, 5), 'peak MiB': peak(run, context.device)
    }


def infer(name: str, context: Context) -> Iterator[Row]:
    """A photograph through the network, as it is built and in bf16."""
    clean()
    net = build_network(options(name, context).opt['network_g']).to(context.device).eval()
    x = torch.rand(TINY_FRAME if context.tiny else FRAME, device=context.device)
    for what in ('float32', 'bf16'):
        precision = torch.autocast(context.device, torch.bfloat16) if what == 'bf16' else nullcontext()

        @torch.no_grad()
        def run(precision: Any = precision) -> Any:
            with precision:
                return net(x)

        run()
        count, busy = launches_and_busy(run, context.device)
        yield {
            'network': name, 'what': f'infer {what}', 'kernels': count, 'busy ms': busy,
            'ms': eager(run, context.device,
                        5), 'replayed ms': replayed(run, context.device), 'peak MiB': peak(run, context.device)
        }


def top_kernels(name: str, context: Context, count: int = 25) -> Iterator[Row]:
    """What a step of a network spends its time on."""
    run = step(name, context)
    run(), run()
    start = time.perf_counter()
    rows = kernels(run, context.device)
    whole = sum(row[2] for row in rows)
    yield {
        'kernel': f'all of a step of {name}, {time.perf_counter() - start:.2f} s', 'launches': sum(r[1] for r in rows),
        'ms': whole, 'share': 1.
    }
    for label, launches, ms in rows[:count]:
        yield {'kernel': label[:100], 'launches': launches, 'ms': ms, 'share': ms / max(whole, 1e-9)}


Job = tuple[str, str]  # network, candidate


class Fleet:
    """Networks that start side by side and are timed one after the other."""

    def __init__(self, jobs: list[Job], context: Context):
        spawn = get_context('spawn')
        self.rows, self.all_started, lock = spawn.Queue(), spawn.Event(), spawn.Lock()
        places = spawn.Semaphore(max(1, (os.cpu_count() or 2) // 2))  # of those that start
        pictures(side_of(context) * 5 // 4, context.options['scratch'])
        # kept here, because a lock is gone when the process that made it has forgotten it
        self.shared = context, self.rows, places, self.all_started, lock
        self.members = {job: spawn.Process(target=_member, args=(job, *self.shared), daemon=True) for job in jobs}
        for member in self.members.values():
            member.start()

    def report(self) -> Iterator[Row]:
        """Rows as they come. Those that started are timed when no other is still starting, or when half of the time is over."""
        started, half = set(), time.time() + self.shared[0].left / 2
        while True:
            alive = {job for job, member in self.members.items() if member.is_alive()}
            if alive <= started or time.time() > half:
                self.all_started.set()
            with suppress(Empty):
                job, row = self.rows.get(timeout=0.5)
                started.add(job)
                yield row
                continue
            if not alive:
                return


def _member(job: Job, context: Context, rows: Any, places: Any, all_started: Any, lock: Any) -> None:
    """A process of the fleet."""
    die_with_parent()
    get_root_logger().setLevel(logging.WARNING)
    name, candidate = job

    @contextmanager
    def alone(first: float) -> Iterator[None]:
        start.close()
        rows.put((job, {'network': name, 'what': f'{candidate} started', 'first s': first}))
        all_started.wait()
        with lock:
            yield

    with ExitStack() as start:
        start.enter_context(places)
        row = train(name, candidate, context, alone)
    rows.put((job, row))
    for more in (profile_step, infer) if candidate == 'bf16' and not row['failed'] else ():
        with lock:
            try:
                for row in more(name, context):
                    rows.put((job, row))
            except Exception as error:
                traceback.print_exc()
                failed = f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'
                rows.put((job, {'network': name, 'what': more.__name__, 'failed': failed}))


def tasks(context: Context) -> list[Task]:
    names = list(NETWORKS)
    jobs = [(name, 'bf16') for name in names] + ([] if context.tiny else [(name, 'float32') for name in names[:2]])
    alone = [] if context.tiny else names
    return [
        *((f'{name} cold', partial(cold, name, context)) for name in alone[:1]),
        ('side by side', lambda: Fleet(jobs, context).report()),
        *((f'{name} compiled', partial(compiled, name, context)) for name in alone[:2])
    ]


def compiled(name: str, context: Context) -> Iterator[Row]:
    clean()
    yield train(name, 'bf16+compile', context)

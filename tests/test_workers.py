"""Processes that read samples, and die, stand still, or find no room for what they have read."""
from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
import torch
from conftest import ROOT

from basicsr.data.loader import ImageLoader, build_dataloader
from basicsr.data.workers import Workers
from basicsr.utils.errors import UserError

BLOCK = {'block': 'train', 'phase': 'train', 'batch_size_per_gpu': 1, 'num_worker_per_gpu': 2}


class Files:
    """Numbers; at one of them something happens to the process that reads."""
    paths = [(f'in/{i}.png', f'out/{i}.png') for i in range(6)]

    def __init__(self, happens, at=3):
        self.happens, self.at = happens, at

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        if index == self.at:
            self.happens()
        return {'lq': torch.tensor([index])}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def stand_still():
    threading.Event().wait()


def run_out_of_files():
    raise RuntimeError('Too many open files. Communication with the workers is no longer possible.')


def fail():
    raise RuntimeError('of this data set alone')


def test_a_worker_that_dies_is_named_with_its_file():
    # worker 1 reads 1, 3 and 5
    with pytest.raises(
            UserError, match=r"a worker of datasets\.train has died \(datasets\.train\.num_worker_per_gpu: 2\),"
            r" worker 1 \(process \d+\) was at 'in/3\.png'\. Most often .* want of memory"):
        list(build_dataloader(Files(die), BLOCK))
    assert multiprocessing.active_children() == []


def test_a_worker_that_stands_still_is_named_with_its_file():
    loader = build_dataloader(Files(stand_still), BLOCK | {'worker_timeout': 2})
    with pytest.raises(
            UserError, match=r"no batch of datasets\.train for 2 seconds .* worker 1 \(process \d+\) is at"
            r" 'in/3\.png'; a disk or a network may hang\. datasets\.train\.worker_timeout says"):
        list(loader)
    assert multiprocessing.active_children() == []


def test_samples_without_a_name_have_a_number():
    files = Files(die)
    files.paths = 6 * [None]
    with pytest.raises(UserError, match='was at sample 3'):
        list(build_dataloader(files, BLOCK))


def test_too_many_open_files_is_a_sentence():
    with pytest.raises(UserError, match=r'allows; use fewer .*or raise the limit: ulimit -n 65536'):
        list(build_dataloader(Files(run_out_of_files), BLOCK))


def test_other_failures_stay_what_they_are():
    with pytest.raises(RuntimeError, match='of this data set alone'):
        list(build_dataloader(Files(fail), BLOCK))
    with pytest.raises(RuntimeError, match='of this data set alone'):
        list(ImageLoader(Files(fail), {}, batch_size=1))


def test_workers_that_are_left_do_not_outlive_the_program(tmp_path):
    """One that reads for ever, of a loader that is asked for one batch more."""
    program = tmp_path / 'program.py'
    program.write_text('import sys\nsys.path[:0] = [{!r}, {!r}]\n'.format(str(ROOT), str(ROOT / 'tests')) +
                       'from test_workers import *\n'
                       'loader = build_dataloader(Files(stand_still, at=5), BLOCK | {"persistent_workers": True})\n'
                       'batches = iter(loader)\nprint(next(batches))\n')
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, start_new_session=True,
                          timeout=300)
    assert done.returncode == 0 and 'Traceback' not in done.stderr, done.stderr


NO_ROOM = ('for the batches of datasets.train.num_worker_per_gpu: 2; use fewer workers, num_worker_per_gpu=0 for none,'
           ' or give a container more: docker run --shm-size=8g')
UNSHARE = ['unshare', '-m', 'sh', '-c']  # in mounts of its own, with a smaller place
SMALLER = 'mount -t tmpfs -o size=16k tmpfs /dev/shm'


@pytest.mark.parametrize('said', [
    'unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)',
    'DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader\'s workers are out of shared'
    ' memory. Please try to raise your shared memory limit.'
])
def test_too_little_shared_memory_is_a_sentence(said):
    assert NO_ROOM in str(Workers(2, 'datasets.train').explained(RuntimeError(said), 0, str))


@pytest.mark.skipif(not shutil.which('unshare') or subprocess.run([*UNSHARE, SMALLER], capture_output=True).returncode,
                    reason='nobody may mount here')
def test_a_training_in_a_container_with_little_shared_memory(tiny_options):
    options = tiny_options(datasets={'train': {'num_worker_per_gpu': 2, 'gt_size': 64}})
    command = [*UNSHARE, f'{SMALLER} && exec "$@"', '-', sys.executable, ROOT / 'basicsr/train.py', '--opt', options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr[-3000:]
    last = done.stderr.splitlines()[-1]
    assert last.startswith('error: there is too little shared memory (/dev/shm: 0.0 MB, 0.0 free)') and NO_ROOM in last

"""Small helpers of BasicSR's programs, by its module name for them."""
from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from basicsr.utils.dist import master_only
from basicsr.utils.files import archive_existing, scandir
from basicsr.utils.logger import get_root_logger, timestamp
from basicsr.utils.seed import set_random_seed

__all__ = [
    'check_resume', 'get_time_str', 'make_exp_dirs', 'mkdir_and_rename', 'scandir', 'set_random_seed', 'sizeof_fmt'
]


def get_time_str() -> str:
    """The time as names of files have it, e.g. '20240131_235959'."""
    return timestamp()


def mkdir_and_rename(path: str | Path) -> None:
    """Make a new folder; one that is there gets the time behind its name."""
    archived = archive_existing(path)
    if archived is not None:
        get_root_logger().info(f"'{path}' was there already and is now '{archived}'")
    Path(path).mkdir(parents=True)


@master_only
def make_exp_dirs(opt: dict[str, Any]) -> None:
    """Make the folders of a run: those of `opt['path']` that it writes to; an earlier run of the name is renamed."""
    paths = dict(opt['path'])
    mkdir_and_rename(paths['experiments_root' if opt['is_train'] else 'results_root'])
    for key in ('models', 'training_states', 'visualization', 'log'):
        if key in paths:
            Path(paths[key]).mkdir(parents=True, exist_ok=True)


def check_resume(opt: dict[str, Any], resume_iter: int) -> None:
    """Where a run is resumed, start its networks from the weights that were saved with the state, all of them.

    `pretrain_network_*` of `opt['path']` become `models/net_*_<resume_iter>.pth`, except for networks in
    `ignore_resume_networks`.
    """
    path = opt['path']
    if not path.get('resume_state'):
        return
    ignored = path.get('ignore_resume_networks') or []
    for name in [key for key in opt if key.startswith('network_')]:
        if name not in ignored:
            label = name.removeprefix('network_')
            path[f'pretrain_{name}'] = str(Path(path['models']) / f'net_{label}_{resume_iter}.pth')
            path[f'param_key_{label}'] = 'params'


def sizeof_fmt(size: float, suffix: str = 'B') -> str:
    """A number of bytes for people: '1.5 KB', in steps of 1024."""
    units = ['', 'K', 'M', 'G', 'T', 'P', 'E', 'Z', 'Y']
    while abs(size) >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f'{size:3.1f} {units[0]}{suffix}'


class AvgTimer:
    """Seconds between `start` and `record`: of the last time, and the mean of the last `window` times."""

    def __init__(self, window: int = 200):
        self.window = window
        self.times: list[float] = []
        self.start()

    def start(self) -> None:
        self.started = time.time()

    def record(self) -> None:
        now = time.time()
        self.times = [*self.times, now - self.started][-self.window:]
        self.started = now

    def get_current_time(self) -> float:
        return self.times[-1]

    def get_avg_time(self) -> float:
        return sum(self.times) / len(self.times)

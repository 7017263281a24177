"""Tasks of all-in-one restoration: the columns of its result tables and the averages over them.

An average is one of columns, not of images: five benchmarks of 500, 100 and 68 images count alike.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from basicsr.utils.errors import UserError, nearest

# task: (benchmark, further names of it), in the order of the tables
_COLUMNS = {
    'dehaze': ('SOTS', 'dehazing'),
    'derain': ('Rain100L', 'deraining'),
    'denoise_15': ('BSD68 sigma 15', 'BSD68_15', 'CBSD68_15'),
    'denoise_25': ('BSD68 sigma 25', 'BSD68_25', 'CBSD68_25'),
    'denoise_50': ('BSD68 sigma 50', 'BSD68_50', 'CBSD68_50'),
    'deblur': ('GoPro', 'deblurring'),
    'synllie': ('LOL', 'LOLv1', 'llie', 'low_light'),
}
_CDD11 = ('low', 'haze', 'rain', 'snow', 'low_haze', 'low_rain', 'low_snow', 'haze_rain', 'haze_snow', 'low_haze_rain',
          'low_haze_snow')
_COLUMNS |= {folder: (f'CDD11 {folder}', ) for folder in _CDD11}
_GROUPS = dict.fromkeys(('denoise', 'bsd68'), ('denoise_15', 'denoise_25', 'denoise_50')) | {'cdd11': _CDD11}

AVERAGES = {
    'AIO-3': ('dehaze', 'derain', 'denoise_15', 'denoise_25', 'denoise_50'),
    'AIO-5': ('dehaze', 'derain', 'denoise_25', 'deblur', 'synllie'),
    'CDD11': _CDD11,
}

Means = dict[str, float]  # by metric


def _squeeze(name: str) -> str:
    return re.sub('[^a-z0-9]', '', name.lower())


_KNOWN = {_squeeze(name): task for task, names in _COLUMNS.items() for name in (task, *names)}


def task_of(batch: Mapping[str, Any]) -> str:
    """The task of a batch's first image, '' for data sets whose items have none."""
    tasks = batch.get('task')
    return tasks[0] if isinstance(tasks, list) and tasks and isinstance(tasks[0], str) else ''


def benchmark_of(task: str) -> str:
    """'SOTS' for 'dehaze'; '' for a task that no table has."""
    known = _KNOWN.get(_squeeze(task))
    return _COLUMNS[known][0] if known else ''


def means_by_task(rows: Iterable[tuple[str, Means]]) -> dict[str, Means]:
    """(task, values of an image) to the mean values of each task, in the order of the tables, unknown tasks last."""
    groups: dict[str, list[Means]] = {}
    for task, values in rows:
        groups.setdefault(task, []).append(values)
    order = list(_COLUMNS)
    ranks = {t: order.index(_KNOWN[_squeeze(t)]) if _squeeze(t) in _KNOWN else len(order) for t in groups}
    return {task: mean(groups[task]) for task in sorted(groups, key=lambda t: (ranks[t], t))}


def mean(values: Iterable[Means]) -> Means:
    """The mean of each metric, over those that have it."""
    values = list(values)
    return {
        key: float(np.mean([v[key] for v in values if key in v]))
        for key in dict.fromkeys(k for v in values for k in v)
    }


def averages(means: dict[str, Means]) -> dict[str, Means]:
    """The published averages that have all their columns; without any, the mean of the tasks that there are."""
    known = {_KNOWN.get(_squeeze(task), task): values for task, values in means.items()}
    whole = {
        name: mean(known[task] for task in columns)
        for name, columns in AVERAGES.items() if known.keys() >= set(columns)
    }
    return whole or {'mean of the tasks present': mean(means.values())}


def choose(wanted: Iterable[str], present: Iterable[str]) -> set[str]:
    """The tasks among `present` that the names of tasks, benchmarks or groups of them (denoise, CDD11) mean.

    Raises `UserError` for a name that means none.
    """
    present = sorted(set(present))
    by_task = {_KNOWN.get(_squeeze(task), _squeeze(task)): task for task in present}
    chosen: set[str] = set()
    for name in wanted:
        word = _squeeze(name)
        found = {by_task[t] for t in _GROUPS.get(word, (_KNOWN.get(word, word), )) if t in by_task}
        if not found:
            has = f"They have: {', '.join(present)}" if present else 'Their items have no tasks'
            raise UserError(f"the data sets have no task '{name}'.{nearest(name, [*present, *_GROUPS])} {has}")
        chosen |= found
    return chosen

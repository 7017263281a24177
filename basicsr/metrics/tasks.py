"""Tasks of all-in-one restoration: the columns of its result tables and the averages over them.

An average is one of columns, not of images: five benchmarks of 500, 100 and 68 images count alike.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from basicsr.utils.errors import UserError, nearest
from basicsr.utils.task_names import BENCHMARKS, CDD11, members, spellings, squeeze, task_called

AVERAGES = {
    'AIO-3': ('dehaze', 'derain', 'denoise_15', 'denoise_25', 'denoise_50'),
    'AIO-5': ('dehaze', 'derain', 'denoise_25', 'deblur', 'synllie'),
    'CDD11': CDD11,
}

Means = dict[str, float]  # by metric


def task_of(batch: Mapping[str, Any]) -> str:
    """The task of a batch's first image, '' for data sets whose items have none."""
    tasks = batch.get('task')
    return tasks[0] if isinstance(tasks, list) and tasks and isinstance(tasks[0], str) else ''


def benchmark_of(task: str) -> str:
    """'SOTS' for 'dehaze'; '' for a task that no table has."""
    known = task_called(task)
    return BENCHMARKS[known][0] if known else ''


def means_by_task(rows: Iterable[tuple[str, Means]]) -> dict[str, Means]:
    """(task, values of an image) to the mean values of each task, in the order of the tables, unknown tasks last."""
    groups: dict[str, list[Means]] = {}
    for task, values in rows:
        groups.setdefault(task, []).append(values)
    order = list(BENCHMARKS)
    known = {t: task_called(t) for t in groups}
    ranks = {t: len(order) if name is None else order.index(name) for t, name in known.items()}
    return {task: mean(groups[task]) for task in sorted(groups, key=lambda t: (ranks[t], t))}


def mean(values: Iterable[Means]) -> Means:
    """The mean of each metric, over those that have it and have a number; NaN where none has."""
    values = list(values)
    numbers = {
        key: [v[key] for v in values if key in v and not math.isnan(v[key])]
        for key in dict.fromkeys(k for v in values for k in v)
    }
    return {key: float(np.mean(found)) if found else math.nan for key, found in numbers.items()}


def averages(means: dict[str, Means]) -> dict[str, Means]:
    """The published averages that have all their columns; without any, the mean of the tasks that there are."""
    known = {task_called(task) or task: values for task, values in means.items()}
    whole = {
        name: mean(known[task] for task in columns) for name, columns in AVERAGES.items()
        if known.keys() >= set(columns)
    }
    return whole or {'mean of the tasks present': mean(means.values())}


def choose(wanted: Iterable[str], present: Iterable[str]) -> set[str]:
    """The tasks among `present` that the names of tasks, benchmarks or groups of them (denoise, CDD11) mean.

    Raises `UserError` for a name that means none.
    """
    present = sorted(set(present))
    by_task = {task_called(task) or squeeze(task): task for task in present}
    chosen: set[str] = set()
    for name in wanted:
        found = {by_task[t] for t in members(name) or (squeeze(name), ) if t in by_task}
        if not found:
            has = f"They have: {', '.join(present)}" if present else 'Their items have no tasks'
            raise UserError(
                f"the data sets have no task '{name}'.{nearest(name, [*present, *spellings(by_task)])} {has}")
        chosen |= found
    return chosen

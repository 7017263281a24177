"""The tasks of all-in-one restoration and what they are called: by data sets, benchmarks and tables. Needs no torch."""
from __future__ import annotations

import re
from collections.abc import Iterable

# the eleven degradations of CDD-11, which are also its folders
CDD11 = ('low', 'haze', 'rain', 'snow', 'low_haze', 'low_rain', 'low_snow', 'haze_rain', 'haze_snow', 'low_haze_rain',
         'low_haze_snow')
# task: (benchmark, further names of it), in the order of result tables
BENCHMARKS = {
    'dehaze': ('SOTS', 'dehazing'),
    'derain': ('Rain100L', 'deraining'),
    'denoise_15': ('BSD68 sigma 15', 'BSD68_15', 'CBSD68_15'),
    'denoise_25': ('BSD68 sigma 25', 'BSD68_25', 'CBSD68_25'),
    'denoise_50': ('BSD68 sigma 50', 'BSD68_50', 'CBSD68_50'),
    'deblur': ('GoPro', 'deblurring'),
    'synllie': ('LOL', 'LOLv1', 'llie', 'low_light'),
} | {task: (f'CDD11 {task}', ) for task in CDD11}
_DENOISE = ('denoise_15', 'denoise_25', 'denoise_50')
GROUPS = {'denoise': _DENOISE, 'denoising': _DENOISE, 'bsd68': _DENOISE, 'cdd11': CDD11}

ALL_IN_ONE = tuple(task for task in BENCHMARKS if task not in CDD11)


def squeeze(name: str) -> str:
    """Letters and digits in lower case: 'Low-Light', 'low_light' and 'lowlight' are one name."""
    return re.sub('[^a-z0-9]', '', name.lower())


_TASKS = {squeeze(name): task for task, names in BENCHMARKS.items() for name in (task, *names)}


def task_called(name: str) -> str | None:
    """The one task that its own name or that of its benchmark means, None where there is none."""
    return _TASKS.get(squeeze(name))


def members(name: str) -> tuple[str, ...]:
    """The tasks that the name of a task, benchmark or group means, () where there are none."""
    task = task_called(name)
    return GROUPS.get(squeeze(name), () if task is None else (task, ))


def spellings(tasks: Iterable[str]) -> list[str]:
    """All names of some tasks, and of the groups that any of them is in."""
    tasks = list(tasks)
    more = [name for task in tasks for name in BENCHMARKS.get(task, ())]
    return [*tasks, *more, *(group for group, inside in GROUPS.items() if set(inside) & set(tasks))]

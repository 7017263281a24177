"""What an evaluation found: tables on the terminal and in `metrics.txt`, `metrics.csv` per image, `tasks.csv` per task,
`metrics.json` with means and averages."""
from __future__ import annotations

import csv
import io
import json
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from basicsr.commands.metric_choice import Metrics, print_table
from basicsr.metrics import PROTOCOLS, describe
from basicsr.metrics.tasks import Means, averages, benchmark_of, mean, means_by_task
from basicsr.utils.files import atomic_write

# columns of the task table: heading and key; its two protocols differ in the window of the SSIM
_TASK_COLUMNS = {'PSNR': 'psnr all-in-one', 'SSIM': 'ssim all-in-one', 'SSIM uniform': 'ssim all-in-one-uniform'}


class Row(NamedTuple):
    """One image; `task` is '' where the data set has no tasks. `values`: 'psnr basicsr' and so on."""
    dataset: str
    task: str
    image: str
    values: Means


def report(rows: list[Row], title: str, settings: dict[str, Any], folder: Path, chosen: Metrics | None = None) -> None:
    """Print the tables and write the files. Data sets with tasks share one table, others have one each.

    `chosen`: the metrics of the rows, in one table of everything; None for PSNR and SSIM under every protocol.
    """
    rows = _tell_apart(rows)
    tasks = means_by_task((row.task, row.values) for row in rows if row.task)
    datasets = {}
    for name in dict.fromkeys(row.dataset for row in rows):
        datasets[name] = mean(means_by_task((r.task, r.values) for r in rows if r.dataset == name).values())
    with redirect_stdout(io.StringIO()) as text:
        if chosen:
            print(_heading(title, len(rows), settings))
            lines = datasets | tasks | (_named_averages(tasks) if tasks else {})
            print_table(lines, chosen)
            settings = settings | {'metrics': {k: {'options': m, 'protocol': describe(m)} for k, m in chosen.items()}}
        else:
            _print_psnr_and_ssim(rows, title, settings, datasets, tasks)
    print(text.getvalue(), end='')
    with atomic_write(folder / 'metrics.txt', 'w') as file:
        file.write(text.getvalue())
    _write(rows, title, settings, folder, datasets, tasks)


def _print_psnr_and_ssim(rows: list[Row], title: str, settings: dict[str, Any], datasets: dict[str, Means],
                         tasks: dict[str, Means]) -> None:
    with_tasks = {row.dataset for row in rows if row.task}
    for name, means in datasets.items():
        if name not in with_tasks:
            images = sum(row.dataset == name for row in rows)
            _print_protocols(title if len(datasets) == 1 else name, images, means, settings)
    if tasks:
        _print_tasks(title, tasks, Counter(row.task for row in rows if row.task), settings)
    if len(datasets) == 1:  # what scripts of this family read
        print('protocol of the next two lines: retinexformer' + (', mean over tasks' if tasks else ''))
        means = next(iter(datasets.values()))
        print(f'PSNR: {means["psnr retinexformer"]:f} ')
        print(f'SSIM: {means["ssim retinexformer"]:f} ')


def _tell_apart(rows: list[Row]) -> list[Row]:
    """Rows in which a task that a second data set has, too, is named after both: it is a column of its own."""
    owners: dict[str, str] = {}
    return [
        row if not row.task or owners.setdefault(row.task, row.dataset) == row.dataset else row._replace(
            task=f'{row.task} ({row.dataset})') for row in rows
    ]


def _heading(title: str, images: int, settings: dict[str, Any]) -> str:
    extras = [
        text for used, text in ((settings['GT_mean'], 'GT mean'), (settings['self_ensemble'], 'self-ensemble'),
                                (settings['tile'], f"tiles of {settings['tile']}")) if used
    ]
    return f'{title}: {images} images' + (f' ({", ".join(extras)})' if extras else '')


def _print_protocols(title: str, images: int, means: Means, settings: dict[str, Any]) -> None:
    print(_heading(title, images, settings))
    print(f'{"protocol":<20}{"PSNR":>9}{"SSIM":>9}  meaning')
    for name, protocol in PROTOCOLS.items():
        print(f'{name:<20}{means[f"psnr {name}"]:9.4f}{means[f"ssim {name}"]:9.4f}  {protocol.summary}')


def _print_tasks(title: str, tasks: dict[str, Means], images: Counter, settings: dict[str, Any]) -> None:
    print(_heading(title, images.total(), settings))
    lines = [(f'{task} ({benchmark_of(task)})' if benchmark_of(task) else task, str(images[task]), means)
             for task, means in tasks.items()]
    lines += [(name, '', means) for name, means in _named_averages(tasks).items()]
    width = max(len(label) for label, _, _ in lines) + 2
    print(f'{"task":<{width}}{"images":>7}' + ''.join(f'{heading:>14}' for heading in _TASK_COLUMNS))
    for label, count, means in lines:
        print(f'{label:<{width}}{count:>7}' + ''.join(f'{means[key]:14.4f}' for key in _TASK_COLUMNS.values()))
    for name in dict.fromkeys(key.split()[1] for key in _TASK_COLUMNS.values()):
        columns = ', '.join(heading for heading, key in _TASK_COLUMNS.items() if key.split()[1] == name)
        print(f'{columns} by protocol {name}: {PROTOCOLS[name].summary}')


def _named_averages(tasks: dict[str, Means]) -> dict[str, Means]:
    return {name if 'mean' in name else f'{name} average': values for name, values in averages(tasks).items()}


def _write(rows: list[Row], title: str, settings: dict[str, Any], folder: Path, datasets: dict[str, Means],
           tasks: dict[str, Means]) -> None:
    """Columns for data set and task, and the means of each, only where there are several data sets, or tasks."""
    keys = list(dict.fromkeys(key for row in rows for key in row.values))  # without ground truth there are fewer
    several = len(datasets) > 1
    with atomic_write(folder / 'metrics.csv', 'w') as file:
        writer = csv.writer(file)
        writer.writerow([*['dataset'] * several, *['task'] * bool(tasks), 'image', *keys])
        for dataset, task, image, values in rows:
            numbers = (f'{values[k]:.6f}' if k in values else '' for k in keys)
            writer.writerow([*[dataset] * several, *[task] * bool(tasks), image, *numbers])
    content = {'dataset': title, 'images': len(rows), **settings}
    if several:
        counts = Counter(row.dataset for row in rows)
        content['datasets'] = {name: {'images': counts[name], **means} for name, means in datasets.items()}
    else:
        content |= next(iter(datasets.values()))
    if tasks:
        counts = Counter(row.task for row in rows)
        content['tasks'] = {
            task: {'benchmark': benchmark_of(task), 'images': counts[task], **means} for task, means in tasks.items()
        }
        content['averages'] = averages(tasks)
        _write_tasks(folder / 'tasks.csv', tasks, counts, keys)
    with atomic_write(folder / 'metrics.json', 'w') as file:
        json.dump(content, file, indent=2)


def _write_tasks(path: Path, tasks: dict[str, Means], images: Counter, keys: list[str]) -> None:
    """A line for each task, then one for each average."""
    lines = [(task, benchmark_of(task), images[task], means) for task, means in tasks.items()]
    lines += [(name, '', '', means) for name, means in _named_averages(tasks).items()]
    with atomic_write(path, 'w') as file:
        writer = csv.writer(file)
        writer.writerow(['task', 'benchmark', 'images', *keys])
        for task, benchmark, count, means in lines:
            writer.writerow([task, benchmark, count, *(f'{means[k]:.6f}' if k in means else '' for k in keys)])

"""Results as files: a CSV with a line for each image, one with a line for each task, JSON with means and averages."""
from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from basicsr.evaluation.evaluate import Metrics, Results, Row
from basicsr.metrics import describe
from basicsr.metrics.tasks import Means, averages, benchmark_of, means_by_task
from basicsr.utils.files import atomic_write, write_json

_MARK = '.evaluation.json'

Rows = Sequence[tuple[str, Row]]  # name of the data set, image


def rows_of(results: Mapping[str, Results]) -> Rows:
    """All images. A task that a second data set has, too, is named after both: it is a column of its own."""
    owners: dict[str, str] = {}
    return [(name, row if not row.task or owners.setdefault(row.task, name) == name else row._replace(
        task=f'{row.task} ({name})')) for name, found in results.items() for row in found.rows]


def tasks_of(rows: Rows) -> dict[str, Means]:
    """The mean of each metric for each task, over all data sets that have tasks."""
    return means_by_task((row.task, row.values) for _, row in rows if row.task)


def named_averages(tasks: dict[str, Means]) -> dict[str, Means]:
    return {name if 'mean' in name else f'{name} average': values for name, values in averages(tasks).items()}


def write_images(file: str | Path, rows: Rows) -> None:
    """A line for each image; columns for data set and task only where there are several, or tasks."""
    keys = list(dict.fromkeys(key for _, row in rows for key in row.values))  # without ground truth there are fewer
    several, tasks = len({name for name, _ in rows}) > 1, any(row.task for _, row in rows)
    with atomic_write(file, 'w') as out:
        writer = csv.writer(out)
        writer.writerow([*['dataset'] * several, *['task'] * tasks, 'image', *keys])
        for name, row in rows:
            writer.writerow([*[name] * several, *[row.task] * tasks, row.name, *_cells(row.values, keys)])


def write_tasks(file: Path, rows: Rows) -> None:
    """A line for each task, then one for each average."""
    tasks, counts = tasks_of(rows), Counter(row.task for _, row in rows)
    keys = list(dict.fromkeys(key for _, row in rows for key in row.values))
    lines: list[tuple[str, str, int | str,
                      Means]] = [(task, benchmark_of(task), counts[task], means) for task, means in tasks.items()]
    lines += [(name, '', '', means) for name, means in named_averages(tasks).items()]
    with atomic_write(file, 'w') as out:
        writer = csv.writer(out)
        writer.writerow(['task', 'benchmark', 'images', *keys])
        writer.writerows([*line, *_cells(means, keys)] for *line, means in lines)


def write_evaluation(folder: Path, results: Mapping[str, Results], title: str, settings: dict[str, Any]) -> None:
    """`metrics.csv`, `metrics.json` and, with tasks, `tasks.csv` of data sets that were measured together."""
    rows = rows_of(results)
    tasks, counts = tasks_of(rows), Counter(row.task for _, row in rows)
    content: dict[str, Any] = {'dataset': title, 'images': len(rows), **settings}
    if len(results) > 1:
        content['datasets'] = {name: {'images': len(found.rows), **found.means} for name, found in results.items()}
    else:
        content |= next(iter(results.values())).means
    if tasks:
        content['tasks'] = {
            task: {'benchmark': benchmark_of(task), 'images': counts[task], **means} for task, means in tasks.items()
        }
        content['averages'] = averages(tasks)
        write_tasks(folder / 'tasks.csv', rows)
    missing = {name: found.left_out for name, found in results.items() if found.left_out}
    if missing:
        content['left_out'] = missing
    write_images(folder / 'metrics.csv', rows)
    write_json(folder / 'metrics.json', content)


def write_test(folder: Path, name: str, results: Results, metrics: Metrics, weights: str | None) -> None:
    """`<name>.csv` and `<name>.json` of one data set of `basicsr test`."""
    if not (results.rows and results.images):  # a model of others may tell no more than means
        return
    summary: dict[str, dict[str, Any]] = {}
    for label, value in results.means.items():
        summary[label] = {'mean': value, 'protocol': describe(metrics[label]) if label in metrics else ''}
        if results.tasks:
            summary[label]['tasks'] = {task: values[label] for task, values in results.tasks.items() if label in values}
    write_images(folder / f'{name}.csv', [(name, row) for row in sorted(results.rows, key=lambda row: row[:2])])
    missing = {'left_out': results.left_out} if results.left_out else {}
    write_json(folder / f'{name}.json', {'dataset': name, 'weights': weights, 'metrics': summary, **missing})


def is_evaluated(folder: Path) -> bool:
    """Whether it holds what an earlier evaluation has written."""
    return (folder / _MARK).is_file() or (folder / 'metrics.json').is_file()


def mark(folder: Path, weights: str) -> None:
    """Say that what is written from now on is an evaluation's, even if it does not come to its end."""
    write_json(folder / _MARK, {'weights': weights})


def forget(folder: Path, homes: Sequence[Path]) -> None:
    """Remove the numbers of an earlier evaluation in `folder`, and what it compared in the folders of its data sets.

    They are of other pictures than those to come, however far the next evaluation gets.
    """
    if not is_evaluated(folder):
        return
    old = [folder / name for name in ('tasks.csv', 'metrics.csv', 'metrics.txt', 'metrics.json')]
    for home in homes:
        old += [home / 'test_results.txt', home / 'test_results.json', *home.glob('comparison_????.png')]
    for file in old:
        file.unlink(missing_ok=True)


def left_out(label: str, count: int, images: int) -> str:
    return f'{label}: {count} of {images} images have no number and are left out of the mean'


def _cells(values: Means, keys: Sequence[str]) -> list[str]:
    return [f'{values[k]:.6f}' if k in values else '' for k in keys]

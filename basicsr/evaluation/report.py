"""What an evaluation found, as tables for people: on the terminal and in `metrics.txt`; the other files by `files.py`."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from basicsr.evaluation.evaluate import Metrics, Results
from basicsr.evaluation.files import left_out, named_averages, rows_of, tasks_of, write_evaluation
from basicsr.metrics import PROTOCOLS, better, describe
from basicsr.metrics.protocol import HONEST
from basicsr.metrics.tasks import Means, benchmark_of
from basicsr.utils.files import atomic_write

# columns of the task table: heading and key; its two protocols differ in the window of the SSIM
_TASK_COLUMNS = {'PSNR': 'psnr all-in-one', 'SSIM': 'ssim all-in-one', 'SSIM uniform': 'ssim all-in-one-uniform'}


def report(results: Mapping[str, Results], title: str, settings: dict[str, Any], folder: Path,
           chosen: Metrics | None = None) -> str:
    """Write all files, and return the text of `metrics.txt`.

    Args:
        results: by name of the data set; those in which something was measured. Data sets with tasks share one table,
            others have one each.
        chosen: the metrics of the rows, in one table of everything; None for PSNR and SSIM under every protocol.
    """
    if chosen:
        tasks = tasks_of(rows_of(results))
        images = sum(len(found.rows) for found in results.values())
        lines = {name: found.means for name, found in results.items()} | tasks
        lines |= named_averages(tasks) if tasks else {}
        text = '\n'.join([_heading(title, images, settings), *table(lines, chosen)])
        settings = settings | {'metrics': {k: {'options': m, 'protocol': describe(m)} for k, m in chosen.items()}}
    else:
        text = '\n'.join(_psnr_and_ssim(results, title, settings))
    text = '\n'.join([
        text, *(f'{name}, {left_out(label, count, found.images)}' for name, found in results.items()
                for label, count in found.left_out.items())
    ])
    with atomic_write(folder / 'metrics.txt', 'w') as file:
        file.write(text + '\n')
    write_evaluation(folder, results, title, settings)
    return text


def table(lines: Mapping[str, Means], metrics: Metrics) -> Iterator[str]:
    """A line for each name, '-' where it has no value; which direction is better, and the protocols."""
    width = max(len(name) for name in (*lines, 'better'))
    cell = max(10, *(len(label) + 2 for label in metrics))
    yield ' '.join([' ' * width, *(f'{label:>{cell}}' for label in metrics)])
    for name, values in lines.items():
        cells = (f'{values[label]:{cell}.4f}' if label in values else f'{"-":>{cell}}' for label in metrics)
        yield ' '.join([f'{name:<{width}}', *cells])
    yield ' '.join([f'{"better":<{width}}', *(f'{better(block):>{cell}}' for block in metrics.values())])
    for label, block in metrics.items():
        if describe(block):
            yield f'{label}: protocol {describe(block)}'


def _psnr_and_ssim(results: Mapping[str, Results], title: str, settings: dict[str, Any]) -> Iterator[str]:
    rows = rows_of(results)
    tasks = tasks_of(rows)
    for name, found in results.items():
        if not found.tasks:
            yield from _protocols(title if len(results) == 1 else name, found, settings)
    if tasks:
        yield from _tasks(title, tasks, Counter(row.task for _, row in rows if row.task), settings)
    if len(results) == 1:  # what scripts of this family read
        means = next(iter(results.values())).means
        yield 'protocol of the next two lines: retinexformer' + (', mean over tasks' if tasks else '')
        yield f'PSNR: {means["psnr retinexformer"]:f} '
        yield f'SSIM: {means["ssim retinexformer"]:f} '


def _heading(title: str, images: int, settings: dict[str, Any]) -> str:
    extras = {
        'GT mean': settings['GT_mean'], 'self-ensemble': settings['self_ensemble'],
        f"tiles of {settings['tile']}": settings['tile'],
        **{f'{name}: {value:g}': True for name, value in settings.get('knobs', {}).items()}
    }
    used = ', '.join(text for text, value in extras.items() if value)
    return f'{title}: {images} images' + (f' ({used})' if used else '')


def _protocols(title: str, found: Results, settings: dict[str, Any]) -> Iterator[str]:
    means = found.means
    yield _heading(title, len(found.rows), settings)
    yield f'{"protocol":<20}{"PSNR":>9}{"SSIM":>9}  meaning'
    for name, protocol in HONEST.items():
        yield f'{name:<20}{means[f"psnr {name}"]:9.4f}{means[f"ssim {name}"]:9.4f}  {protocol.summary}'


def _tasks(title: str, tasks: dict[str, Means], images: Counter, settings: dict[str, Any]) -> Iterator[str]:
    yield _heading(title, images.total(), settings)
    lines = [(f'{task} ({benchmark_of(task)})' if benchmark_of(task) else task, str(images[task]), means)
             for task, means in tasks.items()]
    lines += [(name, '', means) for name, means in named_averages(tasks).items()]
    width = max(len(label) for label, _, _ in lines) + 2
    yield f'{"task":<{width}}{"images":>7}' + ''.join(f'{heading:>14}' for heading in _TASK_COLUMNS)
    for label, count, means in lines:
        yield f'{label:<{width}}{count:>7}' + ''.join(f'{means[key]:14.4f}' for key in _TASK_COLUMNS.values())
    for name in dict.fromkeys(key.split()[1] for key in _TASK_COLUMNS.values()):
        columns = ', '.join(heading for heading, key in _TASK_COLUMNS.items() if key.split()[1] == name)
        yield f'{columns} by protocol {name}: {PROTOCOLS[name].summary}'

"""The table of a study: Markdown, LaTeX, CSV, JSON and a picture."""
from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from basicsr.ablation.costs import MAC_SIZE
from basicsr.ablation.study import Run, Study
from basicsr.evaluation import tables
from basicsr.utils.files import atomic_write, write_json

PROTOCOL = 'retinexformer'
Row = dict[str, Any]


def collect(study: Study, costs: dict[str, dict[str, Any]], failures: dict[str, str]) -> dict[str, Any]:
    """Everything that the tables say, as `report.json` holds it.

    `failures`: reasons by run, of those that failed just now.
    """
    rows = []
    for variant, runs in study.by_variant().items():
        done = {run.seed: _metrics(run) for run in runs if run.weights.is_file() and run.metrics.is_file()}
        rows.append({
            'name': variant,
            'network': runs[0].opt['network_g'],
            **costs.get(variant, {}),
            **{metric: _spread({seed: m[metric] for seed, m in done.items()}) for metric in ('psnr', 'ssim')},
            'paper': study.paper[variant],
            'failed': {run.seed: failures.get(run.name) or _state(run) for run in runs if run.seed not in done},
        })
    reference = next(row for row in rows if row['name'] == study.reference)
    for row in rows:
        for metric in ('psnr', 'ssim'):
            known = row is not reference and row[metric] and reference[metric]
            row[f'{metric}_difference'] = row[metric]['mean'] - reference[metric]['mean'] if known else None
    opt = study.runs[0].opt
    return {
        'study': study.name,
        'reference': study.reference,
        'protocol': PROTOCOL,
        'weights': 'last (models/net_g_latest.pth)',
        'seeds': [run.seed for run in study.by_variant()[study.reference]],
        'iterations': sorted({run.opt['train']['total_iter'] for run in study.runs}),
        'data': [block['name'] for key, block in sorted(opt['datasets'].items()) if not key.startswith('train')],
        'images': max((_images(run) for run in study.runs), default=0),
        'variants': rows,
    }


def _metrics(run: Run) -> dict[str, float]:
    """PSNR and SSIM of one run; with several data sets, the mean over them."""
    content = json.loads(run.metrics.read_text(encoding='utf-8'))
    parts = list(content.get('datasets', {'': content}).values())
    return {m: statistics.fmean(part[f'{m} {PROTOCOL}'] for part in parts) for m in ('psnr', 'ssim')}


def _state(run: Run) -> str:
    return f'not finished, see {run.log}' if run.log.is_file() else 'not started'


def _images(run: Run) -> int:
    return json.loads(run.metrics.read_text(encoding='utf-8'))['images'] if run.metrics.is_file() else 0


def _spread(values: dict[int, float]) -> dict[str, Any] | None:
    """Mean and sample standard deviation over seeds; None for the deviation of one."""
    if not values:
        return None
    many = list(values.values())
    return {
        'mean': statistics.fmean(many),
        'std': statistics.stdev(many) if len(many) > 1 else None,
        'by_seed': {str(seed): value for seed, value in values.items()},
    }


# ------------------------------------------------------------------------------------------------ columns


def _mean(metric: str, digits: int) -> Callable[[Row], str]:

    def text(row: Row) -> str:
        value = row[metric]
        if value is None:
            return ''
        spread = '' if value['std'] is None else f' ± {value["std"]:.{digits}f}'
        missing = f' ({len(value["by_seed"])} of {len(value["by_seed"]) + len(row["failed"])})' if row['failed'] else ''
        return f'{value["mean"]:.{digits}f}{spread}{missing}'

    return text


def _number(key: str, form: str, scale: float = 1) -> Callable[[Row], str]:
    return lambda row: '' if row.get(key) is None else format(row[key] * scale, form)


def _without_scan(row: Row) -> str:
    return '' if row.get('macs') is None else f'{(row["macs"] - row["macs_scan"]) / 1e9:.2f}'


def _paper(row: Row) -> str:
    given = [f'{row["paper"][m]:.{d}f}' for m, d in (('psnr', 2), ('ssim', 3)) if row['paper'].get(m) is not None]
    return ' / '.join(given)


COLUMNS: dict[str, Callable[[Row], str]] = {
    'variant': lambda row: row['name'],
    'parameters': _number('parameters', ',d'),
    'MACs (G)': _number('macs', '.2f', 1e-9),
    'without scan': _without_scan,
    's / image': _number('seconds', '.3f'),
    'PSNR': _mean('psnr', 2),
    'SSIM': _mean('ssim', 4),
    'PSNR - ref.': _number('psnr_difference', '+.2f'),
    'SSIM - ref.': _number('ssim_difference', '+.4f'),
    'paper (claimed)': _paper,
}


def _table(report: dict[str, Any]) -> list[list[str]]:
    """Heading and rows; columns in which nothing stands are left out."""
    return tables.without_empty(
        [list(COLUMNS), *([text(row) for text in COLUMNS.values()] for row in report['variants'])])


def _notes(report: dict[str, Any]) -> list[str]:
    """What a reader must know to understand the numbers."""
    seeds, several = report['seeds'], len(report['seeds']) > 1
    out = [
        f"{', '.join(report['data'])}, {report['images']} images, protocol {report['protocol']}, {report['weights']}"
        f" weights after {' or '.join(f'{n:,}' for n in report['iterations'])} iterations; " +
        (f"mean ± sample standard deviation over the seeds {', '.join(map(str, seeds))}."
         if several else f'one seed ({seeds[0]}), so nothing is known about the spread.'),
        f"Differences are to '{report['reference']}'. MACs at 1x3x{MAC_SIZE}x{MAC_SIZE}: convolutions, matrix products and"
        ' the scan as executed.',
    ]
    timed = sorted({f"{row['size']} on {row['machine']}" for row in report['variants'] if row.get('machine')})
    if timed:
        out.append(f"Seconds per image: median, one network after the other, {'; '.join(timed)}.")
    sources = dict.fromkeys(row['paper'].get('source') for row in report['variants'] if _paper(row))
    if sources:
        said = [source for source in sources if source]
        out.append('Figures of papers are claims' + (f" ({'; '.join(said)})" if said else '') +
                   '; nothing here verifies them.')
    failed = [
        f"{row['name']}, seed {seed} ({reason})" for row in report['variants']
        for seed, reason in row['failed'].items()
    ]
    return out + ([f"Missing runs: {'; '.join(failed)}."] if failed else [])


# ------------------------------------------------------------------------------------------------ formats


def show(report: dict[str, Any]) -> str:
    """The table for a terminal."""
    return '\n'.join([report['study'], tables.aligned(_table(report)), *_notes(report)])


def markdown(report: dict[str, Any]) -> str:
    return '\n\n'.join(
        [f"# {report['study']}",
         tables.markdown(_table(report)), *_notes(report), '![PSNR and SSIM](report.png)']) + '\n'


def latex(report: dict[str, Any]) -> str:
    """A `tabular` for `booktabs`."""
    return tables.latex(_table(report), _notes(report))


def write(report: dict[str, Any], folder: Path) -> list[Path]:
    """`report.md`, `.tex`, `.csv`, `.json` and `.png` in `folder`."""
    files = [folder / f'report.{suffix}' for suffix in ('md', 'tex', 'csv', 'json', 'png')]
    for file, text in zip(files, (markdown(report), latex(report))):
        with atomic_write(file, 'w') as out:
            out.write(text)
    with atomic_write(files[2], 'w') as out:
        _write_csv(report, csv.writer(out))
    write_json(files[3], report)
    _plot(report, files[4])
    return files


def _write_csv(report: dict[str, Any], writer: Any) -> None:
    """Numbers without rounding, one column each."""
    plain = ('parameters', 'macs', 'macs_scan', 'seconds')
    writer.writerow([
        'variant', *plain, *(f'{m}_{k}' for m in ('psnr', 'ssim') for k in ('mean', 'std', 'difference', 'paper')),
        'runs', 'failed'
    ])
    for row in report['variants']:
        cells = [row['name'], *(row.get(key) for key in plain)]
        for metric in ('psnr', 'ssim'):
            value = row[metric] or {'mean': None, 'std': None}
            cells += [value['mean'], value['std'], row[f'{metric}_difference'], row['paper'].get(metric)]
        writer.writerow([*cells, len((row['psnr'] or {'by_seed': ()})['by_seed']), len(row['failed'])])


def _plot(report: dict[str, Any], path: Path) -> None:
    """A panel for each metric: seeds as grey points, mean and standard deviation, the reference's mean as a line."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    rows = report['variants'][::-1]
    size = (10, 1.4 + 0.34 * len(rows))
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True, layout='constrained')
    for axis, metric in zip(axes, ('psnr', 'ssim')):
        for y, row in enumerate(rows):
            if row[metric]:
                seeds = list(row[metric]['by_seed'].values())
                axis.plot(seeds, [y] * len(seeds), 'o', color='0.7', markersize=4)
                axis.errorbar(row[metric]['mean'], y, xerr=row[metric]['std'], fmt='o', color='C0', markersize=6,
                              capsize=4)
            if row['name'] == report['reference'] and row[metric]:
                axis.axvline(row[metric]['mean'], color='C0', linewidth=0.8, alpha=0.5)
        axis.set_yticks(range(len(rows)), [row['name'] for row in rows])
        axis.set_xlabel({'psnr': 'PSNR (dB)', 'ssim': 'SSIM'}[metric] + f", protocol {report['protocol']}")
        axis.grid(axis='x', alpha=0.3)
    figure.suptitle(report['study'], fontsize=11)
    with atomic_write(path) as file:
        figure.savefig(file, format='png', dpi=130)
    plt.close(figure)

"""The table of a board: Markdown, LaTeX, CSV, JSON, and a picture of quality against time."""
from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from basicsr.ablation.costs import MAC_SIZE
from basicsr.evaluation import tables
from basicsr.leaderboard.board import Board
from basicsr.utils.files import atomic_write, write_json

_CLAIMS = {
    'psnr': 'claimed PSNR', 'ssim': 'claimed SSIM', 'gt_mean_psnr': 'claimed PSNR, GT-mean',
    'gt_mean_ssim': 'claimed SSIM, GT-mean'
}


def collect(board: Board, found: dict[str, dict[str, Any] | None], reasons: dict[str, str]) -> dict[str, Any]:
    """Everything that the tables say, as `board.json` holds it. `reasons`: why rows have no numbers."""
    rows = []
    for row in board.rows:
        numbers = found[row.name] or {}
        rows.append({
            'name': row.name, 'weights': row.weights, 'source': row.source, 'licence': row.licence, 'knobs': row.knobs,
            'claim': row.claim, 'missing': '' if numbers else reasons.get(row.name, 'not measured yet'),
            **{key: value for key, value in numbers.items() if key != 'job'}
        })
    return {'board': board.name, 'protocols': board.protocols, 'metrics': list(board.metrics), 'rows': rows}


def _labels(report: dict[str, Any]) -> list[str]:
    """Of the metrics that the table shows: with ground truth PSNR and SSIM under the protocols, else what there is."""
    there = list(dict.fromkeys(label for row in report['rows'] for label in row.get('plain', {})))
    shown = [f'{metric} {protocol}' for protocol in report['protocols'] for metric in ('psnr', 'ssim')]
    chosen = [label for label in shown if label in there]
    return chosen + [label for label in there if label in report['metrics'] or not chosen]


def _heading(report: dict[str, Any], label: str) -> str:
    """With its protocol, where there are several."""
    metric, _, protocol = label.partition(' ')
    several = protocol and len(report['protocols']) > 1
    return f'{metric.upper() if metric in ("psnr", "ssim") else metric}' + (f' ({protocol})' if several else '')


def _number(row: dict[str, Any], key: str, form: str, scale: float = 1) -> str:
    return '' if row.get(key) is None else format(row[key] * scale, form)


def _value(values: dict[str, float], label: str) -> str:
    return '' if label not in values else format(values[label], '.2f' if label.startswith('psnr') else '.4f')


def _table(report: dict[str, Any]) -> list[list[str]]:
    labels = _labels(report)
    head = ['weights', 'network', 'parameters', 'MACs (G)', 's / image', 'memory (MiB)']
    head += [_heading(report, label) for label in labels] + [f'{_heading(report, label)}, GT-mean' for label in labels]
    head += [*_CLAIMS.values()]
    cells = [head]
    for row in (row for row in report['rows'] if not row['missing'] or row['claim']):
        name = row['name'] + ''.join(f', {knob} {value:g}'
                                     for knob, value in row['knobs'].items() if knob not in row['name'])
        line = [
            name,
            row.get('network', 'not measured'),
            _number(row, 'parameters', ',d'),
            _number(row, 'macs', '.1f', 1e-9),
            _number(row, 'seconds', '.3f'),
            _number(row, 'memory', '.0f', 2**-20)
        ]
        for kind in ('plain', 'gt_mean'):
            line += [_value(row.get(kind, {}), label) for label in labels]
        line += [
            format(row['claim'][key], '.2f' if 'psnr' in key else '.4f') if key in row['claim'] else ''
            for key in _CLAIMS
        ]
        cells.append(line)
    return tables.without_empty(cells)


def _notes(report: dict[str, Any]) -> list[str]:
    """What a reader must know to understand the numbers."""
    rows = report['rows']
    measured = [row for row in rows if row.get('machine')]
    out, protocols = [], report['protocols']
    if len(protocols) == 1 and any(label.endswith(f' {protocols[0]}') for label in _labels(report)):
        out.append(f'Protocol: {protocols[0]}.')
    if measured:
        images, where = measured[0]['images'], sorted({f"{row['size']} on {row['machine']}" for row in measured})
        out.append(
            f"{report['board']}, {images} images; seconds: median, network alone, {'; '.join(where)}; memory: what the"
            f' first image needs beside the weights. MACs at 1x3x{MAC_SIZE}x{MAC_SIZE}.')
    if any(row.get('gt_mean') for row in rows):
        out.append('GT-mean scales each result to the brightness of its ground truth, which only a benchmark knows.')
    left_out = dict.fromkeys(label for row in rows for label in row.get('left_out', ()))
    if left_out:
        out.append(f"Left out, as what they need is not here: {', '.join(left_out)}.")
    if any(row['claim'] for row in rows):
        out.append('Claims are those of the people named below; nothing here verifies them.')
    missing = [row['name'] for row in rows if row['missing']]
    return out + ([f"Not measured: {', '.join(missing)}."] if missing else [])


def _sources(report: dict[str, Any]) -> list[list[str]]:
    """A second table: where weights are from, their licence, and whose the claims are."""
    lines = [[row['name'], row['source'], row['licence'], row['claim'].get('source', '')] for row in report['rows']]
    return tables.without_empty([['weights', 'from', 'licence', 'claimed by'], *lines])


def show(report: dict[str, Any]) -> str:
    """The table for a terminal."""
    return '\n'.join([report['board'], tables.aligned(_table(report)), *_notes(report)])


def in_markdown(report: dict[str, Any]) -> str:
    """The table and what a reader must know."""
    return '\n\n'.join([tables.markdown(_table(report)), *_notes(report)])


def write(report: dict[str, Any], folder: Path) -> list[Path]:
    """`board.md`, `.tex`, `.csv`, `.json`, and `.png` where something is measured, in `folder`."""
    files = [folder / f'board.{suffix}' for suffix in ('md', 'tex', 'csv', 'json', 'png')]
    drawn = _plot(report, files[4])
    picture = ['![quality against seconds](board.png)'] if drawn else []
    text = '\n\n'.join([f"# {report['board']}",
                        in_markdown(report), *picture,
                        tables.markdown(_sources(report))]) + '\n'
    for file, content in zip(files, (text, tables.latex(_table(report), _notes(report)))):
        with atomic_write(file, 'w') as out:
            out.write(content)
    with atomic_write(files[2], 'w') as out:
        _write_csv(report, csv.writer(out))
    write_json(files[3], report)
    return files if drawn else files[:4]


def _write_csv(report: dict[str, Any], writer: Any) -> None:
    """Numbers without rounding, one column each, of all metrics and protocols."""
    plain = ('name', 'weights', 'source', 'licence', 'network', 'parameters', 'macs', 'macs_scan', 'seconds', 'size',
             'memory', 'machine', 'images', 'missing')
    kinds = [(kind, label) for kind in ('plain', 'gt_mean')
             for label in dict.fromkeys(label for row in report['rows'] for label in row.get(kind, {}))]
    writer.writerow(
        [*plain, *(label if kind == 'plain' else f'{label} GT-mean' for kind, label in kinds), *_CLAIMS.values()])
    for row in report['rows']:
        writer.writerow([
            *(row.get(key, '') for key in plain), *(row.get(kind, {}).get(label, '') for kind, label in kinds),
            *(row['claim'].get(key, '') for key in _CLAIMS)
        ])


def _plot(report: dict[str, Any], path: Path) -> bool:
    """The first column of quality against seconds an image, a point for each row; whether there is any."""
    labels = _labels(report)
    points = [row for row in report['rows'] if row.get('seconds') and labels and labels[0] in row['plain']]
    path.unlink(missing_ok=True)
    if not points:
        return False
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator
    figure, axis = plt.subplots(figsize=(8, 5), layout='constrained')
    for row in points:
        point = row['seconds'], row['plain'][labels[0]]
        axis.scatter(*point, s=20 + row['parameters'] / 2e4, alpha=0.7)
        axis.annotate(row['name'], point, xytext=(6, 4), textcoords='offset points', fontsize=8)
    axis.set_xscale('log')
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter('{x:g}')
    axis.xaxis.set_minor_formatter('')
    axis.set_xlabel('seconds an image; the area grows with the parameters')
    axis.set_ylabel(_heading(report, labels[0]))
    axis.margins(0.15)
    axis.grid(alpha=0.3)
    axis.set_title(report['board'], fontsize=11)
    with atomic_write(path) as file:
        figure.savefig(file, format='png', dpi=130)
    plt.close(figure)
    return True

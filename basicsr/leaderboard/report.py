"""The tables of a board: Markdown, LaTeX, CSV, JSON."""
from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from basicsr.ablation.costs import MAC_SIZE
from basicsr.evaluation import tables
from basicsr.leaderboard.board import Board
from basicsr.leaderboard.claims import columns, digits, heading
from basicsr.leaderboard.picture import draw
from basicsr.utils.files import atomic_write, write_json


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
    """PSNR and SSIM with their protocol, where there are several."""
    metric, _, protocol = label.partition(' ')
    if protocol not in report['protocols'] or metric not in ('psnr', 'ssim'):
        return label
    return metric.upper() + (f' ({protocol})' if len(report['protocols']) > 1 else '')


def _number(row: dict[str, Any], key: str, form: str, scale: float = 1) -> str:
    return '' if row.get(key) is None else format(row[key] * scale, form)


def _value(values: dict[str, float | None], label: str) -> str:
    """'' also for what has no number, such as NIQE of black images."""
    value = values.get(label)
    return '' if value is None else format(value, digits(label))


def _claims(report: dict[str, Any]) -> list[str]:
    return columns(row['claim'] for row in report['rows'])


def _table(report: dict[str, Any]) -> list[list[str]]:
    labels, claims = _labels(report), _claims(report)
    head = ['weights', 'network', 'parameters', 'MACs (G)', 's / image', 'memory (MiB)']
    head += [_heading(report, label) for label in labels] + [f'{_heading(report, label)}, GT-mean' for label in labels]
    head += map(heading, claims)
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
        line += [_value(row['claim'], key) for key in claims]
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
        out.append(
            f"Left out: {', '.join(left_out)}. What they need is not here; docs/metrics.md says where to get it.")
    if any(row['claim'] for row in rows):
        out.append('Claims are those of the people named below; nothing here verifies them.')
    missing = [row['name'] for row in rows if row['missing']]
    return out + ([f"Not measured: {', '.join(missing)}."] if missing else [])


def _sources(report: dict[str, Any]) -> list[list[str]]:
    """A second table: where weights are from, their licence, and whose the claims are."""
    lines = [[
        row['name'], row['source'], row['licence'], row['claim'].get('source', 'not said' if row['claim'] else '')
    ] for row in report['rows']]
    return tables.without_empty([['weights', 'from', 'licence', 'claimed by'], *lines])


def show(report: dict[str, Any]) -> str:
    """The tables for a terminal."""
    return '\n'.join([
        report['board'],
        tables.aligned(_table(report)), *_notes(report), '',
        tables.aligned(_sources(report), texts=True), ''
    ])


def in_markdown(report: dict[str, Any]) -> str:
    """The tables, and between them what a reader must know."""
    return '\n\n'.join(
        [tables.markdown(_table(report)), *_notes(report),
         tables.markdown(_sources(report), texts=True)])


def write(report: dict[str, Any], folder: Path) -> list[Path]:
    """`board.md`, `.tex`, `.csv`, `.json`, and `.png` where something is measured, in `folder`."""
    files = [folder / f'board.{suffix}' for suffix in ('md', 'tex', 'csv', 'json', 'png')]
    quality = next(iter(_labels(report)), '')
    drawn = draw(report, quality, _heading(report, quality), files[4])
    picture = ['![quality against seconds](board.png)'] if drawn else []
    text = '\n\n'.join([f"# {report['board']}", in_markdown(report), *picture]) + '\n'
    latex = '\n'.join([tables.latex(_table(report), _notes(report)), tables.latex(_sources(report), texts=True)])
    for file, content in zip(files, (text, latex)):
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
    claims = _claims(report)
    writer.writerow(
        [*plain, *(label if kind == 'plain' else f'{label} GT-mean' for kind, label in kinds), *map(heading, claims)])
    for row in report['rows']:
        writer.writerow([
            *(row.get(key, '') for key in plain), *(row.get(kind, {}).get(label, '') for kind, label in kinds),
            *(row['claim'].get(key, '') for key in claims)
        ])

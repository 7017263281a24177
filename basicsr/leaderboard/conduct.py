"""A board from its rows to its tables: what is measured already stays."""
from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tqdm import tqdm

from basicsr.evaluation.preconditions import try_metric
from basicsr.leaderboard.board import Board, Row
from basicsr.leaderboard.data_set import check_images, fingerprint
from basicsr.leaderboard.embedding import Section
from basicsr.leaderboard.measuring import NO_TRUTH, WITHOUT_TRUTH
from basicsr.leaderboard.report import collect, in_markdown, show, write
from basicsr.registry import PACKAGE
from basicsr.utils import pretrained
from basicsr.utils.errors import UserError
from basicsr.utils.files import sha256_of, write_json
from basicsr.utils.machine import choose_device
from basicsr.utils.ownership import owned

# this checkout, whatever lies in the working directory
_CODE = f'''
import sys
sys.path[0] = {str(PACKAGE.parent)!r}
from basicsr.leaderboard.measuring import main
sys.exit(main(sys.argv[1:]))
'''


def conduct(board: Board, device: str = 'auto', report_only: bool = False, into: Section | None = None) -> int:
    """Measure what is left to do and write the tables. Returns 1 where a row failed, else 0.

    Weights that are not here and cannot be fetched are no failure: their rows say so, beside what is claimed of them.
    Every row is measured in a process of its own, one after the other, and kept in `rows/` of the results until there are new
    numbers. `into`: where the table goes as well, if any row has numbers.

    Raises:
        UserError: before anything is touched, where the device or the images cannot be used.
    """
    if not report_only:
        device = choose_device(device)
        try:
            check_images(board.data)
        except UserError as error:
            place = board.source.place(('data', ))
            raise UserError(f'{place}: data: {error}', details=error.details) from error
    with owned(board.results, archive=False, otherwise='wait for its end'):
        done = _measure_all(board, device, report_only)
        report = collect(board, done.found, {**done.missing, **done.failed})
        files = write(report, board.results)
        if into and any(done.found.values()):
            files += into.fill(in_markdown(report), next((file for file in files if file.suffix == '.png'), None))
    print(show(report))
    print('written: ' + ', '.join(map(str, files)))
    if into and not any(done.found.values()):
        print(f"'{into.file}' stays as it is: no row has numbers")
    left_out = {label: reason for found in done.found.values() if found for label, reason in found['left_out'].items()}
    for said, reasons in (('left out', left_out), ('not measured', done.missing), ('FAILED', done.failed)):
        for name, reason in reasons.items():
            print(f'{said}: {name}: {reason}')
    return 1 if done.failed else 0


@dataclass
class _Done:
    """By name of the row: what was found, why there are no weights, and why it failed."""
    found: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def _measure_all(board: Board, device: str, report_only: bool) -> _Done:
    done, images = _Done(), fingerprint(board.data)
    now_there = cache(lambda label: _can_be_measured(board, label, device))  # asked once a board
    for row in tqdm(board.rows, unit='row', disable=None):
        job = job_of(board, row, images)
        try:
            if not report_only or pretrained.is_here(row.weights):
                job['sha256'] = sha256_of(pretrained.locate(row.weights).path)
        except UserError as error:
            fetched = pretrained.is_fetched(row.weights)
            (done.missing if fetched else done.failed)[row.name] = str(error)
            done.found[row.name] = _kept(board, row, job) if fetched else None
            continue
        kept = _kept(board, row, job)
        lacked = [label for label, reason in kept['left_out'].items() if reason != NO_TRUTH] if kept else []
        if not (report_only or (kept and kept['job']['device'] == device and not any(map(now_there, lacked)))):
            reason = _measure(board, row, job | {'device': device})
            if reason:
                done.failed[row.name] = reason + ('; its earlier numbers stay' if kept else '')
            kept = _kept(board, row, job)
        done.found[row.name] = kept
    return done


def _can_be_measured(board: Board, label: str, device: str) -> bool:
    """Whether a metric that was left out has by now what it lacked."""
    try:
        try_metric({**WITHOUT_TRUTH, **board.metrics}[label], device)
    except UserError:
        return False
    return True


def job_of(board: Board, row: Row, images: str) -> dict[str, Any]:
    """What a row's numbers depend on, but for the weights themselves, the device, the code and the machine.

    `images`: `fingerprint` of the data.
    """
    job = {
        'weights': row.weights, 'opt': row.opt, 'arch_files': row.arch_files, 'key': row.key, 'knobs': row.knobs,
        'data': board.data, 'images': images, 'metrics': board.metrics, 'batch': board.batch,
        'files': [sha256_of(Path(file)) for file in (row.opt, *row.arch_files) if file]
    }
    return json.loads(json.dumps(job))


def _measure(board: Board, row: Row, job: dict[str, Any]) -> str:
    """'' or why it failed."""
    with tempfile.TemporaryDirectory(prefix='basicsr-row-') as folder:
        given, found = Path(folder, 'job.json'), Path(folder, 'found.json')
        write_json(given, job)
        log = _file(board, row).with_suffix('.log')
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open('wb') as out:
            code = subprocess.run(
                [sys.executable, '-c', _CODE, str(given), str(found)], stdout=out, stderr=subprocess.STDOUT,
                check=False).returncode
        if code:
            lines = log.read_text(encoding='utf-8', errors='replace').splitlines()
            last = next((line for line in reversed(lines) if line.strip()), 'nothing was printed')
            return f'exit status {code}: {last.removeprefix("error: ")} (all of it: {log})'
        write_json(_file(board, row), {'job': job, **json.loads(found.read_text(encoding='utf-8'))})
    return ''


def _file(board: Board, row: Row) -> Path:
    return board.results / 'rows' / f'{row.slug}.json'


def _kept(board: Board, row: Row, job: dict[str, Any]) -> dict[str, Any] | None:
    """What was measured of a row, on whatever device; None where that was of other weights, data or options."""
    try:
        found = json.loads(_file(board, row).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return found if job.items() <= found['job'].items() else None

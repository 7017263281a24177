"""A board from its rows to its tables: what is measured already stays."""
from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from basicsr.leaderboard.board import Board, Row
from basicsr.leaderboard.embedding import Section
from basicsr.leaderboard.report import collect, in_markdown, show, write
from basicsr.registry import PACKAGE
from basicsr.utils import pretrained
from basicsr.utils.errors import UserError
from basicsr.utils.files import sha256_of, write_json
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
    Every row is measured in a process of its own, one after the other, and kept in `rows/` of the results. `into`: where the
    table goes as well.
    """
    with owned(board.results, archive=False, otherwise='wait for its end'):
        missing, failed = ({}, {}) if report_only else _measure_all(board, device)
        report = collect(board, {row.name: _kept(board, row) for row in board.rows}, {**missing, **failed})
        files = write(report, board.results)
        if into:
            files += into.fill(in_markdown(report), next((file for file in files if file.suffix == '.png'), None))
    print(show(report))
    print('written: ' + ', '.join(map(str, files)))
    for said, reasons in (('not measured', missing), ('FAILED', failed)):
        for name, reason in reasons.items():
            print(f'{said}: {name}: {reason}')
    return 1 if failed else 0


def _measure_all(board: Board, device: str) -> tuple[dict[str, str], dict[str, str]]:
    """Why rows have no weights, and why others failed, by name."""
    missing: dict[str, str] = {}
    failed: dict[str, str] = {}
    for row in tqdm(board.rows, unit='row', disable=None):
        try:
            weights = pretrained.locate(row.weights)
        except UserError as error:
            if not pretrained.is_fetched(row.weights):
                failed[row.name] = str(error)
                continue
            missing[row.name] = str(error)
            continue
        job = job_of(board, row) | {'sha256': sha256_of(weights.path), 'device': device}
        kept = _kept(board, row)
        if kept and kept['job'] == job:
            continue
        _file(board, row).unlink(missing_ok=True)  # of other weights, or from elsewhere
        reason = _measure(board, row, job)
        if reason:
            failed[row.name] = reason
    return missing, failed


def job_of(board: Board, row: Row) -> dict[str, Any]:
    """What a row's numbers depend on, but for the weights themselves, the code and the machine."""
    job = {
        'weights': row.weights, 'opt': row.opt, 'arch_files': row.arch_files, 'key': row.key, 'knobs': row.knobs,
        'data': board.data, 'metrics': board.metrics, 'batch': board.batch,
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


def _kept(board: Board, row: Row) -> dict[str, Any] | None:
    """What was measured of a row; None where that was on other data, or with other options."""
    try:
        found = json.loads(_file(board, row).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return found if job_of(board, row).items() <= found['job'].items() else None

"""What a finished run has left: its weights, its option file, and what it did otherwise than that says."""
from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch

from basicsr.config import load_options
from basicsr.config.overrides import flatten
from basicsr.utils.errors import UserError
from basicsr.utils.restricted_unpickling import read_file
from basicsr.utils.weights import load_weights

FILES = {'last': 'models/net_g_latest.pth', 'best': 'best/net_g_best.pth'}
_ENTRIES = {'': 'params', ' EMA': 'params_ema'}
# where a run lies, where its data lie, and what a machine has, make no other weights
_LOCAL = re.compile(r'^(path|logger|num_gpu|dist|rank|auto_resume|name|val)\b|\.(dataroot|meta_info)\w*$')


class Candidate(NamedTuple):
    """Weights that a run has left: an entry of a file, after so many iterations."""
    file: Path
    key: str
    state: dict[str, torch.Tensor]
    network: dict[str, Any]
    iterations: int


def find_candidates(folder: Path) -> dict[str, Candidate]:
    """Last and best weights of a run and their averages, those that there are, by name: 'last', 'best EMA', ...

    Raises:
        UserError: when there are none, or they do not say which network they belong to.
    """
    found = {}
    for kind, name in FILES.items():
        content = read_file(folder / name) if (folder / name).is_file() else {}
        for suffix, key in _ENTRIES.items():
            if key in content:
                weights = load_weights(folder / name, key)
                if weights.network is None:
                    raise UserError(
                        f"'{folder / name}' does not say which network it belongs to; train with this toolbox")
                iterations = best(folder)['iter'] if kind == 'best' else _last_iteration(folder)
                found[kind + suffix] = Candidate(folder / name, key, weights.state, weights.network, iterations)
    if not found:
        raise UserError(f"'{folder}' is not the folder of a finished run: it has neither"
                        f" {' nor '.join(FILES.values())}")
    return found


def distinct(candidates: dict[str, Candidate], entry: str) -> dict[str, Candidate]:
    """Without those that hold the same numbers as the shipped one or one before them."""
    kept: dict[str, Candidate] = {entry: candidates[entry]}
    for label, one in candidates.items():
        if label != entry and not any(_same(one.state, other.state) for other in kept.values()):
            kept[label] = one
    return {label: one for label, one in candidates.items() if label in kept}


def option_file(folder: Path) -> Path:
    """The copy of its option file. Raises `UserError` unless there is one."""
    found = sorted(p for p in folder.glob('*') if p.suffix in ('.yml', '.yaml'))
    if len(found) != 1:
        what = f"several: {', '.join(p.name for p in found)}; keep the last" if found else 'none'
        raise UserError(f"'{folder}' must hold the one option file of its run, and has {what}")
    return found[0]


def effective_changes(folder: Path, source: Path) -> dict[str, Any]:
    """Option path and value of what the run did otherwise than its option file says: overrides, several processes."""
    file = folder / 'options.json'
    if not file.is_file():
        raise UserError(f"'{file}' is missing; it says what the run really did")
    did = flatten(json.loads(file.read_text(encoding='utf-8')))
    said = load_options(source, is_train=True, check_files=False).opt | {'world_size': 1}
    says = flatten(json.loads(json.dumps(said)))
    return {
        key: did.get(key) for key in sorted({*did, *says}) if did.get(key) != says.get(key) and not _LOCAL.search(key)
    }


def best(folder: Path) -> dict[str, Any]:
    """What made its best weights the best: `dataset`, `metric`, `value`, `iter`, `protocol`. Raises `UserError`."""
    file = folder / 'best' / 'best.json'
    if not file.is_file():
        raise UserError(f"'{file}' is missing; it says what the best weights were chosen on")
    return json.loads(file.read_text(encoding='utf-8'))


def _last_iteration(folder: Path) -> int:
    """As far as the run's tables go: losses are logged at the end, metrics where early stopping ended it."""
    done = 0
    for file in (folder / 'losses.csv', folder / 'metrics.csv'):
        if file.is_file():
            with file.open(newline='', encoding='utf-8') as table:
                done = max([done, *(int(row['iter']) for row in csv.DictReader(table))])
    if not done:
        raise UserError(f"'{folder / 'losses.csv'}' does not say how long the run was")
    return done


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)

"""Parts that have arrived, put in their place."""
from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pieces.packages import install
from pieces.parts import join, remove

from basicsr.utils.errors import UserError

_WHOLE = ('data', 'wheels')  # labels of what takes the place of all that was there before


def in_order(labels: Iterable[str]) -> list[str]:
    """States of a run by their iterations, which end their labels: `run_200` before `run_1000`."""

    def key(label: str) -> tuple[str, int]:
        name, _, iteration = label.rpartition('_')
        return (name, int(iteration)) if iteration.isdecimal() else (label, -1)

    return sorted(labels, key=key)


def put(arrived: Path, label: str, root: Path) -> str:
    """Put the files of complete parts below `root`, and remove the parts. Returns what was done, in words.

    Everything is unpacked before anything is replaced. A run that has gone further than its files stays as it is.

    Raises:
        UserError: the parts hold what they should not, and are removed; or a process owns a run that the files belong
            to, any run where they are data.
    """
    pieces = root / '.pieces'
    unpacked = pieces / 'unpacked'
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        try:
            names = join(arrived, label, unpacked)
        except UserError:
            remove(arrived, label)
            raise
        runs = _runs(names)
        with _unused(root / 'experiments', None if label == 'data' else runs):
            said = _further(runs, names, root)
            if not said:
                if label in _WHOLE:
                    shutil.rmtree(pieces / label, ignore_errors=True)
                for name in names:
                    (root / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(unpacked / name, root / name)  # also where `experiments` is a link to another disk
                said = f'complete, {len(names)} files in {root}'
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    if label == 'wheels':
        install([root / name for name in names], pieces / 'site')
    remove(arrived, label)
    return said


def _runs(names: Iterable[str]) -> list[str]:
    """The runs, `experiments/NAME`, that files belong to."""
    parts = [Path(name).parts for name in names]
    return sorted({f'{p[0]}/{p[1]}' for p in parts if p[0] == 'experiments' and len(p) > 2})


def _further(runs: list[str], names: Iterable[str], root: Path) -> str:
    """Which run below `root` has gone further than these files of it, in words; '' where none has."""
    for run in runs:
        brought = _progress(Path(name).relative_to(run).as_posix() for name in names if name.startswith(f'{run}/'))
        here = _progress(path.relative_to(root / run).as_posix() for path in (root / run).glob('*/*'))
        if brought[0] >= 0 and (here[0] > brought[0] or here[1] > brought[1]):
            at = 'has ended' if here[1] else f'is at iteration {here[0]}'
            return (f"left out, as '{root / run}' {at}; to go back to iteration {brought[0]}, rename that folder and"
                    ' unpack again')
    return ''


def _progress(files: Iterable[str]) -> tuple[int, bool]:
    """How far a run is by its files: the iteration of its newest state, -1 without one, and whether it has ended."""
    paths = [Path(file) for file in files]
    states = [p.stem for p in paths if p.parts[0] == 'training_states' and p.suffix == '.state']
    iterations = [int(stem) for stem in states if stem.isdecimal()]
    return max(iterations, default=-1), Path('models/net_g_latest.pth') in paths


@contextmanager
def _unused(folder: Path, runs: list[str] | None) -> Iterator[None]:
    """Own runs, all in `folder` where none are given, as training does.

    Raises `UserError` where a process owns one. Where the packages that training needs are missing, none can.
    """
    try:
        from basicsr.utils.ownership import owned
    except ImportError:
        yield
        return
    folders = [folder.parent / run for run in runs] if runs is not None else [p for p in folder.glob('*') if p.is_dir()]
    with ExitStack() as stack:
        for run in sorted(folders):
            stack.enter_context(owned(run, archive=False, otherwise='unpack again after its end'))
        yield

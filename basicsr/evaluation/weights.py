"""`basicsr evaluate`: one weight file, or several, on the same data sets with the same metrics."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basicsr.data.protocol import about
from basicsr.evaluation.comparison import Comparison
from basicsr.evaluation.data_sets import DataSet
from basicsr.evaluation.evaluate import Metrics, Restored, Results, evaluate
from basicsr.evaluation.metric_choice import all_protocols, leave_out_unavailable
from basicsr.evaluation.report import report, table
from basicsr.evaluation.restoring import build_restorer, by_restorer
from basicsr.metrics.gt_mean import match_mean
from basicsr.utils.files import atomic_write
from basicsr.utils.img import imwrite, to_bytes

_MARK = 'weights.json'  # says whose results a folder holds


@dataclass
class Evaluation:
    """What is done to every weight file.

    Attributes:
        data: by name. title: of all of it. opt: options of the network, None where the weights say them.
        metrics: chosen ones, None for PSNR and SSIM under every protocol.
        device, tile, self_ensemble, GT_mean: how images are restored and measured.
        images: write them. comparison: write pictures beside input and ground truth, too.
    """
    data: Mapping[str, DataSet]
    title: str
    opt: dict[str, Any] | None = None
    metrics: Metrics | None = None
    device: str = 'auto'
    tile: int = 0
    self_ensemble: bool = False
    GT_mean: bool = False
    images: bool = True
    comparison: bool = False

    def run(self, weights: str, file: Path, folder: Path) -> tuple[dict[str, Results], Metrics]:
        """Evaluate one file. `weights`: what the user called it. Returns what was measured, and by which metrics."""
        restorer = build_restorer(file, self.opt, None, self.device, self.tile, self.self_ensemble)
        metrics = leave_out_unavailable(self.metrics, restorer.device) if self.metrics else all_protocols()
        with atomic_write(folder / _MARK, 'w') as mark:
            json.dump({'weights': str(file.resolve())}, mark)
        results = {}
        for name, one in self.data.items():
            home = folder / name if len(self.data) > 1 else folder
            if about(one.data).summary():  # which of several possible folders the images of a task come from
                print(f'{name}:\n{about(one.data).summary()}')
            comparison = Comparison(home, self.images) if self.comparison else None

            def watch(seen: Restored, home: Path = home, comparison: Comparison | None = comparison) -> None:
                if comparison is not None and seen.images.gt is not None:
                    comparison.add('/'.join(filter(None, (seen.task, seen.name))), *seen.images)
                if self.images:
                    imwrite(to_bytes(seen.images.result), home / seen.task / f'{seen.name}.png')

            found = evaluate(by_restorer(restorer), one.loader(), metrics, device=restorer.device,
                             adjust=match_mean if self.GT_mean else None, watch=watch, title=name)
            if comparison is not None and comparison.names:
                comparison.write()
                print(f"{name}: compared with the input in {home / 'test_results.txt'}"
                      + (f'; no LPIPS: {comparison.missing}' if comparison.missing else ''))
            if found.rows:
                results[name] = found
            elif found.images:
                done = f'{found.images} images written to {home}' if self.images else 'nothing to measure'
                print(f'{name}: no ground truth; {done}')
        if results:
            settings = {key: getattr(self, key) for key in ('GT_mean', 'self_ensemble', 'tile')}
            chosen = metrics if self.metrics else None
            print(report(results, self.title, {'weights': weights, **settings}, folder, chosen))
        return results, metrics


def side_by_side(found: Mapping[str, tuple[Mapping[str, Results], Metrics]]) -> list[str]:
    """One table of several weight files: a line for each file and data set, and a column for each metric."""
    metrics: dict[str, Any] = {}
    lines = {}
    for weights, (results, used) in found.items():
        metrics |= used
        for name, one in results.items():
            lines[weights if len(results) == 1 else f'{weights}, {name}'] = one.means
    return list(table(lines, metrics)) if lines else []


def result_folder(above: Path, file: Path) -> Path:
    """A folder of this weight file's own below `above`: of its name, else of its run and name, else with a number of its own.

    Two files of one name never share a folder; the same file comes back to its own.
    """
    file = file.resolve()
    run = file.parent.parent.name if file.parent.name in ('models', 'best') else file.parent.name
    unique = hashlib.sha256(str(file).encode()).hexdigest()[:8]
    names = [file.stem, f'{run}_{file.stem}', f'{run}_{file.stem}_{unique}']
    return next(above / name for name in names if name == names[-1] or _owner(above / name) in (None, str(file)))


def _owner(folder: Path) -> str | None:
    """The weight file whose results are there; None where nothing says so."""
    try:
        return json.loads((folder / _MARK).read_text(encoding='utf-8'))['weights']
    except (OSError, ValueError, KeyError, TypeError):
        return None


def folders_of(above: Path, files: Sequence[Path]) -> list[Path]:
    """A folder for each of several files, chosen together."""
    taken: list[Path] = []
    for file in files:
        folder = result_folder(above, file)
        if folder in taken:
            unique = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
            folder = folder.with_name(f'{folder.name}_{unique}')
        taken.append(folder)
    return taken

"""`basicsr evaluate`: one weight file, or several, on the same data sets with the same metrics."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from basicsr.data.protocol import about
from basicsr.evaluation.comparison import COMPARED, Comparison
from basicsr.evaluation.data_sets import DataSet
from basicsr.evaluation.evaluate import Metrics, Restored, Results, evaluate
from basicsr.evaluation.files import forget, is_evaluated, mark
from basicsr.evaluation.metric_choice import all_protocols, leave_out_unavailable
from basicsr.evaluation.preconditions import say_same_files, try_out
from basicsr.evaluation.report import report, table
from basicsr.evaluation.restoring import by_restorer
from basicsr.inference.build import build_restorer
from basicsr.inference.restorer import ImageRestorer
from basicsr.metrics.gt_mean import match_mean
from basicsr.utils.errors import UserError, counted
from basicsr.utils.files import kept, scan_images, write_json
from basicsr.utils.img import imwrite, to_bytes
from basicsr.utils.names import below, name_bytes, namesake
from basicsr.utils.ownership import check_free, owned
from basicsr.utils.pretrained import WeightFile

_OWNERS = '.weights.json'
_OTHERWISE = 'wait for its end, or give another --output_dir or --result_dir'


@dataclass
class Evaluation:
    """What is done to every weight file.

    Attributes:
        data: by name. title: of all of it. opt: options of the network, None where the weights say them.
        metrics: chosen ones, None for PSNR and SSIM under every protocol.
        device, tile, self_ensemble, GT_mean: how images are restored and measured.
        images: write them. comparison: write pictures beside input and ground truth, too.
        key: entry of the files, None as the options say. knobs: of the network, by name.
        not_finite: inputs whose results were no images.
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
    key: str | None = None
    knobs: Mapping[str, float] = field(default_factory=dict)
    not_finite: list[str] = field(default_factory=list)

    def run_all(self, names: Sequence[str], files: Sequence[WeightFile], above: Path) -> None:
        """Evaluate weight files, each into a folder of its own below `above`, and print one table of several.

        `names`: what the user called them.
        """
        self._check_folders(own_folders(above, files, claim=False), '--result_dir')
        restorer, metrics = self._try(files)
        found = {}
        for name, file, folder in zip(names, files, own_folders(above, files)):
            if len(files) > 1:
                print(f'{name}:')
                restorer = self._restorer(file)
            found[name] = self._run(name, folder, restorer, metrics)
        if len(files) > 1:
            print('\n'.join(side_by_side(found)))

    def run(self, weights: str, file: WeightFile, folder: Path,
            overwrite: bool = False) -> tuple[dict[str, Results], Metrics]:
        """Evaluate one file. Returns what was measured, and by which metrics.

        Args:
            weights: what the user called it. folder: for what is written.
            overwrite: replace images in it that are of no earlier evaluation, which is a `UserError` else.
        """
        self._check_folders([folder], '--output_dir')
        if self.images and not overwrite:
            self._check_images(folder)
        return self._run(weights, folder, *self._try([file]))

    def _check_folders(self, folders: Sequence[Path], option: str) -> None:
        """Raise `UserError` where results would take the place of what is read, or another evaluation writes its own."""
        for folder in folders:
            for name, one in self.data.items():
                for home in dict.fromkeys([folder, self._home(folder, name)]):
                    one.check_output(home, option)
        check_free(*folders, otherwise=_OTHERWISE)

    def _check_images(self, folder: Path) -> None:
        """Raise `UserError` where images of somebody else's may be replaced."""
        if is_evaluated(folder):
            return
        for home in dict.fromkeys(self._home(folder, name) for name in self.data):
            found = scan_images(home, recursive=False).images if home.is_dir() else []
            if found:
                raise UserError(
                    f"--output_dir '{folder}' holds {counted(len(found), 'image')} of no earlier evaluation,"
                    ' which may be replaced; choose another folder, or give --overwrite')

    def _home(self, folder: Path, name: str) -> Path:
        """Of the pictures of a data set."""
        return folder / name if len(self.data) > 1 else folder

    def _try(self, files: Sequence[WeightFile]) -> tuple[ImageRestorer, Metrics]:
        """Everything that all files need, before anything is written. Returns what restores by the last, and the metrics."""
        for name, one in self.data.items():
            say_same_files(one, name)
        metrics: Metrics = {}
        for file in files:
            restorer = self._restorer(file)
            metrics = metrics or (leave_out_unavailable(self.metrics, restorer.device)
                                  if self.metrics else all_protocols())
            compared = COMPARED if self.comparison else {}
            for one in self.data.values():
                try_out(by_restorer(restorer), one, {**metrics, **compared}, restorer.device)
        return restorer, metrics

    def _restorer(self, file: WeightFile) -> ImageRestorer:
        return build_restorer(file, self.opt, self.key, self.device, self.knobs, tile=self.tile,
                              ensemble=self.self_ensemble)

    def _run(self, weights: str, folder: Path, restorer: ImageRestorer,
             metrics: Metrics) -> tuple[dict[str, Results], Metrics]:
        results, lines = {}, []
        with owned(folder, archive=False, otherwise=_OTHERWISE), kept(folder):
            forget(folder, [self._home(folder, name) for name in self.data])
            mark(folder, weights)
            for name, one in self.data.items():
                found, said = self._measure(name, one, restorer, metrics, self._home(folder, name))
                lines += said
                if found.rows:
                    results[name] = found
            if results:
                settings = {
                    'GT_mean': self.GT_mean, 'self_ensemble': self.self_ensemble, 'tile': restorer.smallest_tile,
                    **({'knobs': dict(self.knobs)} if self.knobs else {})
                }
                chosen = metrics if self.metrics else None
                lines.append(report(results, self.title, {'weights': weights, **settings}, folder, chosen))
        if lines:  # last: whatever becomes of the terminal, the files are there
            print('\n'.join(lines))
        return results, metrics

    def _measure(self, name: str, one: DataSet, restorer: ImageRestorer, metrics: Metrics,
                 home: Path) -> tuple[Results, list[str]]:
        """Restore and measure one data set, with its pictures in `home`; what is to be printed of it comes with the results."""
        lines = []
        if about(one.data).summary():  # which of several possible folders the images of a task come from
            print(f'{name}:\n{about(one.data).summary()}')
        note = 'results scaled to the mean of the ground truth' if self.GT_mean else ''
        comparison = Comparison(home, self.images, note) if self.comparison else None

        def watch(seen: Restored) -> None:
            picture = below(home, seen.task, f'{seen.name}.png', what=name)
            if not seen.finite:
                self.not_finite.append(seen.file)
                if self.images:  # that of an earlier evaluation would stand for this one
                    picture.unlink(missing_ok=True)
                return
            if comparison is not None and seen.images.gt is not None:
                lq, result, gt = seen.images.lq, seen.images.result, seen.images.gt
                comparison.add('/'.join(filter(None, (seen.task, seen.name))), lq, result, gt)
            if self.images:
                imwrite(to_bytes(seen.images.result), picture)

        found = evaluate(by_restorer(restorer), one.loader(), metrics, device=restorer.device,
                         adjust=match_mean if self.GT_mean else None, watch=watch, title=name)
        if comparison is not None and comparison.names:
            comparison.write()
            lines.append(f"{name}: compared with the input in {home / 'test_results.txt'}" +
                         (f'; no LPIPS: {comparison.missing}' if comparison.missing else ''))
        if found.images and not found.rows:
            done = f'{found.images} images written to {home}' if self.images else 'nothing to measure'
            lines.append(f'{name}: no ground truth; {done}')
        return found, lines


def side_by_side(found: Mapping[str, tuple[Mapping[str, Results], Metrics]]) -> list[str]:
    """One table of several weight files: a line for each file and data set, and a column for each metric."""
    metrics: dict[str, Any] = {}
    lines = {}
    for weights, (results, used) in found.items():
        metrics |= used
        for name, one in results.items():
            lines[weights if len(results) == 1 else f'{weights}, {name}'] = one.means
    return list(table(lines, metrics)) if lines else []


def own_folders(above: Path, files: Sequence[WeightFile], claim: bool = True) -> list[Path]:
    """A folder below `above` for each weight file: of its title, else of its run and title, else with a number of its own.

    Two files of one name never share a folder, and a file comes back to its own: `above` holds a list of the owners, which
    is written where they `claim` theirs.
    """
    owners, homes = _owners(above), []
    for title, file in ((found.title, found.path.resolve()) for found in files):
        run = file.parent.parent.name if file.parent.name in ('models', 'best') else file.parent.name
        unique = hashlib.sha256(name_bytes(str(file))).hexdigest()[:8]
        for name in (title, f'{run}_{title}', f'{run}_{title}_{unique}'):
            name = namesake(name, owners) or name
            if owners.setdefault(name, str(file)) == str(file):
                break
        homes.append(above / name)
    if claim:
        write_json(above / _OWNERS, owners)
    return homes


def _owners(above: Path) -> dict[str, str]:
    """Name of a folder to the weight file whose results it holds."""
    try:
        return dict(json.loads((above / _OWNERS).read_text(encoding='utf-8')))
    except (OSError, ValueError, TypeError):
        return {}

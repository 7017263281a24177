"""Which weights of a finished run are shipped, whether they may be, and what they do on the test set."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from basicsr.data import build_dataset
from basicsr.evaluation.data_sets import DataSet
from basicsr.evaluation.evaluate import Restored, evaluate, measure_all
from basicsr.evaluation.metric_choice import all_protocols
from basicsr.evaluation.restoring import by_restorer
from basicsr.inference.restorer import ImageRestorer
from basicsr.metrics.gt_mean import match_mean
from basicsr.metrics.tasks import Means
from basicsr.publishing.finished_run import FILES, Candidate, best
from basicsr.publishing.shipped_weights import PROTOCOLS
from basicsr.utils.errors import UserError


def choose(ship: str | None, candidates: dict[str, Candidate]) -> str:
    """The candidate that is shipped: the one named, as `--ship` spells it, else the best, its average where there is one."""
    entry = ship.replace('-ema', ' EMA') if ship else next((k for k in ('best EMA', 'best') if k in candidates), None)
    if entry is None:
        raise UserError('the run has no best weights, since it held no images out; say which to take with --ship')
    if entry not in candidates:
        raise UserError(f"--ship {ship}: the run has no such weights, but: {', '.join(candidates)}")
    return entry


def check_held_out(folder: Path, opt: dict[str, Any], test: str) -> None:
    """Raise `UserError` when the best weights were chosen on images of the test set."""
    if not (folder / FILES['best']).is_file():
        return
    name, blocks = best(folder)['dataset'], opt['datasets']
    chosen_on = [key for key, block in blocks.items() if not key.startswith('train') and block['name'] == name]
    images = {key: _images(build_dataset(blocks[key])) for key in {*chosen_on, test}}
    if any(images[key] & images[test] for key in chosen_on) or not chosen_on:
        raise UserError(
            f"the best weights of '{folder}' were chosen on '{name}', which is not held apart from the test set"
            f" datasets.{test}; choose on images of the training set")


def measure_both(restorer: ImageRestorer, data: DataSet, title: str) -> dict[str, dict[str, Means]]:
    """For each image `{plain: {...}, GT-mean: {...}}` of the one result; PSNR and SSIM by the protocols of the table."""
    metrics = {label: options for label, options in all_protocols().items() if options['protocol'] in PROTOCOLS}
    rows = {}

    def watch(seen: Restored) -> None:
        _, result, gt = seen.images
        if gt is None:
            raise UserError(f"'{seen.file}' has no ground truth; a test set needs one")
        brighter = measure_all(match_mean(result, gt), gt, metrics, restorer.device, seen.file)
        rows['/'.join(filter(None, (seen.task, seen.name)))] = {'plain': seen.values, 'GT-mean': brighter}

    evaluate(by_restorer(restorer), data.loader(), metrics, device=restorer.device, watch=watch, title=title)
    return rows


def _images(dataset: Any) -> set[str]:
    """Resolved paths of every image of a data set."""
    if not hasattr(dataset, 'paths'):
        raise UserError(f'{type(dataset).__name__} does not say which images it has; use PairedImageDataset')
    return {str(Path(path).resolve()) for pair in dataset.paths for path in pair}

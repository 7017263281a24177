"""Measuring images that are there already: a folder, or two whose images belong together."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from basicsr.data.pairing import Pair, image_folder, own_names, pair_by_name, same_file
from basicsr.evaluation.evaluate import Batch, Images, Metrics, Results, evaluate
from basicsr.metrics import describe
from basicsr.utils.files import write_json
from basicsr.utils.img import imread, to_float
from basicsr.utils.logger import get_root_logger


def measure_folders(results: str, gt: str | None, metrics: Metrics, filename_tmpl: str = '{}',
                    device: str = 'cpu') -> Results:
    """Metrics of every image of a folder, of its partner in a second one where that is given.

    Args:
        results, gt: folders. Partners have equal names, or those of `filename_tmpl`, e.g. '{}_mine' for results.
        device: where metrics run that are networks.
    """
    if gt:
        if same_file(results, gt):
            get_root_logger().warning(f"'{results}' is measured against itself: '{gt}' is the same folder")
        pairs = pair_by_name(results, gt, filename_tmpl, option='RESULT_DIR')
    else:
        pairs = [Pair(str(path), '') for path in image_folder(results, 'RESULT_DIR')]
    names = own_names([truth or result for result, truth in pairs], gt or results)
    samples = [{'lq_path': [result], 'gt_path': [truth], 'name': [name]} for (result, truth), name in zip(pairs, names)]
    return evaluate(_read, samples, metrics, device=device)


def summary(found: Results, metrics: Metrics) -> dict[str, dict]:
    """The mean of each metric with what it means."""
    return {k: {'mean': v, 'options': metrics[k], 'protocol': describe(metrics[k])} for k, v in found.means.items()}


def write_summary(file: str, results: str, gt: str | None, found: Results, metrics: Metrics) -> None:
    content = {'results': results, 'gt': gt, 'images': len(found.rows), 'metrics': summary(found, metrics)}
    write_json(Path(file), content)


def _read(sample: Batch) -> Images:
    (file, ), (truth, ) = sample['lq_path'], sample['gt_path']
    result = _image(file)
    return Images(result, result, _image(truth) if truth else None)


def _image(path: str) -> np.ndarray:
    return to_float(imread(path))[..., ::-1]

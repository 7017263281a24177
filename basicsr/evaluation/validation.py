"""A validation or test set through a model: the images that are kept, the pictures in TensorBoard, the lines in the log."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from basicsr.evaluation.evaluate import Images, Metrics, Restored, Results, evaluate
from basicsr.evaluation.files import left_out
from basicsr.evaluation.restoring import by_model
from basicsr.metrics import describe
from basicsr.metrics.tasks import Means
from basicsr.utils.img import imwrite, to_bytes
from basicsr.utils.logger import get_root_logger
from basicsr.utils.matlab_functions import enlarged
from basicsr.utils.names import below, printable


def validate(model: Any, loader: Any, iteration: int | str, tb_logger: Any = None, save_img: bool = False) -> Results:
    """Restore and measure one data set as `val` of the model's options says.

    Args:
        model: anything with `opt`, `device`, `feed_data`, `padded_test` and `get_current_visuals`.
        iteration: of the training, or the run's name when testing.
        tb_logger: shown some of the pictures. save_img: write all results into the run's folder.
    """
    opt = model.opt
    val, name = opt['val'], loader.dataset.opt['name']
    metrics, left = val['metrics'], val['save_images_to_tb'] if tb_logger is not None else 0

    def watch(seen: Restored) -> None:
        nonlocal left
        if save_img and seen.finite:
            imwrite(to_bytes(seen.images.result, val['rgb2bgr']), image_file(opt, name, seen, iteration))
        if left > 0 and seen.finite:
            left -= 1
            label = printable('/'.join(filter(None, (name, seen.task, seen.name))))
            tb_logger.add_image(label, _sheet(seen.images), iteration, dataformats='HWC')

    found = evaluate(by_model(model), loader, metrics, device=model.device, watch=watch, title=f'validate {name}',
                     progress=val['pbar'])
    unmeasured = [label for label in metrics if label not in found.means]
    if unmeasured:
        get_root_logger().info(f"Validation {name}: no ground truth, so no {', '.join(unmeasured)}")
    for label, count in found.left_out.items():
        get_root_logger().error(f'Validation {name}: {left_out(label, count, found.images)}')
    return found


def log_results(name: str, found: Results | Mapping[str, float], metrics: Metrics, iteration: int | str,
                tb_logger: Any = None, best: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """One line for each metric with its protocol and the best so far, and for each task; the same to TensorBoard."""
    means: Means = found.means if isinstance(found, Results) else dict(found)
    tasks = found.tasks if isinstance(found, Results) else {}
    if not means:
        return
    lines = [f'Validation {name}']
    for label, value in means.items():
        protocol = describe(metrics[label]) if label in metrics else ''
        line = f'\t # {label}: {value:.4f}' + (f' ({protocol})' if protocol else '')
        if best and label in best:
            line += f'\tBest: {best[label]["val"]:.4f} @ {best[label]["iter"]} iter'
        lines += [line, *(f'\t #   {task}: {values[label]:.4f}' for task, values in tasks.items() if label in values)]
        if tb_logger is not None:
            tb_logger.add_scalar(f'metrics/{name}/{label}', value, iteration)
            for task, values in ((task, values) for task, values in tasks.items() if label in values):
                tb_logger.add_scalar(f'metrics/{name}/{task}/{label}', values[label], iteration)
    get_root_logger().info('\n'.join(lines))


def image_file(opt: Mapping[str, Any], dataset: str, seen: Restored, iteration: int | str) -> Path:
    """Where a result goes: in training a folder for each image, below those of several data sets; else one for each set."""
    folder = Path(opt['path']['visualization'])
    if opt['is_train']:
        several = sum(str(key).startswith('val') for key in opt.get('datasets', {})) > 1
        own = below(folder, dataset if several else '', seen.task, seen.name, what=dataset)
        return below(own, f'{Path(seen.name).name}_{iteration}.png', what=dataset)
    suffix = opt['val'].get('suffix') or opt['name']
    return below(folder / dataset, seen.task, f'{seen.name}_{suffix}.png', what=dataset)


def _sheet(images: Images) -> np.ndarray:
    """Input, result and ground truth side by side, (H, W, 3) in [0, 1]; the left view of dual-pixel inputs."""
    shown = [x[..., :3].clip(0, 1) for x in (enlarged(images.lq, images.result), *images[1:]) if x is not None]
    height = min(len(x) for x in shown)
    return np.concatenate([np.broadcast_to(x, (*x.shape[:2], 3))[:height] for x in shown], axis=1)

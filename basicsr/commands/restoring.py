"""Restoring the images of a data set with one network, and measuring them: what evaluating and publishing share."""
from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset
from tqdm import tqdm

from basicsr.archs import input_channels
from basicsr.commands.metric_choice import Metrics, measure_all
from basicsr.data.loader import ImageLoader, sample_name
from basicsr.inference.restorer import ImageRestorer, choose_device
from basicsr.metrics.tasks import task_of
from basicsr.utils.errors import UserError
from basicsr.weights.network import load_described


class Restored(NamedTuple):
    """One image: RGB (H, W, 3) or grey (H, W, 1) in [0, 1]. `task` is '' and `gt` None where there is none."""
    task: str
    name: str
    file: str
    lq: np.ndarray
    result: np.ndarray
    gt: np.ndarray | None


def build_restorer(weights: str | Path, opt: dict[str, Any] | None, key: str | None = None, device: str = 'auto',
                   tile: int = 0, ensemble: bool = False) -> ImageRestorer:
    """The network of a weight file as an option file says it runs, or as the weights say.

    Args:
        key: entry of the file, default what the options say.
    """
    if opt is None:
        (net, network), window = load_described(weights, key=key), 1
    else:
        net, network = load_described(weights, opt['network_g'], key or opt['path'].get('param_key_g'))
        device = 'cpu' if opt['num_gpu'] == 0 and device == 'auto' else device
        window = (opt.get('val') or {}).get('window_size') or 4
    return ImageRestorer(net, choose_device(device), tile, ensemble=ensemble, multiple=window,
                         channels=input_channels(network))


def restore_images(restorer: ImageRestorer, dataset: Dataset, block: dict[str, Any], title: str,
                   indices: Iterable[int] | None = None) -> Iterator[Restored]:
    """Every image of a data set, or those with these indices, one after the other. `title`: of the progress bar."""
    loader = ImageLoader(dataset, block, batch_size=1, sampler=indices)
    for batch in tqdm(loader, unit='image', desc=title, disable=not sys.stderr.isatty()):
        lq, gt = _array(batch['lq']), _array(batch['gt']) if 'gt' in batch else None
        result = restorer(lq, _array(batch['sem']) if 'sem' in batch else None)
        yield Restored(task_of(batch), sample_name(batch), batch['lq_path'][0], lq, result, gt)


def measure_image(file: str, result: np.ndarray, gt: np.ndarray | None, metrics: Metrics,
                  device: Any) -> dict[str, float]:
    """`measure_all`, with the file named where images do not go together."""
    try:
        return measure_all(result, gt, metrics, device)
    except ValueError as error:
        raise UserError(f"'{file}': {error}") from error


def _array(tensor) -> np.ndarray:
    return tensor[0].permute(1, 2, 0).numpy()

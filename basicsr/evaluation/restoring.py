"""What restores a sample in an evaluation: a network as people use it, or a model as it is trained."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from basicsr.archs import input_channels
from basicsr.evaluation.evaluate import Batch, Images, Restore
from basicsr.inference.restorer import ImageRestorer
from basicsr.utils.machine import choose_device
from basicsr.weights.network import load_described


def by_restorer(restorer: ImageRestorer) -> Restore:
    """As `basicsr enhance` restores: in tiles, as an ensemble, as the restorer says."""

    def restore(batch: Batch) -> Images:
        lq = array(batch['lq'])
        return Images(lq, restorer(lq, _image(batch, 'sem')), _image(batch, 'gt'))

    return restore


def by_model(model: Any) -> Restore:
    """By BasicSR's contract: what the model was fed with, and what it shows then, which it may have changed."""

    def restore(batch: Batch) -> Images:
        model.feed_data(batch)
        model.padded_test()
        visuals = model.get_current_visuals()
        return Images(*(_image(visuals, key) for key in ('lq', 'result', 'gt')))

    return restore


def _image(batch: Batch, key: str) -> Any:
    """(H, W, C), or None where there is no such image."""
    return array(batch[key]) if key in batch else None


def build_restorer(weights: str | Path, opt: dict[str, Any] | None, key: str | None = None, device: str = 'auto',
                   tile: int = 0, ensemble: bool = False) -> ImageRestorer:
    """The network of a weight file as an option file says it runs, or as the weights say.

    Args:
        key: entry of the file, default what the options say.
    """
    window = 0
    if opt is None:
        net, network = load_described(weights, key=key)
    else:
        net, network = load_described(weights, opt['network_g'], key or opt['path'].get('param_key_g'))
        device = 'cpu' if opt['num_gpu'] == 0 and device == 'auto' else device
        window = opt['val']['window_size']
    return ImageRestorer(net, choose_device(device), tile, ensemble=ensemble, multiple=window or None,
                         channels=input_channels(network))


def array(image: Tensor) -> np.ndarray:
    """(1, C, H, W) to (H, W, C) float32."""
    return image[0].permute(1, 2, 0).float().numpy()

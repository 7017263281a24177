"""What restores a sample in an evaluation: a network as people use it, or a model as it is trained."""
from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from basicsr.evaluation.evaluate import Batch, Images, Restore
from basicsr.inference.restorer import ImageRestorer


def by_restorer(restorer: ImageRestorer) -> Restore:
    """As `basicsr enhance` restores: in tiles, as an ensemble, as the restorer says; grey where the network's images are."""

    def restore(batch: Batch) -> Images:
        lq, gt = restorer.in_its_colours(array(batch['lq'])), _image(batch, 'gt')
        return Images(lq, restorer(lq, _image(batch, 'sem')), None if gt is None else restorer.in_its_colours(gt))

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


def array(image: Tensor) -> np.ndarray:
    """(1, C, H, W) to (H, W, C) float32."""
    return image[0].permute(1, 2, 0).float().numpy()

"""GT-mean: scale a result to the brightness of its ground truth before measuring. Uses the answer; always say so."""
from __future__ import annotations

import numpy as np

# the published script applies OpenCV's BGR weights to RGB data; kept, since the tables were made with it
_WEIGHTS_ON_RGB = np.array([0.114, 0.587, 0.299])


def match_mean(result: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Images (H, W, 3 or 1) in [0, 1]: `result` times the ratio of grey means, clipped to [0, 1] (Retinexformer)."""
    return np.clip(result * (_grey_mean(gt) / max(_grey_mean(result), 1e-12)), 0, 1)


def _grey_mean(img: np.ndarray) -> float:
    return float((img @ _WEIGHTS_ON_RGB if img.shape[-1] == 3 else img).mean())

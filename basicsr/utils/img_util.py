"""The module name of BasicSR for `basicsr.utils.img`, with what data sets for it cut and pad by."""
from __future__ import annotations

import numpy as np
import torch

from basicsr.data.transforms import pad_to_size
from basicsr.utils.img import imfrombytes, img2tensor, imwrite, tensor2img

__all__ = [
    'crop_border', 'imfrombytes', 'imfrombytesDP', 'img2tensor', 'imwrite', 'padding', 'padding_DP', 'tensor2img',
    'tensor2img_fast'
]


def crop_border(imgs: np.ndarray | list[np.ndarray], crop_border: int) -> np.ndarray | list[np.ndarray]:
    """Cut off `crop_border` pixels on each side of (H, W[, C]), or of each image of a list."""
    cut = slice(crop_border, -crop_border or None)
    return [img[cut, cut] for img in imgs] if isinstance(imgs, list) else imgs[cut, cut]


def tensor2img_fast(tensor: torch.Tensor, rgb2bgr: bool = True, min_max: tuple[float, float] = (0, 1)) -> np.ndarray:
    """`tensor2img` of one image (1, C, H, W)."""
    return tensor2img(tensor, rgb2bgr, np.uint8, min_max)


def imfrombytesDP(content: bytes, flag: str = 'unchanged', float32: bool = False) -> np.ndarray:
    """`imfrombytes` of one view of a dual-pixel camera, 16 bits as a rule, with all its bits."""
    return imfrombytes(content, flag, float32)


def padding(img_lq: np.ndarray, img_gt: np.ndarray, gt_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Reflect input and ground truth (H, W, C) of one size at the right and bottom up to sides of at least `gt_size`."""
    return pad_to_size(img_lq, gt_size, gt_size), pad_to_size(img_gt, gt_size, gt_size)


def padding_DP(img_lqL: np.ndarray, img_lqR: np.ndarray, img_gt: np.ndarray,
               gt_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`padding` of both views and the ground truth."""
    return pad_to_size(img_lqL, gt_size, gt_size), *padding(img_lqR, img_gt, gt_size)

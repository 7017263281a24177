"""Removal of JPEG artefacts: inputs are ground truths that were compressed."""
from __future__ import annotations

import random
from typing import Any, Literal

import cv2
import numpy as np

from basicsr.data.clean_images import DegradedImages
from basicsr.data.reading import accepts_opt
from basicsr.utils.errors import UserError
from basicsr.utils.registry import DATASET_REGISTRY
from basicsr.utils.values import Count, Quality, Slice


@DATASET_REGISTRY.register()
@accepts_opt
class JPEGArtifactDataset(DegradedImages):
    """Compresses clean images by OpenCV's JPEG encoder; colour images with chroma of half the resolution.

    The blocks lie as in the compressed whole image, so that patches begin anywhere in them.

    Args:
        dataroot_gt: folder of clean images, database whose name ends in '.lmdb', or a list of them.
        quality: 1 to 100; in training also [low, high], of which each sample draws a whole number uniformly.
        in_ch: 1 for grey (OpenCV's weights .299, .587, .114), converted before the compression; 3 for RGB.
        gt_size: side of the square training patch; None trains on whole images.
        use_hflip, use_rot, geometric_augs, io_backend, phase, pair_range: as in `PairedImageDataset`.
        scale: 1; inputs have the size of their ground truth.

    Items: `lq`, `gt` float32 (in_ch, H, W) in [0, 1]; `lq_path`, `gt_path` (the clean file); `name` where there are
    several roots. The inputs of 16-bit files have 8 bits.
    """

    def __init__(self, dataroot_gt: str | list[str], quality: Quality | list[Quality] = 40, in_ch: Literal[1, 3] = 1,
                 gt_size: Count | None = None, use_hflip: bool = False, use_rot: bool = False,
                 geometric_augs: bool = False, io_backend: dict[str, Any] | None = None, scale: Count = 1,
                 phase: str = 'train', pair_range: Slice | None = None):
        super().__init__(dataroot_gt, in_ch, gt_size, use_hflip, use_rot, geometric_augs, io_backend, phase, pair_range)
        qualities = list(quality) if isinstance(quality, (list, tuple)) else [quality, quality]
        if len(qualities) != 2 or not 1 <= qualities[0] <= qualities[-1] <= 100:
            raise UserError(f'quality: {quality} must be a number from 1 to 100, or [low, high] of such')
        if phase != 'train' and qualities[0] != qualities[1]:
            raise UserError(f'quality: {quality} is a range, for training; give one number here')
        if scale != 1:
            raise UserError(f'inputs have the size of their ground truth; scale is {scale}')
        self.qualities = qualities
        # colour: squares of 16 pixels share chroma, which is interpolated across their borders
        self.block, self.margin = (8, 0) if in_ch == 1 else (16, 2)

    def degrade(self, img: np.ndarray) -> np.ndarray:
        quality = random.randint(*self.qualities) if self.qualities[0] < self.qualities[1] else self.qualities[0]
        eight = np.rint(img / 257).astype(np.uint8) if img.dtype == np.uint16 else img
        _, data = cv2.imencode('.jpg', np.ascontiguousarray(eight), [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded: Any = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if self.in_ch == 1 else cv2.IMREAD_COLOR)
        return decoded.reshape(eight.shape)

"""Super-resolution from ground truths alone: inputs by MATLAB's bicubic `imresize`."""
from __future__ import annotations

from typing import Any, Literal

import numpy as np

from basicsr.data.clean_images import DegradedImages
from basicsr.data.reading import accepts_opt
from basicsr.utils.matlab_functions import imresize
from basicsr.utils.registry import DATASET_REGISTRY
from basicsr.utils.values import Count, Slice


@DATASET_REGISTRY.register()
@accepts_opt
class BicubicSRDataset(DegradedImages):
    """Makes inputs `1 / scale` times as large, with antialiasing, rounded to the depth of the file.

    These are the files that `imresize(im2double(modcrop(image, scale)), 1 / scale, 'bicubic')` and `imwrite` of MATLAB make.

    Args:
        dataroot_gt: folder of ground truths, database whose name ends in '.lmdb', or a list of them.
        scale: ground truth size divided by input size. Ground truths are cropped to multiples at the bottom and right.
        in_ch: 3 for RGB, 1 for grey (OpenCV's weights .299, .587, .114).
        gt_size: side of the square training patch of the ground truth; None trains on whole images.
        use_hflip, use_rot, geometric_augs, io_backend, phase, pair_range: as in `PairedImageDataset`.

    Items: `lq`, `gt` float32 (in_ch, H, W) in [0, 1]; `lq_path`, `gt_path` (the ground truth's file); `name` where there
    are several roots.
    """
    margin = 2  # the kernel reaches two pixels of the input to each side

    def __init__(self, dataroot_gt: str | list[str], scale: Count = 1, in_ch: Literal[1, 3] = 3,
                 gt_size: Count | None = None, use_hflip: bool = False, use_rot: bool = False,
                 geometric_augs: bool = False, io_backend: dict[str, Any] | None = None, phase: str = 'train',
                 pair_range: Slice | None = None):
        super().__init__(dataroot_gt, in_ch, gt_size, use_hflip, use_rot, geometric_augs, io_backend, phase, pair_range)
        self.scale = scale

    def degrade(self, img: np.ndarray) -> np.ndarray:
        small = imresize(img.astype(np.float64), 1 / self.scale)
        return np.rint(small).clip(0, np.iinfo(img.dtype).max).astype(img.dtype)

"""Left and right views of a dual-pixel sensor and the sharp image (defocus deblurring)."""
from __future__ import annotations

from collections import namedtuple
from functools import partial
from typing import Any

import torch
from torch.utils.data import Dataset

from basicsr.data.pairing import Keyed, pair_by_name
from basicsr.data.reading import ImageReader, ToTensor, accepts_opt, read_all
from basicsr.data.transforms import check_shapes, check_sizes, paired_random_crop, random_augmentation
from basicsr.utils.errors import UserError
from basicsr.utils.registry import DATASET_REGISTRY
from basicsr.utils.values import Count


class Views(Keyed, namedtuple('Views', ('lqL_path', 'lqR_path', 'gt_path'))):
    """Left view, right view and sharp image."""
    __slots__ = ()


@DATASET_REGISTRY.register()
@DATASET_REGISTRY.register(name='Dataset_DefocusDeblur_DualPixel_16bit')
@accepts_opt
class DualPixelDefocusDataset(Dataset):
    """Three folders with the same names, e.g. DPDD (Abuolaim and Brown 2020): 16-bit PNG, 8-bit files work as well.

    Args:
        dataroot_gt: sharp images. dataroot_lqL, dataroot_lqR: left and right views.
        filename_tmpl: the views' name from the ground truth's.
        gt_size: side of the square training patch; None trains on whole images.
        geometric_augs: one of eight dihedral modes.
        io_backend: `{type: disk}`.
        phase: 'train' crops and augments; others give whole images.

    Items: `lq` float32 (6, H, W) in [0, 1], left RGB then right RGB; `gt` (3, H, W); `lq_path` (the left view), `gt_path`.
    """

    def __init__(self, dataroot_gt: str, dataroot_lqL: str, dataroot_lqR: str, filename_tmpl: str = '{}',
                 gt_size: Count | None = None, geometric_augs: bool = False, io_backend: dict[str, Any] | None = None,
                 phase: str = 'train'):
        views = {'dataroot_lqL': dataroot_lqL, 'dataroot_lqR': dataroot_lqR}
        self.reader = ImageReader(io_backend, views | {'dataroot_gt': dataroot_gt})
        found, mistakes = [], []
        for option, root in views.items():
            try:
                found.append(pair_by_name(root, dataroot_gt, filename_tmpl, option=option))
            except UserError as error:
                mistakes.append(str(error))
        if mistakes:
            raise UserError('. '.join(dict.fromkeys(mistakes)))
        self.paths = [Views(left, right, gt) for (left, gt), (right, _) in zip(*found)]
        self.reader.remark([p for paths in self.paths for p in paths], f"'{dataroot_gt}' and its two views")
        self.training, self.gt_size, self.geometric_augs = phase == 'train', gt_size, geometric_augs
        self.to_tensor = ToTensor()

    def __len__(self) -> int:
        return len(self.paths)

    def input_size(self, index: int) -> tuple[int, int]:
        left, right, gt = (self.reader.size(path, root) for root, path in self._files(index).items())
        for view in (left, right):
            check_shapes(gt, view, 1, self.paths[index]['gt_path'])
        return left

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        paths = self._files(index)
        left, right, gt = read_all(*(partial(self.reader.read, path, root) for root, path in paths.items()))
        gt_path = paths['dataroot_gt']
        for view in (left, right):
            check_sizes(gt, view, 1, gt_path)
        if self.training and self.gt_size:
            gt, (left, right) = paired_random_crop(gt, [left, right], self.gt_size)
        if self.training and self.geometric_augs:
            gt, left, right = random_augmentation(gt, left, right)
        lq = torch.cat([self.to_tensor(left), self.to_tensor(right)])
        return {'lq': lq, 'gt': self.to_tensor(gt), 'lq_path': paths['dataroot_lqL'], 'gt_path': gt_path}

    def _files(self, index: int) -> dict[str, str]:
        """Path by root."""
        views = self.paths[index]
        return {f'dataroot_{name}': views[f'{name}_path'] for name in ('lqL', 'lqR', 'gt')}

"""Pairs of degraded input and ground truth, for any restoration task."""
from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset

from basicsr.data.pairing import pair_by_name, pair_lmdb, stem_below
from basicsr.data.reading import ImageReader, ToTensor, accepts_opt
from basicsr.data.transforms import augment, check_sizes, paired_random_crop, random_augmentation
from basicsr.utils.errors import UserError
from basicsr.utils.registry import DATASET_REGISTRY


@DATASET_REGISTRY.register()
@DATASET_REGISTRY.register(name='Dataset_PairedImage')
@accepts_opt
class PairedImageDataset(Dataset):
    """Reads pairs from two folders (paired by name) or two LMDB databases (same keys).

    Args:
        dataroot_gt, dataroot_lq: folders, or databases whose name ends in '.lmdb'.
        io_backend: `{type: disk}` or `{type: lmdb}`; default by the roots' names.
        meta_info_file: text file with the ground truths to use, one per line.
        filename_tmpl: the input's name from the ground truth's, e.g. '{}_low'.
        gt_size: side of the square training patch of the ground truth; None trains on whole images.
        use_hflip, use_rot: BasicSR's flips and transpose. geometric_augs: one of eight dihedral modes instead.
        mean, std: normalisation of both images after conversion.
        color: 'y' for luma only.
        scale: ground truth size divided by input size.
        recursive: take the images of all subfolders, paired by their names within the roots, which items then have as
            `name`, e.g. 'night/7'.
        phase: 'train' crops and augments; others give whole images.

    Items: `lq`, `gt` float32 (C, H, W) RGB in [0, 1]; `lq_path`, `gt_path`.
    """

    def __init__(self, dataroot_gt: str, dataroot_lq: str, io_backend: dict[str, Any] | None = None,
                 meta_info_file: str | None = None, filename_tmpl: str = '{}', gt_size: int | None = None,
                 use_hflip: bool = False, use_rot: bool = False, geometric_augs: bool = False,
                 mean: list[float] | None = None, std: list[float] | None = None, color: str | None = None,
                 scale: int = 1, recursive: bool = False, phase: str = 'train'):  # yapf: disable
        self.reader = ImageReader(io_backend, {'lq': dataroot_lq, 'gt': dataroot_gt})
        if self.reader.is_lmdb:
            self.paths = pair_lmdb(dataroot_lq, dataroot_gt)
        else:
            self.paths = pair_by_name(dataroot_lq, dataroot_gt, filename_tmpl, meta_info_file, recursive=recursive)
        self.reader.remark([p for pair in self.paths for p in pair], f"'{dataroot_lq}' and its ground truth")
        self.names = [stem_below(gt, dataroot_gt) for _, gt in self.paths] if recursive else None
        self.to_tensor = ToTensor(color, mean, std)
        self.training, self.gt_size, self.scale = phase == 'train', gt_size, scale
        self.use_hflip, self.use_rot, self.geometric_augs = use_hflip, use_rot, geometric_augs

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        lq_path, gt_path = self.paths[index]
        lq, gt = self.reader.read(lq_path, 'lq'), self.reader.read(gt_path, 'gt')
        if self.training:
            # on the file's own integers: a crop and a flip are then views, and only the patch becomes float
            if self.gt_size:
                gt, lq = paired_random_crop(gt, lq, self.gt_size, self.scale, gt_path)
            else:
                check_sizes(gt, lq, self.scale, gt_path)
            if self.geometric_augs:
                gt, lq = random_augmentation(gt, lq)
            elif self.use_hflip or self.use_rot:
                gt, lq = augment([gt, lq], self.use_hflip, self.use_rot)
        else:
            h, w = lq.shape[0] * self.scale, lq.shape[1] * self.scale
            if gt.shape[0] < h or gt.shape[1] < w:
                raise UserError(
                    f"'{gt_path}' ({gt.shape[1]}x{gt.shape[0]}) is smaller than its input '{lq_path}' asks for at scale"
                    f' {self.scale} ({w}x{h})')
            gt = gt[:h, :w]
        item = {'lq': self.to_tensor(lq), 'gt': self.to_tensor(gt), 'lq_path': lq_path, 'gt_path': gt_path}
        return item | {'name': self.names[index]} if self.names else item

"""Pairs of degraded input and ground truth, for any restoration task."""
from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Len
from torch.utils.data import Dataset

from basicsr.data.exposure import Exposure, draw_exposure, exposed
from basicsr.data.gamma import draw_gamma, raise_
from basicsr.data.pairing import pair_by_name, pair_lmdb, stem_below, take_range
from basicsr.data.pairing_schemes import pair_by_folder, pair_by_number
from basicsr.data.reading import ImageReader, ToTensor, accepts_opt, read_all
from basicsr.data.semantic_maps import SemanticMaps, to_tensor
from basicsr.data.transforms import (
    Turn,
    check_shapes,
    paired_random_crop,
    random_flips,
    random_turn,
    resize_bilinear,
)
from basicsr.utils.errors import UserError
from basicsr.utils.registry import DATASET_REGISTRY
from basicsr.utils.values import Count, ExposureAugs, Finite, GammaAugs, Positive, Size, Slice


@DATASET_REGISTRY.register()
@DATASET_REGISTRY.register(name='Dataset_PairedImage')
@accepts_opt
class PairedImageDataset(Dataset):
    """Reads pairs from two folders (paired by name) or two LMDB databases (same keys).

    Args:
        dataroot_gt, dataroot_lq: folders, or databases whose name ends in '.lmdb'.
        io_backend: `{type: disk}` or `{type: lmdb}`; default by the roots' names.
        meta_info_file: text file with the ground truths to use, one per line.
        pair_range: the ground truths to use, a slice of their natural order: ':460' the first 460, '460:' the others.
        filename_tmpl: the input's name from the ground truth's, e.g. '{}_low'.
        pair_by: 'name'; 'number' for names that differ around their number, 'low7' and 'normal7'; 'folder' for all inputs
            of a folder with one ground truth, which items have as `name`, e.g. 'scene/7'.
        resize: [height, width] that ground truths are resized to first, whatever their shape, and inputs in proportion
            to `scale`; bilinear with antialiasing, also in validation.
        gt_size: side of the square training patch of the ground truth; None trains on whole images.
        use_hflip, use_rot: BasicSR's flips and transpose. use_vflip: the vertical flip without the transpose.
        geometric_augs: one of eight dihedral modes instead.
        exposure_augs: some inputs are made from their ground truth instead, at another exposure; see `data/exposure.py`.
        gamma_augs: inputs are raised to a random power, one for each batch or sample; see `GammaAugs`.
        mean, std: normalisation of both images after conversion.
        color: 'y' for luma (BT.601 of video, 16 to 235), 'gray' for grey images (OpenCV's weights, 0 to 255), both of
            one channel.
        scale: ground truth size divided by input size. Ground truths may have the rows and columns more, at the bottom
            and right, that the division leaves over.
        recursive: take the images of all subfolders, paired by their names within the roots, which items then have as
            `name`, e.g. 'night/7'.
        dataroot_sem: folder of pre-computed semantic maps, found by the input's name; cropped and turned with the images.
        sem_classes: channels of the maps.
        phase: 'train' crops and augments; others give whole images.

    Items: `lq`, `gt` float32 (C, H, W) RGB in [0, 1]; `lq_path`, `gt_path`; with `dataroot_sem` also `sem`, class
    probabilities (sem_classes, H, W).
    """

    def __init__(self, dataroot_gt: str, dataroot_lq: str, io_backend: dict[str, Any] | None = None,
                 meta_info_file: str | None = None, pair_range: Slice | None = None, filename_tmpl: str = '{}',
                 pair_by: Literal['name', 'number', 'folder'] = 'name', resize: Size | None = None,
                 gt_size: Count | None = None, use_hflip: bool = False, use_rot: bool = False, use_vflip: bool = False,
                 geometric_augs: bool = False, exposure_augs: ExposureAugs | None = None,
                 gamma_augs: GammaAugs | None = None, mean: Annotated[list[Finite], Len(1, 3)] | None = None,
                 std: Annotated[list[Positive], Len(1, 3)] | None = None,
                 color: Literal['rgb', 'y', 'gray'] | None = None, scale: Count = 1, recursive: bool = False,
                 dataroot_sem: str | None = None, sem_classes: Count = 21, phase: str = 'train'):
        if exposure_augs is not None and scale != 1:
            raise UserError(f'exposure_augs makes inputs of the size of their ground truth; scale is {scale}')
        self.exposure_augs = None if exposure_augs is None else ExposureAugs.model_validate(exposure_augs)
        self.gamma_augs = None if gamma_augs is None else GammaAugs.model_validate(gamma_augs)
        self.reader = ImageReader(io_backend, {'lq': dataroot_lq, 'gt': dataroot_gt})
        if pair_by != 'name' and (self.reader.is_lmdb or filename_tmpl != '{}' or recursive):
            raise UserError(f'pair_by: {pair_by} is for folders, without filename_tmpl and recursive')
        if resize and (len(resize) != 2 or any(side < 1 or side % scale for side in resize)):
            raise UserError(f'resize must be [height, width], multiples of scale {scale}, not {list(resize)}')
        if resize and dataroot_sem:
            raise UserError('dataroot_sem holds maps of the images as they are; it does not go with resize')
        if self.reader.is_lmdb:
            self.paths = pair_lmdb(dataroot_lq, dataroot_gt, filename_tmpl)
        elif pair_by == 'name':
            self.paths = pair_by_name(dataroot_lq, dataroot_gt, filename_tmpl, meta_info_file, recursive=recursive)
        else:
            by = {'number': pair_by_number, 'folder': pair_by_folder}
            self.paths = by[pair_by](dataroot_lq, dataroot_gt, meta_info_file)
        if pair_range is not None:  # of ground truths: no scene is on both sides of a cut
            wanted = set(take_range(list(dict.fromkeys(gt for _, gt in self.paths)), pair_range))
            self.paths = [pair for pair in self.paths if pair.gt_path in wanted]
        self.reader.remark([p for pair in self.paths for p in pair], f"'{dataroot_lq}' and its ground truth")
        self.names = [stem_below(gt, dataroot_gt) for _, gt in self.paths] if recursive else None
        if pair_by == 'folder':
            self.names = [stem_below(lq, dataroot_lq) for lq, _ in self.paths]
        inputs = [Path(lq).stem for lq, _ in self.paths]
        self.maps = SemanticMaps(dataroot_sem, inputs, sem_classes) if dataroot_sem else None
        self.to_tensor = ToTensor(color, mean, std)
        if self.gamma_augs and not self.to_tensor.is_plain:
            raise UserError('gamma_augs raises values of [0, 1] to a power; it does not go with color: y, mean and std')
        self.training, self.resize, self.gt_size, self.scale = phase == 'train', resize, gt_size, scale
        self.use_hflip, self.use_rot, self.use_vflip, self.geometric_augs = use_hflip, use_rot, use_vflip, geometric_augs

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        lq_path, gt_path = self.paths[index]['lq_path'], self.paths[index]['gt_path']
        lq, gt = self.trimmed_pair(index)
        # what has the size of the input goes through the same crop and turn
        lqs = [lq] if self.maps is None else [lq, self.maps.read(Path(lq_path).stem, *lq.shape[:2])]
        if self.training:
            # on the file's own integers: a crop and a flip are then views, and only the patch becomes float
            if self.gt_size:
                gt, lqs = paired_random_crop(gt, lqs, self.gt_size, self.scale, self.reader.full_name(gt_path, 'gt'))
            turn = self.random_turn()
            gt, *lqs = (turn(img) for img in (gt, *lqs))
            exposure = self.random_exposure(*gt.shape[:2])
            if exposure is not None:
                lqs[0] = exposed(gt, exposure)
        item: dict[str, Any] = {
            'lq': self.to_tensor(lqs[0]), 'gt': self.to_tensor(gt), 'lq_path': lq_path, 'gt_path': gt_path
        }
        if self.training:
            raise_([item['lq']], [self.random_gamma()])
        if self.names:
            item['name'] = self.names[index]
        return item if self.maps is None else item | {'sem': to_tensor(lqs[1])}

    def input_size(self, index: int) -> tuple[int, int]:
        lq_path, gt_path = self.paths[index]['lq_path'], self.paths[index]['gt_path']
        lq, gt = self.reader.size(lq_path, 'lq'), self.reader.size(gt_path, 'gt')
        if self.resize:
            height, width = self.resize
            return height // self.scale, width // self.scale
        check_shapes(gt, lq, self.scale, self.reader.full_name(gt_path, 'gt'), spare=self.scale - 1)
        if self.maps:
            self.maps.check(Path(lq_path).stem, *lq)
        return lq

    def read_pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Input and ground truth as read and resized, (H, W, 3) BGR in the files' own depth."""
        lq_path, gt_path = self.paths[index]['lq_path'], self.paths[index]['gt_path']
        lq, gt = read_all(partial(self.reader.read, lq_path, 'lq'), partial(self.reader.read, gt_path, 'gt'))
        if self.resize:
            height, width = self.resize
            gt, lq = resize_bilinear(gt, height, width), resize_bilinear(lq, height // self.scale, width // self.scale)
        return lq, gt

    def trimmed_pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """`read_pair`, without what the division by `scale` leaves over of the ground truth.

        Raises `UserError` for sizes that do not go together.
        """
        lq, gt = self.read_pair(index)
        name = self.reader.full_name(self.paths[index]['gt_path'], 'gt')
        check_shapes(gt.shape[:2], lq.shape[:2], self.scale, name, spare=self.scale - 1)
        return lq, gt[:lq.shape[0] * self.scale, :lq.shape[1] * self.scale]

    def random_turn(self) -> Turn:
        """How the next training sample is turned, drawn as the options say."""
        return random_turn() if self.geometric_augs else random_flips(self.use_hflip, self.use_rot, self.use_vflip)

    def random_exposure(self, height: int, width: int) -> Exposure | None:
        """How the next training input is made from a ground truth of this size; None for the input of the file."""
        return None if self.exposure_augs is None else draw_exposure(self.exposure_augs, height, width)

    def random_gamma(self) -> float:
        """The power to which the next training input is raised."""
        return 1. if self.gamma_augs is None else draw_gamma(self.gamma_augs)


Dataset_PairedImage = PairedImageDataset  # its name in the Restormer family

"""Clean images: what data sets share that make their inputs from the ground truth."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from basicsr.data.pairing import Keyed, image_folder, own_names, take_range
from basicsr.data.reading import ImageReader, ToTensor
from basicsr.data.transforms import Turn, mod_crop, pad_to_size, random_flips, random_turn, random_window, say_padded
from basicsr.utils.color import bgr2gray
from basicsr.utils.errors import UserError
from basicsr.utils.names import distinct
from basicsr.utils.storage import read_lmdb_keys


class Clean(Keyed, namedtuple('Clean', ('gt_path', 'root'))):
    """A clean image and the root that it lies in."""
    __slots__ = ()


class CleanImages(Dataset, ABC):
    """The images of some folders or databases; a subclass makes samples of them.

    Args:
        dataroot_gt: folder of clean images, database whose name ends in '.lmdb', or a list of them.
        in_ch: 3 for colour, 1 for grey (OpenCV's weights .299, .587, .114).
        gt_size: side of the square training patch; None trains on whole images.
        use_hflip, use_rot, geometric_augs, io_backend, phase: as in `PairedImageDataset`.
        pair_range: the images to use, as there: of all folders, one after the other.
    """

    def __init__(self, dataroot_gt: str | list[str], in_ch: int, gt_size: int | None, use_hflip: bool, use_rot: bool,
                 geometric_augs: bool, io_backend: dict[str, Any] | None, phase: str, pair_range: str | None):
        roots = [dataroot_gt] if isinstance(dataroot_gt, str) else list(dataroot_gt)
        if not roots:
            raise UserError('dataroot_gt: give at least one folder')
        self.reader = ImageReader(io_backend, {root: root for root in roots})
        self.paths = [Clean(path, root) for root in roots for path in self._images(root)]
        if pair_range is not None:
            self.paths = take_range(self.paths, pair_range)
        for root in roots:
            self.reader.remark([p for p, r in self.paths if r == root], f"'{root}'")
        self.names = [name for root in roots for name in self._names(root)]
        self.root_names = dict(zip(roots, distinct([Path(root) for root in roots], [''] * len(roots))))
        self.several, self.in_ch, self.gt_size = len(roots) > 1, in_ch, gt_size
        self.use_hflip, self.use_rot, self.geometric_augs = use_hflip, use_rot, geometric_augs
        self.training, self.to_tensor = phase == 'train', ToTensor()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        return self.sample(index, self.reader.read(*self.paths[index]))

    @abstractmethod
    def sample(self, index: int, img: np.ndarray) -> dict[str, torch.Tensor | str]:
        """The sample of an image (H, W, 3), BGR, uint8 or uint16."""

    def input_size(self, index: int) -> tuple[int, int]:
        return self.reader.size(*self.paths[index])

    def file_name(self, index: int) -> str:
        """The image's name without suffix."""
        path = self.paths[index].gt_path
        return path if self.reader.is_lmdb else Path(path).stem

    def random_turn(self) -> Turn:
        """How the next training sample is turned, drawn as the options say."""
        return random_turn() if self.geometric_augs else random_flips(self.use_hflip, self.use_rot)

    def item(self, index: int, lq: torch.Tensor, gt: torch.Tensor) -> dict[str, torch.Tensor | str]:
        """A sample; with several roots its `name` says from which it is, and with equal names which of them."""
        path, root = self.paths[index]
        item: dict[str, Any] = {'lq': lq, 'gt': gt, 'lq_path': path, 'gt_path': path}
        name = self.names[index]
        if self.several:
            return item | {'name': f'{self.root_names[root]}/{name}'}
        return item if name == self.file_name(index) else item | {'name': name}

    def _names(self, root: str) -> list[str]:
        paths = [path for path, home in self.paths if home == root]
        return paths if self.reader.is_lmdb else own_names(paths, root)

    def _images(self, root: str) -> list[str]:
        return read_lmdb_keys(root) if self.reader.is_lmdb else [str(p) for p in image_folder(root, 'dataroot_gt')]


class DegradedImages(CleanImages):
    """Inputs by a degradation that looks at a neighbourhood: of a patch, no more is made than it needs.

    A patch is, bit for bit, the part of the whole degraded image that it shows.

    Attributes of a subclass:
        scale: ground truth size divided by input size; what the division leaves over is cut off at the bottom and right.
        margin: pixels of the input around a patch on which it depends.
        block: the degradation works in squares of so many pixels of the input, 1 for none.
    """
    scale = 1
    margin = 0
    block = 1

    @abstractmethod
    def degrade(self, img: np.ndarray) -> np.ndarray:
        """The input of a ground truth (H, W, in_ch), BGR, uint8 or uint16, with sides that are multiples of `scale`."""

    def sample(self, index: int, img: np.ndarray) -> dict[str, torch.Tensor | str]:
        self._small_size(index, *img.shape[:2])
        gt = mod_crop(img, self.scale)
        gt = bgr2gray(gt) if self.in_ch == 1 else gt
        if not self.training:
            return self.item(index, self.to_tensor(self.degrade(gt)), self.to_tensor(gt))
        lq, gt = self._random_patch(gt, self.gt_size) if self.gt_size else (self.degrade(gt), gt)
        turn = self.random_turn()
        return self.item(index, self.to_tensor(turn(lq)), self.to_tensor(turn(gt)))

    def input_size(self, index: int) -> tuple[int, int]:
        return self._small_size(index, *super().input_size(index))

    def _small_size(self, index: int, height: int, width: int) -> tuple[int, int]:
        if min(height, width) < self.scale:
            path = self.paths[index].gt_path
            raise UserError(f"'{path}' is {width}x{height} pixels; at scale {self.scale} nothing is left of its input")
        return height // self.scale, width // self.scale

    def _random_patch(self, gt: np.ndarray, gt_size: int) -> tuple[np.ndarray, np.ndarray]:
        if min(gt.shape[:2]) < gt_size:
            say_padded(gt_size)
        gt, scale = pad_to_size(gt, gt_size, gt_size), self.scale
        size, sides = gt_size // scale, (gt.shape[0] // scale, gt.shape[1] // scale)
        corner = random_window(sides[0], sides[1], size)
        around = [self._around(start, size, side) for start, side in zip(corner, sides)]
        rows, columns = (slice(first * scale, end * scale) for first, end in around)
        top, left = (start - first for start, (first, _) in zip(corner, around))
        lq = self.degrade(gt[rows, columns])[top:top + size, left:left + size]
        top, left = (start * scale for start in corner)
        return lq, gt[top:top + gt_size, left:left + gt_size]

    def _around(self, start: int, size: int, side: int) -> tuple[int, int]:
        """First and end of what the pixels from `start` on depend on, in whole blocks, within the image."""
        first = max(start - self.margin, 0) // self.block * self.block
        end = -(-(start + size + self.margin) // self.block) * self.block
        return first, min(end, side)

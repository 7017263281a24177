"""Clean images with synthetic Gaussian noise (Restormer's denoising sets)."""
from __future__ import annotations

import random
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from basicsr.data.pairing import Keyed, image_folder
from basicsr.data.reading import ImageReader, ToTensor, accepts_opt
from basicsr.data.synthetic import noise_generator
from basicsr.data.transforms import paired_random_crop, random_augmentation
from basicsr.utils.errors import UserError
from basicsr.utils.registry import DATASET_REGISTRY
from basicsr.utils.storage import read_lmdb_keys
from basicsr.utils.values import Count, Natural, NonNegative


class Clean(Keyed, namedtuple('Clean', ('gt_path', 'root'))):
    """A clean image and the root that it lies in."""
    __slots__ = ()


@DATASET_REGISTRY.register()
@DATASET_REGISTRY.register(name='Dataset_GaussianDenoising')
@accepts_opt
class GaussianDenoisingDataset(Dataset):
    """Adds white Gaussian noise to clean images; on [0, 1], after the crop, neither clipped nor rounded.

    Args:
        dataroot_gt: folder of clean images, database whose name ends in '.lmdb', or a list of them.
        sigma_type: 'constant', 'random' (uniform) or 'choice' of the standard deviation in training.
        sigma_range: its value, [low, high], or the values to choose from, in 8-bit levels (of 255).
        sigma_test: standard deviation in validation and test, in 8-bit levels.
        in_ch: 3 for RGB, 1 for grey (OpenCV's weights .299, .587, .114).
        gt_size: side of the square training patch; None trains on whole images.
        geometric_augs: one of eight dihedral modes.
        io_backend: as in `PairedImageDataset`.
        seed: of the test noise, which depends on it and the file's name without suffix only: not on order or workers.
        test_noise: 'mambair' draws as its published test does, from NumPy's generator with `seed` anew for every image,
            by rows, columns and channels in the order of BGR; 'name' as `seed` says.
        phase: 'train' crops, augments and draws the noise anew; others give whole images.

    Items: `lq`, `gt` float32 (in_ch, H, W), gt in [0, 1]; `lq_path`, `gt_path` (the clean file); `name` where there are
    several roots.
    """

    def __init__(self, dataroot_gt: str | list[str], sigma_type: Literal['constant', 'random', 'choice'] = 'constant',
                 sigma_range: NonNegative | list[NonNegative] = 25., sigma_test: NonNegative = 25.,
                 in_ch: Literal[1, 3] = 3, gt_size: Count | None = None, geometric_augs: bool = False,
                 io_backend: dict[str, Any] | None = None, seed: Natural = 0,
                 test_noise: Literal['name', 'mambair'] = 'name', phase: str = 'train'):
        if test_noise not in ('name', 'mambair'):
            raise UserError(f"test_noise '{test_noise}' is not supported; one of: name, mambair")
        if sigma_test < 0:
            raise UserError(f'sigma_test: {sigma_test} must not be negative')
        roots = [dataroot_gt] if isinstance(dataroot_gt, str) else list(dataroot_gt)
        if not roots:
            raise UserError('dataroot_gt: give at least one folder')
        self.reader = ImageReader(io_backend, {root: root for root in roots})
        self.paths = [Clean(path, root) for root in roots for path in self._images(root)]
        for root in roots:
            self.reader.remark([p for p, r in self.paths if r == root], f"'{root}'")
        self.several = len(roots) > 1
        self.sigma_type, self.sigmas = sigma_type, _sigmas(sigma_type, sigma_range)
        self.sigma_test, self.in_ch, self.seed, self.test_noise = sigma_test, in_ch, seed, test_noise
        self.training, self.gt_size, self.geometric_augs = phase == 'train', gt_size, geometric_augs
        self.to_tensor = ToTensor()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        path, root = self.paths[index]
        name = path if self.reader.is_lmdb else Path(path).stem
        img = self.reader.read(path, root)
        rng: Any = np.random
        if self.training:
            if self.gt_size:
                img = paired_random_crop(img, img, self.gt_size)[0]
            if self.geometric_augs:
                img, = random_augmentation(img)
            sigma = self._draw_sigma()
        elif self.test_noise == 'mambair':
            sigma, rng = self.sigma_test, np.random.RandomState(self.seed)
        else:
            sigma, rng = self.sigma_test, noise_generator(name, self.seed)
        if self.in_ch == 1:
            img = cv2.cvtColor(np.ascontiguousarray(img), cv2.COLOR_BGR2GRAY)[..., None]
        gt = self.to_tensor(img)
        noise = self._noise(rng, gt.shape) * (sigma / 255)
        item: dict[str, Any] = {'lq': gt + torch.from_numpy(noise).float(), 'gt': gt, 'lq_path': path, 'gt_path': path}
        return item | ({'name': f'{Path(root).stem}/{name}'} if self.several else {})

    def input_size(self, index: int) -> tuple[int, int]:
        return self.reader.size(*self.paths[index])

    def _images(self, root: str) -> list[str]:
        return read_lmdb_keys(root) if self.reader.is_lmdb else [str(p) for p in image_folder(root, 'dataroot_gt')]

    def _noise(self, rng: Any, shape: Sequence[int]) -> np.ndarray:
        """(C, H, W), RGB."""
        if self.training or self.test_noise == 'name':
            return rng.standard_normal(shape)
        channels, height, width = shape
        return rng.standard_normal((height, width, channels))[..., ::-1].transpose(2, 0, 1).copy()

    def _draw_sigma(self) -> float:
        if self.sigma_type == 'random':
            return random.uniform(*self.sigmas)
        return random.choice(self.sigmas)


def _sigmas(kind: str, given: float | list[float]) -> list[float]:
    values = list(given) if isinstance(given, (list, tuple)) else [given]
    wanted = {'constant': 'one number', 'random': '[low, high]', 'choice': 'a list of numbers'}
    if kind not in wanted:
        raise UserError(f"sigma_type '{kind}' is not supported; one of: {', '.join(wanted)}")
    good = {
        'constant': len(values) == 1, 'random': len(values) == 2 and values[0] <= values[-1], 'choice': bool(values)
    }
    if not good[kind] or min(values) < 0:
        raise UserError(
            f"sigma_range: {given} does not fit sigma_type '{kind}', which takes {wanted[kind]}, not negative")
    return values

"""Clean images with synthetic Gaussian noise (Restormer's denoising sets)."""
from __future__ import annotations

import random
from typing import Any, Literal

import numpy as np
import torch

from basicsr.data.clean_images import CleanImages
from basicsr.data.reading import accepts_opt
from basicsr.data.synthetic import noise_generator
from basicsr.data.transforms import paired_random_crop
from basicsr.utils.color import bgr2gray
from basicsr.utils.errors import UserError
from basicsr.utils.registry import DATASET_REGISTRY
from basicsr.utils.values import Count, Natural, NonNegative, Slice


@DATASET_REGISTRY.register()
@DATASET_REGISTRY.register(name='Dataset_GaussianDenoising')
@accepts_opt
class GaussianDenoisingDataset(CleanImages):
    """Adds white Gaussian noise to clean images; on [0, 1], after the crop, neither clipped nor rounded.

    Args:
        dataroot_gt: folder of clean images, database whose name ends in '.lmdb', or a list of them.
        sigma_type: 'constant', 'random' (uniform) or 'choice' of the standard deviation in training.
        sigma_range: its value, [low, high], or the values to choose from, in 8-bit levels (of 255).
        sigma_test: standard deviation in validation and test, in 8-bit levels.
        in_ch: 3 for RGB, 1 for grey (OpenCV's weights .299, .587, .114).
        gt_size: side of the square training patch; None trains on whole images.
        use_hflip, use_rot, geometric_augs, io_backend, pair_range: as in `PairedImageDataset`.
        seed: of the test noise.
        test_noise: 'by_name', a function of `seed` and the file's name without suffix, not of order or workers; or
            'repeated', of `seed` alone: drawn anew for each image, row by row in BGR (MambaIR).
        phase: 'train' crops, augments and draws the noise anew; others give whole images.

    Items: `lq`, `gt` float32 (in_ch, H, W), gt in [0, 1]; `lq_path`, `gt_path` (the clean file); `name` where there are
    several roots.
    """

    def __init__(self, dataroot_gt: str | list[str], sigma_type: Literal['constant', 'random', 'choice'] = 'constant',
                 sigma_range: NonNegative | list[NonNegative] = 25., sigma_test: NonNegative = 25.,
                 in_ch: Literal[1, 3] = 3, gt_size: Count | None = None, use_hflip: bool = False, use_rot: bool = False,
                 geometric_augs: bool = False, io_backend: dict[str, Any] | None = None, seed: Natural = 0,
                 test_noise: Literal['by_name',
                                     'repeated'] = 'by_name', phase: str = 'train', pair_range: Slice | None = None):
        if sigma_test < 0:
            raise UserError(f'sigma_test: {sigma_test} must not be negative')
        if test_noise not in ('by_name', 'repeated'):
            raise UserError(f"test_noise: '{test_noise}' is not supported; one of: by_name, repeated")
        super().__init__(dataroot_gt, in_ch, gt_size, use_hflip, use_rot, geometric_augs, io_backend, phase, pair_range)
        self.sigma_type, self.sigmas = sigma_type, _sigmas(sigma_type, sigma_range)
        self.sigma_test, self.seed, self.test_noise = sigma_test, seed, test_noise

    def sample(self, index: int, img: np.ndarray) -> dict[str, torch.Tensor | str]:
        if self.training:
            img = paired_random_crop(img, img, self.gt_size)[0] if self.gt_size else img
            img = self.random_turn()(img)
        gt = self.to_tensor(bgr2gray(img) if self.in_ch == 1 else img)
        noise = self._noise(index, gt.shape)
        return self.item(index, gt + torch.from_numpy(noise).float(), gt)

    def _noise(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        """Noise of a sample (in_ch, H, W), on [0, 1]."""
        if self.training:
            return np.random.standard_normal(shape) * (self._draw_sigma() / 255)
        if self.test_noise == 'by_name':
            return noise_generator(self.file_name(index), self.seed).standard_normal(shape) * (self.sigma_test / 255)
        channels, height, width = shape
        rows = np.random.RandomState(self.seed).standard_normal((height, width, channels)) * (self.sigma_test / 255)
        return rows[..., ::-1].transpose(2, 0, 1).copy()

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

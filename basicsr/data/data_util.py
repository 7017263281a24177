"""The module name of BasicSR for finding images and pairs, with the mappings that its data sets work with, and for clips."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from basicsr.data.pairing import image_folder, pair_by_name, pair_lmdb
from basicsr.data.transforms import mod_crop
from basicsr.utils.img import img2tensor, imread, to_float
from basicsr.utils.img_process_util import filter2D
from basicsr.utils.storage import read_lmdb_keys

__all__ = [
    'duf_downsample', 'generate_frame_indices', 'generate_gaussian_kernel', 'paired_DP_paths_from_folder',
    'paired_paths_from_folder', 'paired_paths_from_lmdb', 'paired_paths_from_meta_info_file', 'paths_from_folder',
    'paths_from_lmdb', 'read_img_seq'
]


def paths_from_folder(folder: str) -> list[str]:
    """Images of a folder, in natural order. Raises `UserError` when there are none."""
    return [str(path) for path in image_folder(folder, 'folder')]


def paths_from_lmdb(folder: str) -> list[str]:
    """Keys of an LMDB database."""
    return read_lmdb_keys(folder)


def paired_paths_from_folder(folders: Sequence[str], keys: Sequence[str],
                             filename_tmpl: str = '{}') -> list[dict[str, str]]:
    """Pairs of two folders, given as (input, ground truth), as mappings `{'<key>_path': path}` with the two `keys`.

    Raises:
        UserError: naming files that have no partner.
    """
    lq, gt = folders
    return _named(pair_by_name(lq, gt, filename_tmpl), keys)


def paired_paths_from_meta_info_file(folders: Sequence[str], keys: Sequence[str], meta_info_file: str,
                                     filename_tmpl: str = '{}') -> list[dict[str, str]]:
    """The same for the ground truths that a file lists, the first word of each line."""
    lq, gt = folders
    return _named(pair_by_name(lq, gt, filename_tmpl, meta_info_file), keys)


def paired_paths_from_lmdb(folders: Sequence[str], keys: Sequence[str]) -> list[dict[str, str]]:
    """The same for two LMDB databases, whose keys stand in the place of paths."""
    lq, gt = folders
    return _named(pair_lmdb(lq, gt), keys)


def paired_DP_paths_from_folder(folders: Sequence[str], keys: Sequence[str],
                                filename_tmpl: str = '{}') -> list[dict[str, str]]:
    """The same for two views and their ground truth: folders and `keys` of left view, right view, ground truth."""
    left, right, gt = folders
    pairs = zip(pair_by_name(left, gt, filename_tmpl), pair_by_name(right, gt, filename_tmpl))
    return [dict(zip((f'{key}_path' for key in keys), (a, b, truth))) for (a, truth), (b, _) in pairs]


def _named(pairs: Sequence[tuple[str | Path, str | Path]], keys: Sequence[str]) -> list[dict[str, str]]:
    return [{f'{keys[0]}_path': str(lq), f'{keys[1]}_path': str(gt)} for lq, gt in pairs]


def read_img_seq(path: str | Sequence[str], require_mod_crop: bool = False, scale: int = 1,
                 return_imgname: bool = False) -> Tensor | tuple[Tensor, list[str]]:
    """Frames as one tensor (T, C, H, W), RGB in [0, 1], of a folder in natural order or of a list of files.

    require_mod_crop: crop to multiples of `scale`. return_imgname: also give the names without suffix.
    """
    files = paths_from_folder(path) if isinstance(path, (str, Path)) else path
    images = [to_float(imread(file)) for file in files]
    frames = torch.stack(img2tensor([mod_crop(img, scale) if require_mod_crop else img for img in images]))
    return (frames, [Path(file).stem for file in files]) if return_imgname else frames


def generate_frame_indices(crt_idx: int, max_frame_num: int, num_frames: int, padding: str = 'reflection') -> list[int]:
    """The `num_frames` frames, an odd number, around `crt_idx` in a clip of `max_frame_num`.

    What lies beyond an end is replaced, by `padding`; of 5 frames around frame 0 it gives

        replicate 0 0 0 1 2, reflection 2 1 0 1 2, reflection_circle 4 3 0 1 2, circle 3 4 0 1 2
    """
    if num_frames % 2 == 0:
        raise ValueError(f'num_frames must be odd, not {num_frames}')
    half, last = num_frames // 2, max_frame_num - 1
    beyond = {
        'replicate': (lambda i: 0, lambda i: last),
        'reflection': (lambda i: -i, lambda i: 2 * last - i),
        'reflection_circle': (lambda i: crt_idx + half - i, lambda i: crt_idx - half + last - i),
        'circle': (lambda i: num_frames + i, lambda i: i - num_frames),
    }
    if padding not in beyond:
        raise ValueError(f"padding '{padding}' is not supported; one of: {', '.join(beyond)}")
    before, after = beyond[padding]
    return [before(i) if i < 0 else after(i) if i > last else i for i in range(crt_idx - half, crt_idx + half + 1)]


def generate_gaussian_kernel(kernel_size: int = 13, sigma: float = 1.6) -> np.ndarray:
    """A Gaussian (k, k) that sums to 1."""
    taps = cv2.getGaussianKernel(kernel_size, sigma)
    return taps @ taps.T


def duf_downsample(x: Tensor, kernel_size: int = 13, scale: int = 4) -> Tensor:
    """(B, T, C, H, W) or (T, C, H, W) as the data of DUF: every `scale`-th pixel after a Gaussian blur of 0.4 `scale`.

    `scale`: 2, 3 or 4. Borders are reflected.
    """
    if scale not in (2, 3, 4):
        raise ValueError(f'scale must be 2, 3 or 4, not {scale}')
    kernel = torch.from_numpy(generate_gaussian_kernel(kernel_size, 0.4 * scale))[None]
    small = filter2D(x.flatten(0, -4), kernel)[..., ::scale, ::scale]
    return small.unflatten(0, x.shape[:-3])

"""Crops and augmentation of image pairs, on arrays of any dtype. Random draws come from Python's `random`."""
from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import get_worker_info

from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger


class Turn(NamedTuple):
    """A symmetry of the square: columns reversed, rows reversed, then both exchanged."""
    hflip: bool = False
    vflip: bool = False
    transpose: bool = False

    def __call__(self, img: np.ndarray) -> np.ndarray:
        """A view of (H, W[, C])."""
        img = img[:, ::-1] if self.hflip else img
        img = img[::-1] if self.vflip else img
        return img.swapaxes(0, 1) if self.transpose else img


# rotated by 90 degrees counter-clockwise `mode // 2` times, then flipped upside down if `mode` is odd
DIHEDRAL = (Turn(), Turn(vflip=True), Turn(hflip=True, transpose=True), Turn(transpose=True),
            Turn(hflip=True, vflip=True), Turn(hflip=True), Turn(vflip=True, transpose=True), Turn(True, True, True))


def random_window(height: int, width: int, size: int) -> tuple[int, int]:
    """Top and left of a square window of this size."""
    return random.randint(0, height - size), random.randint(0, width - size)


def random_flips(hflip: bool = True, rotation: bool = True, vflip: bool = False) -> Turn:
    """BasicSR's augmentation: independent coin flips for horizontal flip and, with `rotation`, vertical flip and transpose.

    `vflip`: vertical flip without `rotation` as well.
    """
    return Turn(hflip and random.random() < 0.5, (rotation or vflip) and random.random() < 0.5, rotation
                and random.random() < 0.5)


def random_turn() -> Turn:
    """One of the eight symmetries, uniformly (Restormer family)."""
    return DIHEDRAL[random.randint(0, 7)]


def mod_crop(img: np.ndarray, scale: int) -> np.ndarray:
    """Crop (H, W[, C]) at the right and bottom to multiples of `scale`."""
    h, w = img.shape[:2]
    return img[:h - h % scale, :w - w % scale].copy()


def center_crop(img: np.ndarray, multiple: int) -> np.ndarray:
    """Crop (H, W[, C]) on all sides to multiples of `multiple`; the odd row or column goes at the bottom or right."""
    (top, height), (left, width) = ((n % multiple // 2, n - n % multiple) for n in img.shape[:2])
    return img[top:top + height, left:left + width]


def resize_bilinear(img: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, C) to any size and shape, antialiased: torchvision's `Resize` of 8-bit Pillow images within one level."""
    if img.shape[:2] == (height, width):
        return img
    # PyTorch rounds 8-bit images between the two directions, as Pillow does, and knows few operations on 16 bits
    x = torch.from_numpy(img if img.dtype == np.uint8 else img.astype(np.float32)).permute(2, 0, 1)[None]
    y = F.interpolate(x, (height, width), mode='bilinear', antialias=True)[0].permute(1, 2, 0).numpy()
    return y if img.dtype in (np.uint8, np.float32) else np.rint(y).astype(img.dtype)


def pad_to_size(img: np.ndarray, height: int, width: int) -> np.ndarray:
    """Reflect at the right and bottom (edge pixel repeated) up to at least this size."""
    h, w = img.shape[:2]
    bottom, right = max(0, height - h), max(0, width - w)
    if not bottom and not right:
        return img
    rows, columns = (np.pad(np.arange(side), (0, more), mode='symmetric') for side, more in ((h, bottom), (w, right)))
    return img[rows][:, columns]


def check_sizes(gt: np.ndarray, lq: np.ndarray, scale: int, gt_path: str | None) -> None:
    """Raise `UserError` unless the ground truth is exactly `scale` times its input."""
    check_shapes(gt.shape[:2], lq.shape[:2], scale, gt_path)


def check_shapes(gt: Sequence[int], lq: Sequence[int], scale: int, gt_path: str | None, spare: int = 0) -> None:
    """`check_sizes` by height and width; a ground truth may have up to `spare` rows and columns more."""
    (height, width), (h, w) = gt, lq
    if not (0 <= height - h * scale <= spare and 0 <= width - w * scale <= spare):
        raise UserError(f"'{gt_path}' is {width}x{height}, but its input is {w}x{h}; at scale {scale} it should be"
                        f' {w * scale}x{h * scale}')


def paired_random_crop(img_gts, img_lqs, gt_patch_size: int, scale: int = 1, gt_path: str | None = None):
    """The same random patch from ground truths and inputs; smaller images are padded by reflection first.

    Args:
        img_gts, img_lqs: array (H, W, C), tensor (..., H, W), or list of them; ground truths are `scale` times larger.
        gt_patch_size: side of the ground truth's patch.

    Returns:
        Patches as arrays or lists, as given. Raises `UserError` when sizes do not belong together.
    """
    gts = img_gts if isinstance(img_gts, list) else [img_gts]
    lqs = img_lqs if isinstance(img_lqs, list) else [img_lqs]
    of_tensors = isinstance(gts[0], torch.Tensor)
    if of_tensors:  # their rows and columns come last
        gts, lqs = ([x.movedim((-2, -1), (0, 1)) for x in imgs] for imgs in (gts, lqs))
    check_sizes(gts[0], lqs[0], scale, gt_path)
    size = gt_patch_size // scale
    if min(gts[0].shape[:2]) < gt_patch_size:
        say_padded(gt_patch_size)
    gts = [pad_to_size(g, gt_patch_size, gt_patch_size) for g in gts]
    lqs = [pad_to_size(x, size, size) for x in lqs]
    h, w = lqs[0].shape[:2]
    top, left = random_window(h, w, size)
    lqs = [x[top:top + size, left:left + size] for x in lqs]
    top, left = top * scale, left * scale
    gts = [g[top:top + gt_patch_size, left:left + gt_patch_size] for g in gts]
    if of_tensors:
        gts, lqs = ([x.movedim((0, 1), (-2, -1)) for x in imgs] for imgs in (gts, lqs))
    return (gts if isinstance(img_gts, list) else gts[0]), (lqs if isinstance(img_lqs, list) else lqs[0])


@cache
def say_padded(size: int) -> None:
    """Once for each size, by one of the loader's workers."""
    worker = get_worker_info()
    if worker is None or worker.id == 0:
        get_root_logger().warning(f'gt_size: {size} is above the size of some pictures, which are padded by reflection')


def augment(imgs, hflip: bool = True, rotation: bool = True, flows=None, return_status: bool = False):
    """The same `random_flips` of an array or of every array of a list.

    Args:
        flows: optical flow (H, W, 2), dx and dy, or a list; turned as well, and returned behind the images.
        return_status: without flows, return behind the images what was done, a `Turn`.
    """
    turn = random_flips(hflip, rotation)
    turned = [turn(i) for i in imgs] if isinstance(imgs, list) else turn(imgs)
    if flows is not None:
        return turned, [_turn_flow(turn, f) for f in flows] if isinstance(flows, list) else _turn_flow(turn, flows)
    return (turned, turn) if return_status else turned


def _turn_flow(turn: Turn, flow: np.ndarray) -> np.ndarray:
    """A flow (H, W, 2) of turned images: its arrows are turned with them."""
    flow = turn(flow) * np.array([-1 if turn.hflip else 1, -1 if turn.vflip else 1], flow.dtype)
    return flow[..., ::-1] if turn.transpose else flow


def img_rotate(img: np.ndarray, angle: float, center: tuple[float, float] | None = None,
               scale: float = 1.0) -> np.ndarray:
    """(H, W[, C]) turned counter-clockwise by degrees around `center`, default the middle; black where nothing is known."""
    h, w = img.shape[:2]
    matrix = cv2.getRotationMatrix2D(center or ((w - 1) / 2, (h - 1) / 2), angle, scale)
    return cv2.warpAffine(img, matrix, (w, h))


def random_augmentation(*imgs: np.ndarray) -> list[np.ndarray]:
    """The same `random_turn` of all images."""
    turn = random_turn()
    return [turn(img) for img in imgs]

"""Augmented copies of image pairs, the same change for both (MASR-Net)."""
from __future__ import annotations

import math
import random
import sys
from pathlib import Path
from typing import Any, NamedTuple

import cv2
from tqdm import tqdm

from basicsr.data.pairing_schemes import pair_by_number
from basicsr.data.transforms import check_sizes
from basicsr.utils.errors import UserError
from basicsr.utils.img import imread, imwrite, to_float
from basicsr.utils.names import name_bytes
from basicsr.utils.outputs import check_new, check_outputs


class Draw(NamedTuple):
    """The random numbers of one pair; `top`, `left` in [0, 1] of what the crop leaves free, `bilateral` None for none."""
    scale: float
    angle: float
    top: float
    left: float
    bilateral: tuple[int, float, float] | None


def draw(rng: random.Random, bilateral_prob: float) -> Draw:
    """The distributions of the published tool (MASR-Net); always the same number of draws."""
    scale, angle, top, left = rng.uniform(1.2, 2), rng.uniform(-15, 15), rng.random(), rng.random()
    chance, bilateral = rng.random(), (rng.choice([5, 7, 9]), rng.uniform(50, 150), rng.uniform(50, 150))
    return Draw(scale, angle, top, left, bilateral if chance < bilateral_prob else None)


def transform(img: Any, chosen: Draw, height: int, width: int) -> Any:
    """Enlarge, rotate onto black, enlarge again where that is too small, crop, and filter.

    Args:
        img: (H, W, 3), uint8.
        height, width: of the result.
    """
    h, w = (max(1, round(side * chosen.scale)) for side in img.shape[:2])
    img = cv2.resize(img, (w, h), interpolation=cv2.INTER_LANCZOS4)
    matrix = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), chosen.angle, 1)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    wide, high = math.ceil(w * cos + h * sin), math.ceil(h * cos + w * sin)
    matrix[:, 2] += (wide - w) / 2, (high - h) / 2
    img = cv2.warpAffine(img, matrix, (wide, high), flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0))
    zoom = max(height / high, width / wide)
    if zoom > 1:
        size = max(width, round(wide * zoom)), max(height, round(high * zoom))
        img = cv2.resize(img, size, interpolation=cv2.INTER_LANCZOS4)
    top, left = (round(part * (have - want))
                 for part, have, want in ((chosen.top, img.shape[0], height), (chosen.left, img.shape[1], width)))
    img = img[top:top + height, left:left + width]
    return cv2.bilateralFilter(img, *chosen.bilateral) if chosen.bilateral else img


def augment_pairs(low: str, normal: str, output: str | Path, seed: int = 0, height: int = 400, width: int = 600,
                  bilateral_prob: float = 0.5, suffix: str = 'jpg', overwrite: bool = False) -> int:
    """Write one new pair for each pair, under the same names; returns how many.

    A pair's changes follow from `seed` and its name alone, whatever other files there are. Raises `UserError` for files
    that do not pair, pairs of different sizes, an output folder that holds one of the inputs, and, unless `overwrite`,
    files that would be replaced.
    """
    if height < 1 or width < 1:
        raise UserError(f'the size of the new images must be at least 1x1, not {width}x{height}')
    if not 0 <= bilateral_prob <= 1:
        raise UserError(f'--bilateral_prob must be between 0 and 1, not {bilateral_prob}')
    folders = Path(output, 'Low'), Path(output, 'Normal')
    check_outputs(folders, [low, normal], '--output')
    pairs = pair_by_number(low, normal)
    names = [[Path(path).stem + f'.{suffix}' for path in pair] for pair in pairs]
    check_new((folder / name for pair in names for folder, name in zip(folders, pair)), overwrite)
    for lq_path, gt_path in tqdm(pairs, unit='pair', disable=not sys.stderr.isatty()):
        lq, gt = imread(lq_path), imread(gt_path)
        check_sizes(gt, lq, 1, gt_path)
        chosen = draw(random.Random(name_bytes(f'{seed}/{Path(lq_path).stem}')), bilateral_prob)
        for folder, path, img in ((folders[0], lq_path, lq), (folders[1], gt_path, gt)):
            img = img if img.dtype == 'uint8' else (to_float(img) * 255).round().astype('uint8')
            new = transform(img, chosen, height, width)
            imwrite(new, folder / f'{Path(path).stem}.{suffix}',
                    [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix == 'jpg' else None)
    return len(pairs)

"""Which images show the same scene, so that those held out for validation show none that is trained on."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from basicsr.utils.img import imread, to_float

_SIDE = 16
_BLOCK = 1024


def find_scenes(files: Sequence[Path], similarity: float, progress: bool = True) -> list[list[int]]:
    """Indices of images that show one scene, by the order of its first image.

    Two images are of one scene where the correlation of their thumbnails, 16x16 pixels less the mean colour, is at least
    `similarity`, or where others link them. Brightness and contrast have no part in it; one in which nothing is to be seen
    is a scene of its own. The work grows with the square of the number of images, memory does not.

    Raises `UserError` for a file that is no image.
    """
    bars = tqdm(files, unit='image', desc='compare', leave=False, disable=None if progress else True)
    prints = np.stack([_thumbnail(file) for file in bars])
    scene = np.arange(len(files))
    for start in range(0, len(files), _BLOCK):
        alike = prints[start:start + _BLOCK] @ prints.T >= similarity
        for i, j in zip(*np.nonzero(alike)):
            a, b = scene[i + start], scene[j]
            if a != b:
                scene[scene == max(a, b)] = min(a, b)
    found: dict[int, list[int]] = {}
    for index, first in enumerate(scene):
        found.setdefault(int(first), []).append(index)
    return list(found.values())


def hold_out(scenes: Sequence[Sequence[int]], count: int) -> list[int]:
    """Indices of `count` images, or up to a scene less: whole scenes at even distances.

    Raises `ValueError` for a count that leaves nothing to train on, or below 1.
    """
    total = sum(map(len, scenes))
    if not 0 < count < total:
        raise ValueError(f'{count} of {total} images cannot be held out')
    chosen: list[int] = []
    passed = 0
    for scene in scenes:
        passed += len(scene)
        # as many as the part of all images that has gone by, and no more than asked for
        if len(chosen) + len(scene) <= min(count, -(-count * passed // total)):
            chosen += scene
    return sorted(chosen)


def _thumbnail(file: Path) -> np.ndarray:
    """A vector of unit length, or of zeros for an image of one colour."""
    small = cv2.resize(to_float(imread(file)), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
    small -= small.mean(axis=(0, 1))
    length = np.linalg.norm(small)
    return (small / length if length > 1e-6 else small * 0).ravel()

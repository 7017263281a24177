"""Draw docs/exposure.jpg: what `exposure_augs` makes of one picture, at fixed exposures."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from basicsr.data.exposure import Exposure, exposed
from basicsr.utils.img import imread, imwrite

ROOT = Path(__file__).resolve().parents[1]
STOPS = (0, -1, -2, -3, -4, -5)


def taken(picture: np.ndarray, stops: float) -> np.ndarray:
    """With a camera of 6,000 electrons at white and 4 of read noise, its white balance a little off."""
    gains = [2**stops * np.exp(0.03 * abs(stops) * error) for error in (1., 0., -1.)]
    noise = torch.randn(*picture.shape, generator=torch.Generator().manual_seed(0))
    return exposed(picture, Exposure((gains[0], gains[1], gains[2]), 6000., 4., noise))


def labelled(picture: np.ndarray, text: str) -> np.ndarray:
    strip = np.full((26, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, text, (6, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([picture, strip])


def main() -> None:
    picture = imread(ROOT / 'data' / 'demo' / 'train' / 'target' / 'cat.png')
    tiles = [labelled(taken(picture, stops), f'{stops} stop{"s" * (stops != -1)}') for stops in STOPS]
    rows = [np.hstack(tiles[i:i + 3]) for i in (0, 3)]
    imwrite(np.vstack(rows), ROOT / 'docs' / 'exposure.jpg', [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == '__main__':
    main()

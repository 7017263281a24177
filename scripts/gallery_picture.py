"""Draw docs/kinds.jpg: photos of several kinds, and what `basicsr enhance` makes of them without any argument.

Pictures of scikit-image and matplotlib, free to use; the default weights were trained on none of these. Dark ones are taken
with less light by the camera of `basicsr/data/exposure.py`, noise included.

    pip install scikit-image matplotlib
    python scripts/gallery_picture.py
"""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib import cbook, image
from skimage import data

from basicsr import Restorer
from basicsr.data.exposure import Exposure, exposed
from basicsr.utils.img import imwrite

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 330, 220


def photographs() -> list[tuple[str, np.ndarray, float]]:
    """What it is, RGB or grey uint8, and how many stops less light it gets."""
    with cbook.get_sample_data('grace_hopper.jpg') as file:
        hopper = image.imread(file, format='jpg')
    return [('a portrait', hopper, -3), ('indoors', data.coffee(), -4), ('an animal, near', data.chelsea(), -2),
            ('a launch site at dusk', data.rocket(), 0), ('black and white', data.camera(), -3),
            ('a page', data.page(), -2), ('the sky by a telescope', data.hubble_deep_field(), 0),
            ('a drawing, coloured', data.colorwheel(), -3)]


def taken(picture: np.ndarray, stops: float) -> np.ndarray:
    """With 6,000 electrons at white and 4 of read noise."""
    picture = picture if picture.ndim == 3 else picture[..., None].repeat(3, 2)
    if stops == 0:
        return picture
    gain = 2.**stops
    noise = torch.randn(*picture.shape, generator=torch.Generator().manual_seed(0))
    return exposed(picture, Exposure((gain, gain, gain), 6000., 4., noise))


def cell(picture: np.ndarray) -> np.ndarray:
    """The middle of it, of one size."""
    scale = max(WIDTH / picture.shape[1], HEIGHT / picture.shape[0])
    sides = (max(WIDTH, round(picture.shape[1] * scale)), max(HEIGHT, round(picture.shape[0] * scale)))
    picture = cv2.resize(picture, sides, interpolation=cv2.INTER_AREA)
    top, left = (picture.shape[0] - HEIGHT) // 2, (picture.shape[1] - WIDTH) // 2
    return picture[top:top + HEIGHT, left:left + WIDTH]


def main() -> None:
    restore = Restorer.from_pretrained(device='cpu', strength='auto')
    cells = []
    for title, picture, stops in photographs():
        dark = taken(picture, stops)
        strip = np.full((24, 2 * WIDTH, 3), 255, np.uint8)
        text = f'{title}, {-stops:g} stops less light' if stops else f'{title}, as it is'
        cv2.putText(strip, text, (5, 17), cv2.FONT_HERSHEY_SIMPLEX, .45, (0, 0, 0), 1, cv2.LINE_AA)
        cells.append(np.vstack([strip, np.hstack([cell(dark), cell(restore(dark))])]))
    gap = np.full((cells[0].shape[0], 8, 3), 255, np.uint8)
    rows = [np.hstack([cells[i], gap, cells[i + 1]]) for i in range(0, len(cells), 2)]
    imwrite(np.vstack(rows)[..., ::-1], ROOT / 'docs' / 'kinds.jpg', [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == '__main__':
    main()

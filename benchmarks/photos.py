"""What weights do to photographs that are bright enough, and to the same ones darkened by 1 to 4 stops.

"kept" is the PSNR of result to input on the photographs as they are; the gains are PSNR to the original, of the result less
that of the darkened input. The photographs are a fixed list that come with Python packages; no weights here were trained on
them. A gamma curve and CLAHE stand beside the networks.

    pip install scikit-image scikit-learn matplotlib
    python benchmarks/photos.py retinexformer_photos retinexmamba_tiny [--strength auto] [--sheet docs/photos.jpg] [--store]
"""
from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import print_table, report

from basicsr.inference.amount import AUTO, Amount
from basicsr.inference.photos import photo_restorer, restore_photo
from basicsr.photos.photo import Frame, Photo
from basicsr.utils.img import imwrite
from basicsr.utils.srgb import linear_to_srgb, srgb_to_linear

STOPS = (0, 1, 2, 3, 4)
LEAST = {'kept': 26., '-1': 2., '-2': 4., '-3': 4., '-4': 4.}  # what is wanted of each photograph, in dB
Method = Callable[[np.ndarray], np.ndarray]  # RGB (H, W, 3), uint8, to the same


def photographs() -> dict[str, np.ndarray]:
    """By name, RGB (H, W, 3) uint8."""
    from matplotlib import cbook, image
    from skimage import data
    from sklearn.datasets import load_sample_image
    left = data.stereo_motorcycle()[0]
    with cbook.get_sample_data('grace_hopper.jpg') as file:
        hopper = image.imread(file, format='jpg')
    return {
        'astronaut': data.astronaut(), 'chelsea': data.chelsea(), 'coffee': data.coffee(), 'rocket': data.rocket(),
        'motorcycle': left, 'hopper': hopper, 'china': load_sample_image('china.jpg'),
        'flower': load_sample_image('flower.jpg')
    }


def darkened(img: np.ndarray, stops: float) -> np.ndarray:
    """The same with 2^-stops of the light, in 8 bits."""
    return np.rint(linear_to_srgb(srgb_to_linear(img / 255.) * 2.**-stops) * 255).astype(np.uint8)


def gamma(img: np.ndarray) -> np.ndarray:
    """The curve that brings the mean to a half."""
    mean = np.clip(img.mean() / 255, 1e-3, .999)
    return np.rint((img / 255.)**min(np.log(.5) / np.log(mean), 1.) * 255).astype(np.uint8)


def clahe(img: np.ndarray) -> np.ndarray:
    """Of the lightness, as OpenCV's users do it."""
    lab = cv2.cvtColor(img, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=3., tileGridSize=(8, 8)).apply(lab[..., 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def by_weights(name: str, strength: float | str) -> Method:
    restorer = photo_restorer(name)
    amount = Amount(strength=strength)
    return lambda img: restore_photo(restorer, Photo('PNG', [Frame(img)]), amount=amount).frames[0].pixels


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """In dB, at most 50: a mean with the infinity of equal pictures says nothing."""
    error = ((a.astype(np.float64) - b)**2).mean()
    return float(10 * np.log10(255**2 / max(error, 255**2 / 1e5)))


def measured(name: str, method: Method) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row for each photograph, and one of their means with the worst of each in brackets."""
    rows = []
    for title, img in photographs().items():
        row: dict[str, Any] = {'weights': name, 'photograph': title}
        for stops in STOPS:
            dark = darkened(img, stops)
            found = psnr(method(dark), img)
            row['kept' if stops == 0 else f'-{stops}'] = found - (psnr(dark, img) if stops else 0)
        rows.append(row)
    keys = list(rows[0])[2:]
    means = {key: f'{np.mean([row[key] for row in rows]):.1f} ({min(row[key] for row in rows):.1f})' for key in keys}
    return rows, {'weights': name, **means}


def sheet(methods: dict[str, Method], shown: dict[str, tuple[int, ...]], height: int = 150) -> np.ndarray:
    """BGR: a line for each photograph and exposure; input, results, original."""
    titles, lines, all_photos = ['input', *methods, 'original'], [], photographs()
    for title, exposures in shown.items():
        img = all_photos[title]
        img = cv2.resize(img, (round(img.shape[1] * 300 / img.shape[0]), 300), interpolation=cv2.INTER_AREA)
        for stops in exposures:
            dark = darkened(img, stops)
            tiles = [dark, *(method(dark) for method in methods.values()), img]
            cells = [cv2.resize(tile, (200, height), interpolation=cv2.INTER_AREA) for tile in tiles]
            lines.append(labelled(np.hstack(cells), [f'{title}, {-stops} stops' if stops else f'{title}, as it is']))
    return np.vstack([labelled(np.empty((0, 200 * len(titles), 3), np.uint8), titles), *lines])[..., ::-1]


def labelled(img: np.ndarray, texts: list[str]) -> np.ndarray:
    """Words above a picture, one for each of its columns."""
    strip = np.full((22, img.shape[1], 3), 255, np.uint8)
    for column, text in enumerate(texts):
        cv2.putText(strip, text, (200 * column + 5, 16), cv2.FONT_HERSHEY_SIMPLEX, .42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([strip, img])


# good and bad: the worst of each of the weights is among them
SHOWN = {
    'china': (0, 1, 2), 'coffee': (0, 3), 'chelsea': (0, 1, 4), 'rocket': (0, 2), 'astronaut': (0, 3),
    'flower': (2, 3, 4)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('weights', nargs='+')
    parser.add_argument('--strength', default='1', help=f'a number, or {AUTO}')
    parser.add_argument('--sheet', type=Path, metavar='FILE', help='draw results beside one another')
    parser.add_argument('--store', action='store_true', help='keep the numbers among the results of this machine')
    args = parser.parse_args()
    strength = AUTO if args.strength == AUTO else float(args.strength)
    methods: dict[str, Method] = {'gamma': gamma, 'CLAHE': clahe}
    stems = [Path(name).stem for name in args.weights]
    methods |= {
        stem if stems.count(stem) == 1 else name: by_weights(name, strength) for stem, name in zip(stems, args.weights)
    }
    if args.sheet:
        imwrite(sheet(methods, SHOWN), args.sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])
        return
    rows, summary = [], []
    for name, method in methods.items():
        found, means = measured(name, method)
        rows += found
        summary.append(means)
    print_table('every photograph',
                [{k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()} for row in rows])
    (report if args.store else print_table)('photographs: mean (worst)', summary)
    for row in rows:
        missed = [f'{key}: {row[key]:.1f} of {least:g} dB' for key, least in LEAST.items() if row[key] < least]
        if missed and row['weights'] not in ('gamma', 'CLAHE'):
            print(f"{row['weights']}, {row['photograph']}: {', '.join(missed)}")


if __name__ == '__main__':
    main()

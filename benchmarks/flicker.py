#!/usr/bin/env python
"""How much the mean brightness of static dark clips varies between frames, smoothed and not: the table of docs/video.md."""
from __future__ import annotations

import argparse

import cv2
import numpy as np

from basicsr.inference.light import exposed
from basicsr.inference.photos import photo_restorer
from basicsr.photos.photo import to_float
from basicsr.photos.reading import read_photo
from basicsr.video.flicker import Light, Steady

# noise in levels of 8 bits; stops by which the lamp sways
CLIPS = ((2, 0.), (6, 0.), (20, 0.), (40, 0.), (2, .02), (2, .1), (2, .3), (2, .5))
RATE, FRAMES, WHITE = 24, 24, 1.36


def variation(pictures: list[np.ndarray]) -> float:
    return float(np.abs(np.diff([picture.clip(0, 1).mean(dtype=np.float64) for picture in pictures])).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--picture', default='data/demo/test/input/peaks.png')
    parser.add_argument('--weights', nargs='+', default=['retinexmamba_tiny', 'retinexformer_photos_small'])
    parser.add_argument('--size', nargs=2, type=int, default=[192, 128], metavar=('WIDTH', 'HEIGHT'))
    parser.add_argument('--smooth', type=float, default=1.)
    args = parser.parse_args()
    scene = cv2.resize(to_float(read_photo(args.picture).frames[0].pixels), tuple(args.size),
                       interpolation=cv2.INTER_AREA)
    for weights in args.weights:
        restorer = photo_restorer(weights)
        for noise, sway in CLIPS:
            random, light, steady = np.random.RandomState(0), Light(), Steady[np.ndarray](args.smooth, FRAMES)
            alone, smooth = [], []
            for number in range(FRAMES):
                levels = exposed(scene, sway * random.randn()) * 255 + random.normal(0, noise, scene.shape)
                frame = (np.rint(levels).clip(0, 255) / 255).astype(np.float32)
                result = restorer(frame, white=WHITE)
                stops, cut = light.of(frame, result)
                alone.append(result)
                smooth += steady.add(number / RATE, stops, result, cut)
            smooth = [exposed(result, difference) for result, difference in smooth + steady.rest()]
            print(f'{weights}: noise {noise}, lamp {sway:g} stops: {variation(smooth) / variation(alone):.2f}',
                  flush=True)


if __name__ == '__main__':
    main()

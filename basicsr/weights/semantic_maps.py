"""The semantic maps of a folder of images, which `dataroot_sem` of data sets names."""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from basicsr.data.pairing import by_stem, image_folder
from basicsr.utils.errors import UserError
from basicsr.utils.files import atomic_write
from basicsr.utils.img import img2tensor, imread, to_float
from basicsr.utils.machine import choose_device
from basicsr.utils.outputs import check_new, check_outputs
from basicsr.weights.semantic_prior import load_semantic_prior


def write_maps(folder: str, output: str | Path, weights: str, device: str = 'auto', key: str | None = None,
               overwrite: bool = False) -> int:
    """Write the class probabilities of each image, (21, H, W) in float16, as `output/NAME.npy`; returns how many.

    Args:
        weights: of the segmenter, 'torchvision' or as `locate` takes them. key: entry of the file.
        overwrite: replace maps that are there, which is a `UserError` else.
    """
    images = by_stem(image_folder(folder, 'FOLDER'), folder, 'FOLDER')
    if weights in ('external', 'off'):
        raise UserError(f"--weights '{weights}' is no segmenter; give a file of weights, or 'torchvision'")
    chosen = choose_device(device)
    outputs = {name: Path(output, f'{name}.npy') for name in images}
    check_outputs(outputs.values(), [*images.values(), weights], '-o')
    check_new(outputs.values(), overwrite)
    segment = load_semantic_prior(weights, key=key)
    for name, file in tqdm(images.items(), unit='image', disable=not sys.stderr.isatty()):
        probabilities = segment(img2tensor(to_float(imread(file)))[None].to(chosen))[0]
        with atomic_write(outputs[name]) as target:
            np.save(target, probabilities.to(torch.float16).cpu().numpy())
    return len(images)

"""Compute the semantic maps of a folder of images, for `dataroot_sem`: segment FOLDER -o MAPS --weights torchvision"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from basicsr.utils.errors import UserError, run_main


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', metavar='FOLDER', help='images')
    parser.add_argument('-o', '--output', required=True, metavar='MAPS', help='folder for the maps, NAME.npy each')
    parser.add_argument('--weights', default='torchvision', metavar='FILE',
                        help="of torchvision's lraspp_mobilenet_v3_large; default: 'torchvision' downloads them once")
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1, mps')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Writes class probabilities (21, H, W), float16, of each image under its name."""
    import numpy as np
    import torch
    from tqdm import tqdm

    from basicsr.data.pairing import by_stem, image_folder
    from basicsr.inference.restorer import choose_device
    from basicsr.utils.files import atomic_write
    from basicsr.utils.img import img2tensor, imread, to_float
    from basicsr.weights.semantic_prior import load_semantic_prior
    images = by_stem(image_folder(args.folder, 'FOLDER'), args.folder, 'FOLDER')
    if args.weights in ('external', 'off'):
        raise UserError(f"--weights '{args.weights}' is no segmenter; give a file of weights, or 'torchvision'")
    segment, device = load_semantic_prior(args.weights), choose_device(args.device)
    for name, file in tqdm(images.items(), unit='image', disable=not sys.stderr.isatty()):
        probabilities = segment(img2tensor(to_float(imread(file)))[None].to(device))[0]
        with atomic_write(Path(args.output, f'{name}.npy')) as target:
            np.save(target, probabilities.to(torch.float16).cpu().numpy())
    print(f'{len(images)} maps written to {args.output}')


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return run_main(lambda: run(args))

"""Make augmented copies of image pairs, the same change for both: basicsr augment --input_low L --input_normal N --output O"""
from __future__ import annotations

import argparse

from basicsr.utils.errors import run_main
from basicsr.utils.files import as_stored


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--input_low', type=as_stored, required=True, metavar='DIR', help='dark images')
    parser.add_argument('--input_normal', type=as_stored, required=True, metavar='DIR',
                        help='their ground truth, by name or number')
    parser.add_argument('--output', type=as_stored, required=True, metavar='DIR',
                        help='new images go to DIR/Low and DIR/Normal')
    parser.add_argument('--seed', type=int, default=0, help='equal seeds give equal images')
    parser.add_argument('--height', type=int, default=400)
    parser.add_argument('--width', type=int, default=600)
    parser.add_argument('--bilateral_prob', type=float, default=0.5, help='probability of a bilateral filter')
    parser.add_argument('--format', choices=['jpg', 'png'], default='jpg', help='jpg (quality 95) as published, or png')
    parser.add_argument('--overwrite', action='store_true', help='replace images that are there')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    from basicsr.data.augmented_copies import augment_pairs
    count = augment_pairs(args.input_low, args.input_normal, args.output, args.seed, args.height, args.width,
                          args.bilateral_prob, args.format, args.overwrite)
    print(f'{count} pairs written to {args.output}')


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))

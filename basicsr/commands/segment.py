"""Compute the semantic maps of a folder of images, for `dataroot_sem`: segment FOLDER -o MAPS --weights torchvision"""
from __future__ import annotations

import argparse

from basicsr.utils.errors import run_main
from basicsr.utils.files import as_stored
from basicsr.utils.pretrained import OTHER_WEIGHTS


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=as_stored, metavar='FOLDER', help='images')
    parser.add_argument('-o', '--output', type=as_stored, required=True, metavar='MAPS',
                        help='folder for the maps, NAME.npy each')
    parser.add_argument(
        '--weights', default='torchvision', metavar='FILE',
        help=f"of torchvision's lraspp_mobilenet_v3_large: a file, {OTHER_WEIGHTS}; default: 'torchvision'"
        ' downloads them once')
    parser.add_argument('--key', help='entry of the weight file; default params_ema, params')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1, mps')
    parser.add_argument('--overwrite', action='store_true', help='replace maps that are there')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    from basicsr.weights.semantic_maps import write_maps
    count = write_maps(args.folder, args.output, args.weights, args.device, args.key, args.overwrite)
    print(f'{count} maps written to {args.output}')


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))

"""Enhance one photo or a folder of photos, without ground truth: enhance.py INPUT -o OUT [--weights W]"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from basicsr.utils.errors import UserError, run_main
from basicsr.utils.pretrained import default_weights, describe_weights, find_weights

if TYPE_CHECKING:
    from basicsr.inference.restorer import ImageRestorer


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('input', metavar='INPUT', help='an image, or a folder of images')
    parser.add_argument('-o', '--output', required=True, metavar='OUT', help='output file, or folder')
    parser.add_argument(
        '--weights', metavar='FILE',
        help='.pth or .safetensors, which says itself which network it belongs to, or a name of'
        ' `basicsr list weights`; default: those that come with the toolbox')
    parser.add_argument('--opt', '-opt', metavar='YAML', help='option file, for weights that do not say so')
    parser.add_argument('--tile', type=int, default=0, help='work in tiles of this size (0: whole image)')
    parser.add_argument('--tile_overlap', type=int, default=32, help='pixels shared by neighbouring tiles')
    parser.add_argument('--self_ensemble', action='store_true',
                        help='average over flips and rotations (8 times slower)')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1, mps')
    parser.add_argument('--amp', choices=['bf16', 'fp16'], help='half precision')
    parser.add_argument('--sheet', action='store_true', help='also write before/after pictures, *_sheet.png')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    from basicsr.inference.photos import enhance_files, jobs_of
    jobs = jobs_of(Path(args.input), Path(args.output))
    failed = enhance_files(build_restorer(args), jobs, args.sheet)
    for message in failed:
        sys.stderr.write(f'error: {message}\n')
    if len(jobs) > 1:
        print(f'{len(jobs) - len(failed)} of {len(jobs)} images written to {args.output}')
    return 2 if failed else 0


def build_restorer(args: argparse.Namespace) -> ImageRestorer:
    """The restorer that the arguments `weights`, `opt`, `device`, `tile`, ... describe."""
    network, weights = None, args.weights
    if args.opt:
        from basicsr.config import load_options
        opt = load_options(args.opt, is_train=False, check_files=False).opt
        network = opt['network_g']
        weights = weights or opt['path'].get('pretrain_network_g')
    weights = find_weights(weights or _default(args.opt))
    from basicsr.archs import input_channels
    from basicsr.inference.restorer import ImageRestorer, choose_device
    from basicsr.weights.network import load_described
    net, options = load_described(weights, network)
    channels = input_channels(options)
    if channels not in (None, 1, 3):
        raise UserError(f"the network of '{weights}' takes images of {channels} channels; photos have 3 (RGB) or"
                        ' are turned to 1 (grey). Data sets of such images are for: basicsr test')
    return ImageRestorer(net, choose_device(args.device), args.tile, args.tile_overlap, args.self_ensemble,
                         amp=args.amp, channels=channels)


def _default(opt: str | None) -> str:
    """The weights that come with the toolbox, said in the log. An option file asks for those of its own network."""
    from basicsr.utils.logger import get_root_logger
    name = None if opt else default_weights()
    if name is None:
        raise UserError('which network? give --weights FILE (or --opt YAML with path.pretrain_network_g)')
    get_root_logger().info(f'no --weights given: taking {name}, {describe_weights(name)}')
    return name


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return run_main(lambda: run(args))

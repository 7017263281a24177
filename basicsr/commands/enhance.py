"""Enhance one photo or a folder of photos, without ground truth: enhance.py INPUT -o OUT [--weights W]"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from basicsr.utils.errors import UserError, run_main
from basicsr.utils.files import as_stored
from basicsr.utils.pretrained import OTHER_WEIGHTS, WeightFile, default_weights, describe_weights, locate

_WHICH = 'which network? give --weights FILE (or --opt YAML with path.pretrain_network_g)'


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('input', type=as_stored, metavar='INPUT', help='an image, or a folder of images')
    parser.add_argument('-o', '--output', required=True, metavar='OUT', help='output file, or folder')
    parser.add_argument('--weights', metavar='FILE',
                        help=f'.pth or .safetensors, {OTHER_WEIGHTS}; default: those that come with the toolbox')
    parser.add_argument('--opt', '-opt', metavar='YAML', help='option file, for weights that do not say so')
    parser.add_argument('--key', help='entry of the weight file; default what --opt says, else params_ema, params')
    parser.add_argument('--tile', type=int, default=0, help='work in tiles of this size (0: whole image)')
    parser.add_argument('--tile_overlap', type=int, default=32, help='pixels shared by neighbouring tiles')
    parser.add_argument('--self_ensemble', action='store_true',
                        help='average over flips and rotations (8 times slower)')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1, mps')
    parser.add_argument('--amp', choices=['bf16', 'fp16'], help='half precision')
    parser.add_argument('--sheet', action='store_true', help='also write before/after pictures, *_sheet.png')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    from basicsr.inference.photos import enhance_files, jobs_of, photo_restorer
    jobs = jobs_of(Path(args.input), Path(args.output))
    weights, opt = _weights(args)
    restorer = photo_restorer(weights, opt, key=args.key, device=args.device, tile=args.tile,
                              tile_overlap=args.tile_overlap, ensemble=args.self_ensemble, amp=args.amp)
    failed = enhance_files(restorer, jobs, args.sheet)
    for message in failed:
        sys.stderr.write(f'error: {message}\n')
    if len(jobs) > 1:
        print(f'{len(jobs) - len(failed)} of {len(jobs)} images written to {args.output}')
    return 2 if failed else 0


def _weights(args: argparse.Namespace) -> tuple[WeightFile, dict[str, Any] | None]:
    """The weight file, and the content of the option file where one is given."""
    if not args.opt:
        return locate(args.weights or _default()), None
    from basicsr.config import load_options
    opt = load_options(args.opt, is_train=False, check_files=False).opt
    weights = args.weights or opt['path'].get('pretrain_network_g')
    if not weights:
        raise UserError(_WHICH)
    return locate(weights), opt


def _default() -> str:
    """The weights that come with the toolbox, said in the log."""
    from basicsr.utils.logger import get_root_logger
    name = default_weights()
    if name is None:
        raise UserError(_WHICH)
    get_root_logger().info(f'no --weights given: taking {name}, {describe_weights(name)}')
    return name


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))

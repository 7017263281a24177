"""Enhance photos, without ground truth: enhance.py INPUT ... -o OUT [--weights W]

INPUT is a photo, a folder, a pattern, or - for standard input. OUT is a file, a folder for several, or - for standard output.
"""
from __future__ import annotations

import argparse
import sys
from typing import Any

from basicsr.commands.amount_arguments import add_arguments, amount_of, checked_knobs, parse_with_knobs
from basicsr.utils.errors import UserError, run_main
from basicsr.utils.files import as_stored
from basicsr.utils.pretrained import OTHER_WEIGHTS, WeightFile, default_weights, describe_weights, locate

_WHICH = 'which network? give --weights FILE (or --opt YAML with path.pretrain_network_g)'


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('inputs', type=as_stored, nargs='+', metavar='INPUT', help='photos, folders of them, or -')
    parser.add_argument('-o', '--output', required=True, metavar='OUT',
                        help='output file, whose suffix chooses the format, or folder, or -')
    parser.add_argument('--recursive', action='store_true', help='look into subfolders, which OUT then has as well')
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument('--overwrite', action='store_true', help='replace output files that exist')
    existing.add_argument('--skip_existing', action='store_true',
                          help='leave output files that exist, and do the others')
    parser.add_argument('--weights', metavar='FILE',
                        help=f'.pth or .safetensors, {OTHER_WEIGHTS}; default: those that come with the toolbox')
    parser.add_argument('--opt', '-opt', metavar='YAML', help='option file, for weights that do not say so')
    parser.add_argument('--key', help='entry of the weight file; default what --opt says, else params_ema, params')
    add_arguments(parser)
    parser.add_argument(
        '--tile', type=int,
        help='work in tiles of this size (0: whole images); default: large photos on a CPU, where the'
        ' network answers in tiles almost as it does whole')
    parser.add_argument('--tile_overlap', type=int, default=32, help='pixels shared by neighbouring tiles')
    parser.add_argument('--self_ensemble', action='store_true',
                        help='average over flips and rotations (8 times slower)')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1, mps')
    parser.add_argument('--amp', choices=['bf16', 'fp16'], help='half precision')
    parser.add_argument('--sheet', action='store_true', help='also write before/after pictures, *_sheet.png')
    return parse_with_knobs(parser, argv)


def run(args: argparse.Namespace) -> int:
    from basicsr.photos.inputs import STANDARD, find
    from basicsr.photos.naming import plan, summary
    from basicsr.utils.logger import get_root_logger
    args.amount = amount_of(args)
    found = find(args.inputs, args.recursive, args.output)
    for line in found.passed_over:
        get_root_logger().info(line)
    jobs = plan(found, args.output, args.sheet, args.overwrite, args.skip_existing)
    failed = _enhance(args, jobs.todo) if jobs.todo else []
    for message in failed:
        sys.stderr.write(f'error: {message}\n')
    if len(jobs.todo) + jobs.there > 1 and args.output != STANDARD:
        print(summary(jobs, len(failed), args.output))
    return 2 if failed else 0


def _enhance(args: argparse.Namespace, jobs: list[Any]) -> list[str]:
    """A sentence for each photo that failed."""
    from basicsr.inference.photos import enhance_files, photo_restorer
    opt = _options(args)
    knobs = checked_knobs(args)
    restorer = photo_restorer(_weights(args, opt), opt, key=args.key, device=args.device, knobs=knobs, tile=args.tile,
                              tile_overlap=args.tile_overlap, ensemble=args.self_ensemble, amp=args.amp)
    return enhance_files(restorer, jobs, _to_standard_output, args.amount, args.preview)


def _to_standard_output(content: bytes) -> None:
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except OSError as error:
        error.filename = error.filename or 'standard output'  # what messages call it
        raise


def _options(args: argparse.Namespace) -> dict[str, Any] | None:
    """The content of the option file where one is given."""
    if not args.opt:
        return None
    from basicsr.config import load_options
    return load_options(args.opt, is_train=False, check_files=False).opt


def _weights(args: argparse.Namespace, opt: dict[str, Any] | None) -> WeightFile:
    if opt is None:
        return locate(args.weights or _default())
    weights = args.weights or opt['path'].get('pretrain_network_g')
    if not weights:
        raise UserError(_WHICH)
    return locate(weights)


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

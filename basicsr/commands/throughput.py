"""How fast a training runs here, in every precision that could pay: throughput --opt X.yml --minutes 60"""
from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from basicsr.training.throughput import CANDIDATES, compare
from basicsr.utils.errors import UserError, nearest, run_main
from basicsr.utils.outputs import check_outputs


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--opt', '-opt', required=True, metavar='YAML', help='option file')
    parser.add_argument('--minutes', type=float, default=60, help='say how many iterations fit in this time')
    parser.add_argument('--iterations', type=int, default=20, help='timed for each candidate')
    parser.add_argument('--candidates', metavar='LIST', default='float32,bf16',
                        help=f"of: {', '.join(CANDIDATES)}; default float32,bf16")
    parser.add_argument('--json', metavar='FILE', help='also write the figures here')
    parser.add_argument('overrides', nargs='*', metavar='path=value', help='options for all candidates')
    args = parser.parse_intermixed_args(argv)
    args.candidates = args.candidates.split(',')
    for name in args.candidates:
        if name not in CANDIDATES:
            raise UserError(
                f"--candidates: there is no '{name}'.{nearest(name, CANDIDATES)} One of: {', '.join(CANDIDATES)}")
    if args.iterations < 1 or not (args.minutes > 0 and math.isfinite(args.minutes)):
        raise UserError('--iterations must be at least 1, and --minutes above 0')
    if args.json:
        check_outputs([args.json], [args.opt], '--json')
        above = next(folder for folder in Path(args.json).absolute().parents if folder.exists())
        if Path(args.json).is_dir() or not os.access(above, os.W_OK):
            raise UserError(f"--json: '{args.json}' cannot be written")
    return args


def run(args: argparse.Namespace) -> None:
    for text in compare(args.opt, args.overrides, args.candidates, args.iterations, args.minutes, args.json):
        print(text, flush=True)


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))

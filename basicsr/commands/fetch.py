"""Fetch weights ahead of time: basicsr fetch NAME ..., with names of `basicsr list weights`, or addresses"""
from __future__ import annotations

import argparse
import sys

from basicsr.utils.errors import UserError, run_main
from basicsr.utils.pretrained import locate


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('names', nargs='+', metavar='NAME',
                        help='a name of `basicsr list weights`, hf:OWNER/REPOSITORY[@REVISION][:FILE], or https://...')
    parser.add_argument('--again', action='store_true', help='get it anew, whatever was fetched before')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    failed = 0
    for name in args.names:  # those that follow may be there
        try:
            print(f'{name}: {locate(name, args.again).path}')
        except UserError as error:
            failed += 1
            sys.stderr.write(f'error: {error}\n')
    return 2 if failed else 0


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))

"""Check the data of an option file before training: pairs, sizes, damaged files. basicsr check-data --opt X.yml"""
from __future__ import annotations

import argparse
import sys

from basicsr.utils.errors import run_main


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--opt', '-opt', required=True, metavar='YAML')
    parser.add_argument('overrides', nargs='*', metavar='path=value')
    return parser.parse_intermixed_args(argv)


def run(args: argparse.Namespace) -> int:
    from basicsr.config import load_stages
    stages = load_stages(args.opt, args.overrides, is_train=None)
    from basicsr.data.checking import check_data
    mistakes = check_data(stages)
    for text in mistakes:
        sys.stderr.write(f'error: {text}\n')
    return 2 if mistakes else 0


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return run_main(lambda: run(args))

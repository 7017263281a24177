"""Check the data of an option file before training: pairs, sizes, damaged files. basicsr check-data --opt X.yml"""
from __future__ import annotations

import argparse
import sys

from basicsr.utils.errors import in_a_file, run_main
from basicsr.utils.outputs import check_outputs

_SHOWN = 20


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--opt', '-opt', required=True, metavar='YAML')
    parser.add_argument('--report', metavar='FILE', help=f'write all mistakes here, not only those beyond {_SHOWN}')
    parser.add_argument('overrides', nargs='*', metavar='path=value')
    return parser.parse_intermixed_args(argv)


def run(args: argparse.Namespace) -> int:
    from basicsr.config import load_stages
    from basicsr.config.files import data_of
    stages = load_stages(args.opt, args.overrides, is_train=None)
    if args.report:
        read = [path for stage in stages for block in stage.opt['datasets'].values() for path in data_of(block)]
        check_outputs([args.report], [args.opt, *read], '--report')
    from basicsr.data.checking import check_data
    mistakes = check_data(stages)
    more = len(mistakes) - _SHOWN
    where = in_a_file(mistakes, args.report) if args.report or more > 0 else ''
    for text in mistakes[:_SHOWN]:
        sys.stderr.write(f'error: {text}\n')
    if more > 0:
        sys.stderr.write(f'and {more} more; {where}\n')
    return 2 if mistakes else 0


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))

"""Check the data of an option file before training: pairs, sizes, damaged files. basicsr check-data --opt X.yml"""
from __future__ import annotations

import argparse
import sys

from basicsr.utils.errors import run_main
from basicsr.utils.files import atomic_write
from basicsr.utils.outputs import check_outputs

_SHOWN = 20


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--opt', '-opt', required=True, metavar='YAML')
    parser.add_argument('--report', metavar='FILE', help=f'write all mistakes here, and print the first {_SHOWN} only')
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
    shown = mistakes
    if args.report:
        with atomic_write(args.report, 'w') as file:
            file.writelines(f'{text}\n' for text in mistakes)
        shown = mistakes[:_SHOWN]
    for text in shown:
        sys.stderr.write(f'error: {text}\n')
    if len(shown) < len(mistakes):
        sys.stderr.write(f"and {len(mistakes) - len(shown)} more; all of them are in '{args.report}'\n")
    return 2 if mistakes else 0


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))

"""Enhance photos, without ground truth: enhance.py INPUT ... -o OUT [--weights W]

INPUT is a photo, a folder, a pattern, or - for standard input. OUT is a file, a folder for several, or - for standard output.
"""
from __future__ import annotations

import argparse
import sys
from typing import Any

from basicsr.commands.amount_arguments import add_arguments, amount_of, checked_knobs, parse_with_knobs
from basicsr.commands.weight_arguments import add_running, add_weights, restorer_of
from basicsr.utils.errors import run_main
from basicsr.utils.files import as_stored


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('inputs', type=as_stored, nargs='+', metavar='INPUT', help='photos, folders of them, or -')
    parser.add_argument('-o', '--output', type=as_stored, required=True, metavar='OUT',
                        help='output file, whose suffix chooses the format, or folder, or -')
    parser.add_argument('--recursive', action='store_true', help='look into subfolders, which OUT then has as well')
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument('--overwrite', action='store_true', help='replace output files that exist')
    existing.add_argument('--skip_existing', action='store_true',
                          help='leave output files that exist, and do the others')
    add_weights(parser)
    add_arguments(parser)
    add_running(parser, 'photos')
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
    from basicsr.inference.photos import enhance_files
    restorer = restorer_of(args, checked_knobs(args))
    return enhance_files(restorer, jobs, _to_standard_output, args.amount, args.preview)


def _to_standard_output(content: bytes) -> None:
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except OSError as error:
        error.filename = error.filename or 'standard output'  # what messages call it
        raise


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))

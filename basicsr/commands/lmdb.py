"""Pack a folder of images into an LMDB database in BasicSR's format: basicsr lmdb FOLDER OUT.lmdb"""
from __future__ import annotations

import argparse

from basicsr.utils.errors import run_main
from basicsr.utils.files import as_stored


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=as_stored, help='images to pack; keys are file names without extension')
    parser.add_argument('output', type=as_stored, help="database to make, a new folder whose name ends in '.lmdb'")
    parser.add_argument('--compress_level', type=int, default=1, choices=range(10), help='of PNG')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    from basicsr.data.packing import make_lmdb
    print(f'{make_lmdb(args.folder, args.output, args.compress_level)} images packed into {args.output}')


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))

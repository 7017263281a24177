"""Compare weights of all kinds on one data set, in one table: benchmark Options/benchmarks/lol_v1.yml"""
from __future__ import annotations

import argparse
from pathlib import Path

from basicsr.utils.errors import run_main


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('board', metavar='YAML', help='data set and weights, e.g. Options/benchmarks/lol_v1.yml')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1, mps')
    parser.add_argument('--root', metavar='DIR', help='folder of results/, default the checkout')
    parser.add_argument('--report_only', action='store_true',
                        help='measure nothing, write the tables from what is there')
    parser.add_argument(
        '--into', type=Path, metavar='FILE',
        help="also put the table into a Markdown file, between '<!-- board NAME -->' and '<!-- end -->'")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    from basicsr.config import project_root
    from basicsr.leaderboard.board import read_board
    from basicsr.leaderboard.embedding import find_section
    board = read_board(args.board, Path(args.root).resolve() if args.root else project_root())
    into = find_section(args.into, board.name) if args.into else None

    # everything above takes no torch, so that mistakes are reported at once
    from basicsr.leaderboard.conduct import conduct
    return conduct(board, args.device, args.report_only, into)


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))

"""Search for options by many short runs: basicsr search --opt X.yml --space Y.yml --trials 30"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from basicsr.utils.errors import UserError, run_main

if TYPE_CHECKING:
    from basicsr.search.run import Search


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--opt', '-opt', required=True, metavar='YAML', help='option file that every trial starts from')
    parser.add_argument('--space', required=True, metavar='YAML', help='what to try, see docs/search.md')
    parser.add_argument('--trials', required=True, type=int, metavar='N',
                        help='end when the study has N finished trials')
    parser.add_argument('--storage', metavar='URL',
                        help='database, default sqlite:/// and study.db in the folder of results')
    parser.add_argument('--study', metavar='NAME',
                        help='name of the study and of its folders, default the name of the run')
    parser.add_argument('--metric', metavar='LABEL', help='label in val.metrics, default val.best_metric')
    parser.add_argument('overrides', nargs='*', metavar='path=value',
                        help='e.g. num_gpu=1; they go into best.yml as well')
    args = parser.parse_intermixed_args(argv)
    if args.trials < 1:
        raise UserError(f'--trials {args.trials}: must be at least 1')
    return args


def run(args: argparse.Namespace) -> None:
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UserError("searching needs Optuna, which is not installed; pip install 'retinexmamba[hpo]'") from error
    from basicsr.search.conduct import conduct
    conduct(*prepare(args))


def prepare(args: argparse.Namespace) -> tuple[Search, Path]:
    """Check everything and open the study. Returns the search and the folder of its results."""
    from basicsr.search.conduct import prepare
    return prepare(args.opt, args.space, args.overrides, args.trials, args.storage, args.study, args.metric)


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))

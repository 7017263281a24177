"""Search for options by many short runs: basicsr search --opt X.yml --space Y.yml --trials 30"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from basicsr.utils.errors import UserError, nearest, run_main

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
    from basicsr.search.results import write_results
    from basicsr.search.run import describe_failures
    search, folder = prepare(args)
    try:
        search.run()
    finally:  # also after a stop: what there is so far
        completed = any(t.state.name == 'COMPLETE' for t in search.study.get_trials(deepcopy=False))
        if completed:
            print('\n'.join(write_results(search, folder)))
            print(f'{search.finished()} of {search.trials} trials are finished; train with the best options:\n'
                  f'  python basicsr/train.py --opt {folder / "best.yml"}')
    if not completed:
        raise UserError(f'none of {search.finished()} trials was completed{describe_failures(search.study)}')


def prepare(args: argparse.Namespace) -> tuple[Search, Path]:
    """Check everything and open the study. Returns the search and the folder of its results."""
    from basicsr.config.overrides import apply_overrides
    from basicsr.config.report import Problems
    from basicsr.config.yaml_reader import read_yaml
    from basicsr.engine.early_stop import better_is
    from basicsr.search.space import check_space, read_space
    space = read_space(args.space)
    opt = check_space(space, args.space, args.opt, args.overrides)
    metric = _metric(opt, args)
    direction = space.direction or {'higher': 'maximize', 'lower': 'minimize'}[better_is(opt['val']['metrics'], metric)]
    data, source = read_yaml(args.opt)
    apply_overrides(data, args.overrides, Problems(source))
    base_name = Path(opt['path']['experiments_root']).name
    name = args.study or base_name
    folder = Path(opt['path']['experiments_root']).with_name(f'{name}_search')
    folder.mkdir(parents=True, exist_ok=True)
    from basicsr.search.run import Search
    from basicsr.search.study import make_pruner, open_study
    study = open_study(args.storage or f'sqlite:///{folder / "study.db"}', name, direction,
                       {'options': data, 'space file': space.content, 'metric': metric})
    total = opt['train']['total_iter']
    study.pruner = make_pruner(space.pruner, opt['val'].get('val_freq') or total, total)
    return Search(study, space, Path(args.opt), args.overrides, metric, args.trials), folder


def _metric(opt: dict, args: argparse.Namespace) -> str:
    """The label to search by. Raises `UserError` where nothing measures it."""
    metrics = opt['val'].get('metrics')
    if not metrics or not any(key.startswith('val') for key in opt['datasets']):
        raise UserError(f"'{args.opt}' has no validation to search by; give datasets.val and val.metrics")
    metric = args.metric or opt['val'].get('best_metric') or next(iter(metrics))
    if metric not in metrics:
        raise UserError(f"--metric '{metric}' is none of the metrics: {', '.join(metrics)}.{nearest(metric, metrics)}")
    return metric


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))

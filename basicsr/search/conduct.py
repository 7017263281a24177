"""A search from its files to the best options."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from basicsr.config import find_yaml
from basicsr.config.base import read_options
from basicsr.config.overrides import apply_overrides
from basicsr.config.report import Problems
from basicsr.data.build import build_val_data
from basicsr.metrics import better
from basicsr.registry import MODEL_REGISTRY
from basicsr.search import study as studies
from basicsr.search.results import write_results
from basicsr.search.run import Search, describe_failures
from basicsr.search.space import check_space, read_space
from basicsr.training.preflight import check_training_data, check_validation
from basicsr.utils.errors import UserError, nearest
from basicsr.utils.files import kept
from basicsr.utils.names import checked

_MOST_TRIALS = 999_999  # their numbers are part of the names of runs


def conduct(search: Search, folder: Path) -> None:
    """Run the trials; print and write what they found, also when they are stopped.

    Raises `UserError` when none was completed.
    """
    with kept(folder):
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


def prepare(option_file: str, space_file: str, overrides: list[str], trials: int, storage: str | None = None,
            study_name: str | None = None, metric: str | None = None) -> tuple[Search, Path]:
    """Check everything and open the study. Returns the search and the folder of its results.

    The arguments are those of `basicsr search`. Raises `UserError` for mistakes in them and in the files.
    """
    option_file, space_file = (str(find_yaml(file)) for file in (option_file, space_file))
    space = read_space(space_file)
    opt = check_space(space, space_file, option_file, overrides)
    label = _metric(opt, option_file, metric)
    direction = space.direction or {'higher': 'maximize', 'lower': 'minimize'}[better(opt['val']['metrics'][label])]
    data, source = read_options(option_file)
    apply_overrides(data, overrides, Problems(source))
    check_validation(opt, MODEL_REGISTRY.get(opt['model_type']), build_val_data(opt), ('--metric', label))
    check_training_data(opt['datasets']['train'])
    run = Path(opt['path']['experiments_root'])
    name = run.name if study_name is None else checked(study_name, '--study')
    checked(f'{name}_trial{_MOST_TRIALS}', 'the name of the study with that of a trial behind it')
    folder = run.with_name(f'{name}_search')
    folder.mkdir(parents=True, exist_ok=True)
    study = studies.open_study(storage or f'sqlite:///{folder / "study.db"}', name, direction,
                               {'options': data, 'space file': space.content, 'metric': label})
    total = opt['train']['total_iter']
    study.pruner = studies.make_pruner(space.pruner, opt['val'].get('val_freq') or total, total)
    return Search(study, space, Path(option_file), overrides, label, trials), folder


def _metric(opt: dict[str, Any], file: str, wanted: str | None) -> str:
    """The label to search by. Raises `UserError` where nothing measures it."""
    metrics = opt['val']['metrics']
    if not metrics or not any(key.startswith('val') for key in opt['datasets']):
        raise UserError(f"'{file}' has no validation to search by; give datasets.val and val.metrics")
    metric = wanted or opt['val'].get('best_metric') or next(iter(metrics))
    if metric not in metrics:
        raise UserError(f"--metric '{metric}' is none of the metrics: {', '.join(metrics)}.{nearest(metric, metrics)}")
    return metric

"""What a search leaves: the best options ready to train, a table, pictures."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from basicsr.config.base import read_options
from basicsr.config.files import pin_files
from basicsr.config.overrides import apply_overrides
from basicsr.config.report import Problems
from basicsr.config.yaml_reader import dump_yaml
from basicsr.search.run import Search
from basicsr.search.study import ERROR, finished, quiet
from basicsr.utils.files import atomic_write, write_json


def write_results(search: Search, folder: Path) -> list[str]:
    """Write `best.yml`, `best_params.json`, `history.png` and `importance.png`; returns the lines of a table.

    The study must have a completed trial.
    """
    study, best = search.study, search.study.best_trial
    params = {path: search.space.parameters[path].decode(v) for path, v in best.params.items()}
    write_best_options(search, params, folder / 'best.yml')
    write_json(
        folder / 'best_params.json', {
            'study': study.study_name, 'trial': best.number, 'run': f'{study.study_name}_trial{best.number}',
            'metric': search.metric, 'value': best.value, 'params': params, 'fixed': search.space.fixed,
            'trial_only': search.space.trial_only
        })
    lines = table(search)
    _picture(optuna.visualization.matplotlib.plot_optimization_history, folder / 'history.png', study)
    if sum(t.state == TrialState.COMPLETE for t in study.get_trials(deepcopy=False)) < 2:
        lines.append('No importance.png: the influence of options shows from two completed trials on')
    else:
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()  # the one that needs no further package
        _picture(optuna.visualization.matplotlib.plot_param_importances, folder / 'importance.png', study,
                 evaluator=evaluator)
    return lines


def write_best_options(search: Search, params: dict[str, Any], target: Path) -> None:
    """The option file with the overrides of the search, what it fixes, and the best values; not what trials alone use."""
    data, source = read_options(search.option_file)
    chosen = search.space.fixed | params
    apply_overrides(data, [*search.base, *(f'{k}={json.dumps(v)}' for k, v in chosen.items())], Problems(source))
    data['name'] = f'{search.study.study_name}_best'
    header = (f'# {search.option_file.name} with the best of {search.finished()} trials: {search.metric}'
              f' {search.study.best_value:.4f} in trial {search.study.best_trial.number}\n')
    with atomic_write(target, 'w') as file:
        file.write(header + dump_yaml(pin_files(data, source)))


def table(search: Search) -> list[str]:
    """One line per finished trial: best value, iteration of the last validation, what was tried."""
    parameters = search.space.parameters
    heads = [path.removeprefix('train.') for path in parameters]
    widths = [max(len(head), 10) for head in heads]
    tried = '  '.join(f'{h:>{w}}' for h, w in zip(heads, widths))
    lines = [f'{"trial":>5}  {"state":<8} {search.metric:>10} {"iter":>8}  {tried}']
    for trial in filter(finished, search.study.get_trials(deepcopy=False)):
        value = f'{trial.value:.4f}' if trial.state == TrialState.COMPLETE else ''
        cells = [_text(parameters[p].decode(trial.params[p])) if p in trial.params else '' for p in parameters]
        note = 'best' if trial.number == search.study.best_trial.number else trial.user_attrs.get(ERROR, '')
        line = f'{trial.number:>5}  {trial.state.name.lower():<8} {value:>10} {trial.last_step or "":>8}  '
        line += '  '.join(f'{c:>{w}}' for c, w in zip(cells, widths))
        note = note.partition('\n')[0][:80]
        lines.append(f'{line}  {note}'.rstrip())
    return lines


def _text(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, float) else json.dumps(value)


def _picture(draw: Any, target: Path, study: optuna.Study, **kwargs: Any) -> None:
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    with quiet():
        figure = draw(study, **kwargs).figure
    with atomic_write(target) as file:
        figure.savefig(file, format='png', dpi=110, bbox_inches='tight')
    plt.close(figure)

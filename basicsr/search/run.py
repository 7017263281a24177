"""Trials of a search: each is a normal training run that reports its validations and may be pruned."""
from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import TrialState

from basicsr.config import load_options
from basicsr.config.overrides import as_overrides
from basicsr.engine.best import improves
from basicsr.search.space import Space
from basicsr.search.study import ERROR, fail_dead_trials, finished, make_sampler, taken
from basicsr.training.early_stop import Stop, Values, first_result
from basicsr.training.run import train
from basicsr.utils.errors import UserError
from basicsr.utils.logger import close_log_file, get_root_logger

# what ends a trial but not the search; all else is a defect, or ends every trial alike
FAILURES = (UserError, MemoryError, torch.OutOfMemoryError)


class _Surplus(Exception):
    """Another process took the last trial in the same moment."""


class Report:
    """Callback of the training loop: tells Optuna every validation, and ends a trial that is not worth its time.

    Attributes:
        best: best value so far, None before the first. pruned: whether the trial was ended.
    """

    def __init__(self, trial: optuna.Trial, metric: str):
        self.trial, self.metric = trial, metric
        self.better = 'higher' if trial.study.direction == optuna.study.StudyDirection.MAXIMIZE else 'lower'
        self.best: float | None = None
        self.pruned = False

    def on_validation(self, iteration: int, results: Values) -> None:
        value = first_result(results, self.metric)
        if improves(value, self.best, self.better):
            self.best = value
        self.trial.report(value, iteration)
        if not math.isnan(value) and self.trial.should_prune():
            self.pruned = True
            raise Stop(f'the search has pruned trial {self.trial.number}')


class Search:
    """Runs trials of a study until it has a number of finished ones, counted over all processes.

    Args:
        option_file, overrides: what every trial starts from. metric: label in `val.metrics`.
        trials: finished trials at which the search ends.
    """

    def __init__(self, study: optuna.Study, space: Space, option_file: Path, overrides: list[str], metric: str,
                 trials: int):
        self.study, self.space, self.option_file = study, space, option_file
        self.base, self.metric, self.trials = overrides, metric, trials

    def run(self, wait: Callable[[], None] = lambda: time.sleep(5)) -> None:
        """`wait` is called while other processes run the last trials: one that is killed leaves its trial to us."""
        waiting = False
        self.study.sampler = make_sampler(self.space.sampler, len(self.study.get_trials(deepcopy=False)))
        while self.finished() < self.trials:
            fail_dead_trials(self.study)
            if taken(self.study) < self.trials:
                self.study.optimize(self._trial, n_trials=1, catch=(*FAILURES, _Surplus), gc_after_trial=True)
                continue
            if not waiting:
                get_root_logger().info('Other processes run the last trials; waiting for them')
            waiting = True
            wait()

    def finished(self) -> int:
        return sum(map(finished, self.study.get_trials(deepcopy=False)))

    def _trial(self, trial: optuna.Trial) -> float:
        if taken(self.study, before=trial.number) >= self.trials:
            raise _Surplus
        values = {path: p.suggest(trial, path) for path, p in self.space.parameters.items()}
        get_root_logger().info(f'Trial {trial.number} ({self.finished()} of {self.trials} finished): '
                               f'{", ".join(as_overrides(values))}')
        torch.cuda.empty_cache()  # what an earlier trial has left
        report = Report(trial, self.metric)
        try:
            self._train(trial.number, values, report)
            if report.best is None:
                raise UserError(f'{self.metric} was never a number')
        except FAILURES as error:
            trial.set_user_attr(ERROR, f'{type(error).__name__}: {error}'[:500])
            get_root_logger().warning(f'Trial {trial.number} failed: {error}')
            raise
        finally:
            close_log_file()
        if report.pruned:
            raise optuna.TrialPruned
        return report.best

    def _train(self, number: int, values: dict[str, Any], report: Report) -> None:
        name = f'{self.study.study_name}_trial{number}'
        overrides = [*self.base, *self.space.overrides(values), f'name={name}']
        loaded = load_options(self.option_file, overrides, is_train=True)
        loaded.command = ['basicsr', 'train', '--opt', str(self.option_file), *overrides]  # makes the same run again
        train(loaded, 'none', [report])


def describe_failures(study: optuna.Study) -> str:
    """Why trials failed: the reason of the last one."""
    errors = [
        t.user_attrs[ERROR] for t in study.get_trials(deepcopy=False, states=[TrialState.FAIL]) if ERROR in t.user_attrs
    ]
    return f'; the last that failed: {errors[-1]}' if errors else ''

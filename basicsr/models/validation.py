"""BasicSR's validation methods: for programs of others, which call them, and models of others, which override them.

The training loop calls them on models that do; all other models it evaluates itself, by the same function.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from basicsr.data.loader import ImageLoader, share_of, whole
from basicsr.engine.best import BestMetrics, Table
from basicsr.evaluation.evaluate import Results
from basicsr.evaluation.validation import log_results, validate


class Driver(Protocol):
    """What drives a model: the training loop, or nobody (`Alone`)."""
    best: BestMetrics

    def report(self, dataset: str, metric: str, value: float, iteration: int) -> None:
        """Take the value of a metric on a validation set; the best is kept there, with its weights."""

    def state_dict(self) -> dict[str, Any]:
        """What training states hold beside the model's own: `run_state` and `best`."""


class Alone:
    """Keeps what a model reports where no training loop does."""

    def __init__(self, opt: dict[str, Any]):
        self.best = BestMetrics(opt['val']['metrics'], opt['val'].get('best_metric'))

    def report(self, dataset: str, metric: str, value: float, iteration: int) -> None:
        self.best.report(dataset, metric, value, iteration)

    def state_dict(self) -> dict[str, Any]:
        return {'run_state': {}, 'best': self.best.table}


class ValidationMethods:
    """The part of BasicSR's model contract that measures.

    Attributes:
        driver: where reports go.
        metric_results: mean of each metric over the images of the last validation; not there before the first one.
    """
    opt: dict[str, Any]
    driver: Driver
    metric_results: dict[str, float]
    _found: Results | None = None  # of the last validation by these methods
    _best: Table | None = None  # of a model that keeps its own

    def attach(self, driver: Driver) -> None:
        """Called by the training loop: from now on it keeps the best, and its position goes into training states."""
        self.driver = driver

    @contextmanager
    def validating(self) -> Iterator[None]:
        """Around a validation: what a model has to do before and after it."""
        yield

    def validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool = False) -> Any:
        """Measure one validation set; `current_iter` is the iteration, or the run's name when testing."""
        run = self.dist_validation if self.opt['dist'] else self.nondist_validation
        with self.validating():
            return run(dataloader, current_iter, tb_logger, save_img)

    def dist_validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> Any:
        return self.nondist_validation(dataloader, current_iter, tb_logger, save_img)

    def nondist_validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> Any:
        name = dataloader.dataset.opt['name']
        found = self._found = validate(self, share_of(dataloader), current_iter, tb_logger, save_img)
        self.metric_results = found.means
        if self.opt['is_train']:
            self._initialize_best_metric_results(name)
            for metric, value in found.means.items():
                # a mean of the images that went well is not to be compared with that of all
                self._update_best_metric_result(name, metric, math.nan if found.not_finite else value,
                                                int(current_iter))
        self._log_validation_metric_values(current_iter, name, tb_logger)
        return found

    @property
    def best_metric_results(self) -> Table:
        return self.driver.best.table if self._best is None else self._best

    @best_metric_results.setter
    def best_metric_results(self, table: Table) -> None:
        self._best = table

    def _initialize_best_metric_results(self, dataset_name: str) -> None:
        self.best_metric_results.setdefault(dataset_name, {})

    def _update_best_metric_result(self, dataset_name: str, metric: str, val: float, current_iter: int) -> None:
        self.driver.report(dataset_name, metric, val, current_iter)

    def _log_validation_metric_values(self, current_iter: int | str, dataset_name: str, tb_logger: Any) -> None:
        best = self.best_metric_results.get(dataset_name) if self.opt['is_train'] else None
        log_results(dataset_name, self._found or self.metric_results, self.opt['val']['metrics'], current_iter,
                    tb_logger, best)


_OWN = ('validation', 'dist_validation', 'nondist_validation', '_initialize_best_metric_results',
        '_update_best_metric_result', '_log_validation_metric_values')


def validates_itself(model: Any) -> bool:
    """Whether a model, or a class of them, overrides how it is validated, as BasicSR allows; others always do."""
    kind = model if isinstance(model, type) else type(model)
    return any(getattr(kind, name, None) is not getattr(ValidationMethods, name) for name in _OWN)


def measure_model(model: Any, loader: ImageLoader, iteration: int | str, tb_logger: Any, save_img: bool) -> Results:
    """What a model does on a data set: ours is evaluated, one that validates itself does so.

    That one is given all images on every process, as its loops know of no shares. What it found is what it returns, else
    what the methods of this module found when it called them, else the means that it leaves in `metric_results`.
    """
    if not validates_itself(model):
        with model.validating():
            return validate(model, loader, iteration, tb_logger, save_img)
    for left in ('metric_results', '_found'):  # by the data set before
        vars(model).pop(left, None)
    returned = model.validation(whole(loader), iteration, tb_logger, save_img)
    for found in (returned, getattr(model, '_found', None)):
        if isinstance(found, Results):
            return found
    means = returned if isinstance(returned, Mapping) else getattr(model, 'metric_results', None) or {}
    return Results.of_means(loader.dataset.opt['name'], means)

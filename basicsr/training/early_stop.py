"""What may end a run before `train.total_iter`: callbacks of the training loop, and the one that waits for progress."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from basicsr.engine.best import improves
from basicsr.metrics import better
from basicsr.utils.errors import UserError

Values = Mapping[str, Mapping[str, float]]  # of a validation: data set to metric to value


class Stop(Exception):
    """Raised by a callback: the run ends here, in order, with its last weights saved. The text is the reason."""


class Callback(Protocol):
    """What the training loop calls, on every process with the same values."""

    def on_validation(self, iteration: int, results: Values) -> None:
        """`results`: data set to metric to value, in the order of the validation sets. May raise `Stop`."""


def first_result(results: Values, metric: str) -> float:
    """The metric on the first validation set. Raises `UserError` where that has not been measured."""
    name, values = next(iter(results.items()))
    if metric not in values:
        raise UserError(f"'{metric}' was not measured on the validation set '{name}': it has no ground truth")
    return values[metric]


class EarlyStop:
    """Ends a run whose metric on the first validation set has not improved for `patience` validations.

    Args:
        opt: options with `train.early_stop` and `val.metrics`.
        state: `state` of an earlier start of the run, which goes on as if it had not been interrupted.
    """

    def __init__(self, opt: dict[str, Any], state: dict[str, Any] | None = None):
        options, val = opt['train']['early_stop'], opt['val']
        self.metric = options.get('metric') or val.get('best_metric') or next(iter(val['metrics']))
        self.better = better(val['metrics'][self.metric])
        self.patience, self.min_delta = options['patience'], options.get('min_delta', 0)
        self.state = dict(state or {'best': None, 'iter': 0, 'waited': 0})

    def on_validation(self, iteration: int, results: Values) -> None:
        value = first_result(results, self.metric)
        if improves(value, self.state['best'], self.better, self.min_delta):
            self.state = {'best': value, 'iter': iteration, 'waited': 0}
            return
        self.state['waited'] += 1
        if self.state['waited'] >= self.patience:
            best = self.state['best']
            raise Stop(f'{self.metric} has not improved for {self.state["waited"]} validations' +
                       ('' if best is None else f'; best {best:.4f} at iteration {self.state["iter"]}'))

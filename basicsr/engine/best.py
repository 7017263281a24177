"""The best value of each metric on each validation set, and which of them chooses the best weights."""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from basicsr.metrics import better

Table = dict[str, dict[str, dict[str, Any]]]  # data set to metric to {better, val, iter}


class BestMetrics:
    """What was best so far.

    Args:
        metrics: option blocks of `val.metrics`, by label.
        chosen: label of the metric that chooses the best weights, default the first.

    Attributes:
        table: data set to metric to `{better, val, iter}`, as training states hold it.
    """

    def __init__(self, metrics: Mapping[str, Mapping[str, Any]], chosen: str | None = None):
        self.metrics = metrics
        self.chosen = chosen or next(iter(metrics), None)
        self.table: Table = {}

    def report(self, dataset: str, metric: str, value: float, iteration: int) -> bool:
        """Take over a value; NaN is never the best. Returns whether the weights that gave it are the best ones.

        That is decided by the chosen metric on the first data set that has it.
        """
        before = self.table.setdefault(dataset, {}).get(metric)
        way = better(self.metrics[metric]) if metric in self.metrics else 'higher'
        if not improves(value, before['val'] if before else None, way):
            return False
        self.table[dataset][metric] = {'better': way, 'val': value, 'iter': iteration}
        first = next((name for name, found in self.table.items() if self.chosen in found), None)
        return metric == self.chosen and dataset == first


def improves(value: float, best: float | None, better: str, min_delta: float = 0) -> bool:
    """Whether `value` is better than `best` by more than `min_delta`. NaN never is; all else is better than none or NaN."""
    if math.isnan(value) or best is None or math.isnan(best):
        return not math.isnan(value)
    return (value - best if better == 'higher' else best - value) > min_delta

"""What a data set may say of itself beyond its items, and what is taken where it says nothing.

A data set needs `__len__` and `__getitem__` alone. One that mixes several tasks, or lies in a published tree of folders of
which parts may be missing, has some of these methods as well; whoever wants to know asks through `about`.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from basicsr.data.loader import Failed, ImageLoader, Samples, SeededSamples
from basicsr.metrics.tasks import task_of
from basicsr.utils.errors import UserError

Size = tuple[int, int]  # height, width in pixels


class SaysMore(Protocol):
    """The optional methods of a data set. `TaskSamples` has all of them."""

    def summary(self) -> str:
        """What was found, a line for each task. Shown where training and evaluation start, and by `check-data`."""

    def absent(self) -> list[str]:
        """Folders of the published data that it goes without. Training warns of them, `check-data` names them."""

    def stored(self) -> Samples:
        """Every stored sample once and whole, as in a test, where an epoch repeats or draws them. `check-data` reads it."""

    def tasks(self) -> list[str]:
        """The task of each item, '' for none, in the order of the items. `evaluate --benchmarks` chooses by it."""

    def input_size(self, index: int) -> Size | None:
        """The size of an item's whole input, by the headers of its files, without decoding.

        Raises `UserError` where, as far as these tell, a file of the item cannot be read or does not go with the others.
        """

    def has_gt(self) -> bool:
        """Whether any item has a ground truth. Without one, metrics that compare measure nothing."""


def about(dataset: Samples) -> SaysMore:
    """All optional methods of a data set: its own, and defaults for those that it lacks.

    By default there is no summary, nothing is absent, what is stored is the data set itself, and its tasks are those that
    its items carry, for which every item is read. Sizes are not known; there is a ground truth where the first item has one.
    """
    return _About(dataset)


class _About:

    def __init__(self, dataset: Samples):
        self._dataset = dataset

    def summary(self) -> str:
        return self._own('summary', lambda: '')

    def absent(self) -> list[str]:
        return self._own('absent', list)

    def stored(self) -> Samples:
        return self._own('stored', lambda: self._dataset)

    def tasks(self) -> list[str]:
        return self._own('tasks', lambda: _tasks_of_items(self._dataset))

    def input_size(self, index: int) -> Size | None:
        if _depth(type(self._dataset), '__getitem__') < _depth(type(self._dataset), 'input_size'):
            return None  # a class derived from ours, which makes other samples of the same files, or of others
        return self._own('input_size', lambda index: None, index)

    def has_gt(self) -> bool:
        return self._own('has_gt', lambda: 'gt' in _first_item(self._dataset))

    def _own(self, name: str, default: Callable[..., Any], *args: Any) -> Any:
        # its own: one that passes on what it lacks to a data set inside answers for other items; and another meaning
        # of the name takes other arguments
        own = hasattr(type(self._dataset), name) or name in getattr(self._dataset, '__dict__', ())
        method = getattr(self._dataset, name) if own else None
        return method(*args) if callable(method) and _takes(method, args) else default(*args)


def _takes(method: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    try:
        inspect.signature(method).bind(*args)
    except TypeError:
        return False
    return True


def _depth(kind: type, method: str) -> int:
    """How far up among the classes of a data set one has this method itself."""
    return next((i for i, cls in enumerate(kind.__mro__) if method in vars(cls)), 0)


def _first_item(dataset: Samples) -> Any:
    item = SeededSamples(dataset, {})[0]
    if isinstance(item, Failed):
        raise UserError(item.message)
    return item


def _tasks_of_items(dataset: Samples) -> list[str]:
    return [task_of(batch) for batch in ImageLoader(dataset, {}, batch_size=1)]

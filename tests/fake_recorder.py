"""Stands in for CUDA graphs on a machine without a GPU."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


class FakeRecorder:
    """Records by keeping the call, executes nothing, and replays by calling again: the results keep their places.

    Args:
        wait: sentence of each watched call, as if the host had waited in it; a list is used up.
        breaks: raised while recording.
    """

    def __init__(self, wait: str | list[str | None] | None = None, breaks: Exception | None = None):
        self.wait_for, self.breaks = wait, breaks
        self.log: list[str] = []

    def warm(self, call: Callable[[], Any], watched: bool) -> tuple[Any, str | None]:
        self.log.append('watch' if watched else 'warm')
        wait = self.wait_for.pop(0) if isinstance(self.wait_for, list) else self.wait_for
        return call(), wait if watched else None

    def record(self, call: Callable[[], Any]) -> FakeRecording:
        self.log.append('record')
        if self.breaks:
            raise self.breaks
        return FakeRecording(call, self.log)

    def wait(self) -> None:
        self.log.append('wait')

    def new_pool(self) -> None:
        self.log.append('new pool')


class FakeRecording:

    def __init__(self, call: Callable[[], Any], log: list[str]):
        self.call, self.log, self.outputs = call, log, None

    def replay(self) -> None:
        self.log.append('replay')
        results = self.call()
        if self.outputs is None:
            self.outputs = results
        else:
            for mine, new in zip(_tensors(self.outputs), _tensors(results)):
                mine.copy_(new)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return [t for v in values for t in _tensors(v)]

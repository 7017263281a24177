"""What is not finite ends a run, without the host waiting for every iteration to end."""
from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from basicsr.utils.dist import get_dist_info
from basicsr.utils.errors import UserError

GRADIENT_NORM = 'gradient norm'  # named when all losses are finite; otherwise it could not be


class _Copy:
    """A tensor on its way from the GPU to memory that the GPU can write to by itself."""

    def __init__(self, flags: Tensor):
        self.flags = torch.empty(flags.shape, dtype=flags.dtype, pin_memory=True)
        self.flags.copy_(flags, non_blocking=True)
        self.event = torch.cuda.Event()
        self.event.record()

    def arrived(self) -> bool:
        return self.event.query()

    def values(self) -> list[bool]:
        """Waits for it."""
        self.event.synchronize()
        return self.flags.tolist()


class _Step(NamedTuple):
    iteration: int
    names: Sequence[str]
    paths: Sequence[str]
    copy: Any


class FiniteWatch:
    """Looks at the flags of earlier iterations, and raises `UserError` for the first that was not finite.

    Args:
        limit: iterations that may be on their way; the host waits for the oldest beyond that.
        copy: what brings flags to the host: `arrived()`, `values()`.
    """

    def __init__(self, limit: int = 8, copy: Any = _Copy):
        self.limit, self.copy = limit, copy
        self._steps: deque[_Step] = deque()

    def add(self, iteration: int, names: Sequence[str], flags: Tensor, paths: Sequence[str]) -> None:
        """`flags`: bool, one for each name, True for finite. `paths`: files of the batch. On the CPU judged at once."""
        if flags.device.type == 'cpu' and self.copy is _Copy:
            _judge(iteration, names, flags.tolist(), paths)
            return
        self._steps.append(_Step(iteration, names, paths, self.copy(flags)))
        while self._steps and (len(self._steps) > self.limit or self._steps[0].copy.arrived()):
            self._judge_oldest()

    def drain(self) -> None:
        """Wait for all of them."""
        while self._steps:
            self._judge_oldest()

    def _judge_oldest(self) -> None:
        step = self._steps.popleft()
        _judge(step.iteration, step.names, step.copy.values(), step.paths)


def _judge(iteration: int, names: Sequence[str], finite: Sequence[bool], paths: Sequence[str]) -> None:
    bad = [name for name, good in zip(names, finite) if not good]
    bad = [name for name in bad if name != GRADIENT_NORM] or bad
    if bad:
        raise UserError(
            f"{', '.join(bad)} is not finite at iteration {iteration} (rank {get_dist_info()[0]}), so training"
            f" stops; weights are as of the last checkpoint. Files of this batch: {', '.join(paths) or 'unknown'}")

"""What is not finite is found without the host waiting for every iteration to end."""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

GRADIENT_NORM = 'gradient norm'  # named when all losses are finite; otherwise it could not be
ELSEWHERE = 'a loss of another process'  # named when all is finite here


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


class Step(NamedTuple):
    """A training step.

    Attributes:
        names: of losses, `GRADIENT_NORM` and `ELSEWHERE`. paths: files of the batch. batch: what the network was given, and
            the ground truth.
    """
    iteration: int
    names: Sequence[str]
    paths: Sequence[str]
    batch: Sequence[Tensor] = ()


class FiniteWatch:
    """Looks at the flags of earlier iterations, and tells of those that were not finite.

    Args:
        tell: is called with each, `names` being what was not finite; it may raise.
        limit: iterations that may be on their way; the host waits for the oldest beyond that.
        copy: what brings flags to the host: `arrived()`, `values()`.
        in_step: whether several processes look, all at the same iteration, however fast each is.
    """

    def __init__(self, tell: Callable[[Step], None], limit: int = 8, copy: Any = _Copy, in_step: bool = False):
        self.tell, self.limit, self.copy, self.in_step = tell, limit, copy, in_step
        self._steps: deque[tuple[Step, Any]] = deque()

    def add(self, step: Step, flags: Tensor) -> None:
        """`flags`: bool, one for each name, True for finite. On the CPU judged at once."""
        if flags.device.type == 'cpu' and self.copy is _Copy:
            self._judge(step, flags.tolist())
            return
        self._steps.append((step, self.copy(flags)))
        while self._steps and (len(self._steps) > self.limit or (not self.in_step and self._steps[0][1].arrived())):
            self._judge_oldest()

    def drain(self) -> None:
        """Wait for all of them."""
        while self._steps:
            self._judge_oldest()

    def clear(self) -> None:
        """Forget those on their way."""
        self._steps.clear()

    def _judge_oldest(self) -> None:
        step, copy = self._steps.popleft()
        self._judge(step, copy.values())

    def _judge(self, step: Step, finite: Sequence[bool]) -> None:
        wrong = [name for name, good in zip(step.names, finite) if not good]
        losses = [name for name in wrong if name not in (GRADIENT_NORM, ELSEWHERE)]
        if wrong:  # a loss, here or elsewhere, makes the common gradients so
            self.tell(step._replace(names=losses or [name for name in wrong if name == ELSEWHERE] or wrong))

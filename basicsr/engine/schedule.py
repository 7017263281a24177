"""Learning-rate schedules, stepped once per iteration.

Every schedule is a closed formula of the number of steps done, so warm-up and resuming cannot leave a trace in it.
With `e` steps done, iteration e + 1 trains at `factor`-formula(e).
"""
from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, MinLen
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from basicsr.registry import SCHEDULER_REGISTRY
from basicsr.utils.values import Count, Fraction, Natural, NonNegative, Positive


class ClosedFormLR(LRScheduler):
    """Base: `rate(e, base)` gives the learning rate after `e` steps of a group whose initial rate is `base`."""

    def rate(self, e: int, base: Any) -> float:
        raise TypeError(f'{type(self).__name__} does not define its formula')

    def get_lr(self) -> Any:
        return [self.rate(self.last_epoch, base) for base in self.base_lrs]

    def move_to(self, steps: int) -> None:
        """Go on after so many steps, as if all had been done by this schedule."""
        self.last_epoch, self._step_count = steps, steps + 1
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr):
            group['lr'] = rate


def follows_options(scheduler: Any) -> bool:
    """Whether a resume takes rates from options as they are now: a schedule with a formula keeps nothing of the past."""
    return isinstance(scheduler, ClosedFormLR)


def check_schedule(scheduler: Any, state: dict[str, Any]) -> None:
    """Raise `ValueError` where a schedule cannot go on from a state: its position is not said."""
    steps = state.get('last_epoch')
    if hasattr(scheduler, 'last_epoch') and (not isinstance(steps, (int, np.integer)) or steps < 0):
        wrong = f'not {steps!r}' if 'last_epoch' in state else 'and is missing'
        raise ValueError(f'last_epoch must be the number of steps, {wrong}')


def resume_schedule(scheduler: Any, state: dict[str, Any]) -> None:
    """Go on from a schedule's state, of this toolbox or BasicSR: from its position, by the options as they are now.

    A schedule without a formula is taken as it was.
    """
    if isinstance(scheduler, ClosedFormLR):
        scheduler.move_to(state['last_epoch'])
    else:
        scheduler.load_state_dict(state)


@SCHEDULER_REGISTRY.register()
@SCHEDULER_REGISTRY.register(name='MultiStepLR')
class MultiStepRestartLR(ClosedFormLR):
    """Multiply by `gamma` at each milestone; start again from base * weight at each restart.

    Args:
        milestones: iterations; one given twice counts twice.
        restarts, restart_weights: iterations of restarts and the factor of the base rate from there on.
    """

    def __init__(self, optimizer: Optimizer, milestones: list[Natural], gamma: Positive = 0.1,
                 restarts: Annotated[Sequence[Natural], MinLen(1)] = (0, ), restart_weights: Sequence[Positive] = (1, ),
                 last_epoch: int = -1):
        if len(restarts) != len(restart_weights):
            raise ValueError(f'{len(restarts)} restarts but {len(restart_weights)} restart_weights')
        self.milestones, self.gamma = sorted(milestones), gamma
        self.restarts, self.restart_weights = list(restarts), list(restart_weights)
        super().__init__(optimizer, last_epoch)

    def rate(self, e: int, base: float) -> float:
        start, weight = max(((r, w) for r, w in zip(self.restarts, self.restart_weights) if r <= e), default=(-1, 1))
        return base * weight * self.gamma**sum(start < m <= e for m in self.milestones)


@SCHEDULER_REGISTRY.register()
class CosineAnnealingRestartCyclicLR(ClosedFormLR):
    """Cosine cycles, each with its own length, weight and minimum (Restormer family).

    In cycle i, which began after s steps: eta_i + 0.5 w_i (base - eta_i) (1 + cos(pi (e - s) / period_i)).
    A minimum above the base rate makes the cycle *rise*: the published 2e-4 with a first minimum of 3e-4 does that.

    Args:
        periods: iterations of each cycle; their sum bounds `total_iter`.
        restart_weights, eta_mins: one per cycle.
    """

    def __init__(self, optimizer: Optimizer, periods: Annotated[list[Count],
                                                                MinLen(1)], restart_weights: Sequence[Positive] = (1, ),
                 eta_mins: Sequence[NonNegative] = (0, ), last_epoch: int = -1):
        if not len(periods) == len(restart_weights) == len(eta_mins):
            raise ValueError(
                f'{len(periods)} periods, {len(restart_weights)} restart_weights and {len(eta_mins)} eta_mins')
        if min(periods, default=0) < 1:
            raise ValueError(f'periods must be at least 1, not {list(periods)}')
        self.periods, self.weights, self.eta_mins = list(periods), list(restart_weights), list(eta_mins)
        self.ends = [sum(periods[:i + 1]) for i in range(len(periods))]
        super().__init__(optimizer, last_epoch)

    def rate(self, e: int, base: float) -> float:
        i = min(bisect_left(self.ends, e), len(self.ends) - 1)  # a cycle's last step still belongs to it
        start = self.ends[i] - self.periods[i]
        phase = math.pi * min(e - start, self.periods[i]) / self.periods[i]
        return self.eta_mins[i] + 0.5 * self.weights[i] * (base - self.eta_mins[i]) * (1 + math.cos(phase))


@SCHEDULER_REGISTRY.register()
class CosineAnnealingRestartLR(CosineAnnealingRestartCyclicLR):
    """The same with one minimum for all cycles (BasicSR)."""

    def __init__(self, optimizer: Optimizer, periods: Annotated[list[Count], MinLen(1)],
                 restart_weights: Sequence[Positive] = (1, ), eta_min: NonNegative = 0, last_epoch: int = -1):
        super().__init__(optimizer, periods, restart_weights, [eta_min] * len(periods), last_epoch)


@SCHEDULER_REGISTRY.register()
class TrueCosineAnnealingLR(ClosedFormLR):
    """One cosine from the base rate to `eta_min` in `T_max` iterations, up again afterwards."""

    def __init__(self, optimizer: Optimizer, T_max: Count, eta_min: NonNegative = 0, last_epoch: int = -1):
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, e: int, base: float) -> float:
        return self.eta_min + 0.5 * (base - self.eta_min) * (1 + math.cos(math.pi * e / self.T_max))


@SCHEDULER_REGISTRY.register()
class LinearLR(ClosedFormLR):
    """A straight line from the base rate to 0 at `total_iter` (filled in from `train.total_iter`)."""

    def __init__(self, optimizer: Optimizer, total_iter: Count, last_epoch: int = -1):
        self.total_iter = total_iter
        super().__init__(optimizer, last_epoch)

    def rate(self, e: int, base: float) -> float:
        return base * max(0., 1 - e / self.total_iter)


@SCHEDULER_REGISTRY.register()
class VibrateLR(ClosedFormLR):
    """Triangles between 0 and a falling height (Restormer family): eighty of them in `total_iter`.

    The height falls from the base rate to 0 in the first 3/8 of the run, is 0.2 of the base rate up to 5/8, and 0.1 after. The
    first rise starts at a tenth of the base rate.

    Args:
        total_iter: filled in from `train.total_iter`; at least 160.
    """

    def __init__(self, optimizer: Optimizer, total_iter: Annotated[Count, Ge(160)], last_epoch: int = -1):
        if total_iter < 160:
            raise ValueError(f'eighty triangles need at least 160 iterations, not {total_iter}')
        self.total_iter = total_iter
        super().__init__(optimizer, last_epoch)

    def rate(self, e: int, base: float) -> float:
        done, period = e / self.total_iter, self.total_iter // 80
        height = 1 - done * 8 / 3 if done < 3 / 8 else 0.2 if done < 5 / 8 else 0.1
        half, t = period // 2, e % period
        factor = height * (t / half if t < half else 2 - t / half)
        return base * (max(0.1, factor) if e < half else factor)


@SCHEDULER_REGISTRY.register()
class LinearWarmupCosineAnnealingLR(ClosedFormLR):
    """A linear warm-up from base / W to the base rate in the first W iterations, then one cosine to `eta_min`.

    With e steps done: base (e + 1) / W for e < W, then eta_min + 0.5 (base - eta_min) (1 + cos(pi (e - W) / (T - W))).
    `train.warmup_iter` is not used beside it.

    Args:
        total_iter: T, where the cosine ends (filled in from `train.total_iter`).
        warmup_iter: W, less than T.
    """

    def __init__(self, optimizer: Optimizer, total_iter: Count, warmup_iter: Natural, eta_min: NonNegative = 0,
                 last_epoch: int = -1):
        if not 0 <= warmup_iter < total_iter:
            raise ValueError(f'a warm-up of {warmup_iter} iterations does not fit into {total_iter}')
        self.total_iter, self.warmup_iter, self.eta_min = total_iter, warmup_iter, eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, e: int, base: float) -> float:
        if e < self.warmup_iter:
            return base * (e + 1) / self.warmup_iter
        phase = math.pi * min((e - self.warmup_iter) / (self.total_iter - self.warmup_iter), 1)
        return self.eta_min + 0.5 * (base - self.eta_min) * (1 + math.cos(phase))


@SCHEDULER_REGISTRY.register()
class SteepCosineLR(ClosedFormLR):
    """A linear warm-up, then cosines whose flanks are steep and whose middle is flat (MASR-Net).

    Iteration t trains at base t / W up to W, then at base max(m, 0.5 (1 + sign(c) |c|^steepness)), with m `min_factor`
    and c = cos(pi acceleration (t - W) / (T - W)). An acceleration of 3 goes down to m, up to the base rate and down
    again. `train.warmup_iter` is not used beside it.

    Args:
        total_iter: T (filled in from `train.total_iter`); the rate stays from there on.
        warmup_iter: W, less than T.
    """

    def __init__(self, optimizer: Optimizer, total_iter: Count, warmup_iter: Natural, steepness: Positive = 10,
                 acceleration: Positive = 3, min_factor: Fraction = 1e-3, last_epoch: int = -1):
        if not 0 <= warmup_iter < total_iter:
            raise ValueError(f'a warm-up of {warmup_iter} iterations does not fit into {total_iter}')
        self.total_iter, self.warmup_iter = total_iter, warmup_iter
        self.steepness, self.acceleration, self.min_factor = steepness, acceleration, min_factor
        super().__init__(optimizer, last_epoch)

    def rate(self, e: int, base: float) -> float:
        t = e + 1
        if t < self.warmup_iter:
            return base * t / self.warmup_iter
        progress = min((t - self.warmup_iter) / (self.total_iter - self.warmup_iter), 1)
        c = math.cos(math.pi * self.acceleration * progress)
        return base * max(self.min_factor, 0.5 * (1 + math.copysign(abs(c)**self.steepness, c)))

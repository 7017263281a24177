"""One training step of a model: work of the device alone, which CUDA graphs can replay, and what the host learns of it."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from basicsr.engine.casting import CastWeights
from basicsr.engine.finite import ELSEWHERE, GRADIENT_NORM, FiniteWatch, Step
from basicsr.engine.nonfinite import NonFinite
from basicsr.engine.optimizer import DeviceRates, can_mask
from basicsr.engine.precision import Precision
from basicsr.losses.loss_util import number_names
from basicsr.models.base_model import BaseModel
from basicsr.utils.dist import is_dist
from basicsr.utils.replay import Replayed, python_state


class Report(NamedTuple):
    """What a training step leaves on the device.

    Attributes:
        names, values: of the losses, float32 (n,).
        flags: whether each of `values` is finite, then the gradient norm (not with loss scaling, which deals with that
            itself), then all losses of all processes (not of a single one).
        skip: 1 when the update is left out, else 0; float32 (), the same in all processes.
        output: the last image of the network's last pass.
    """
    names: tuple[str, ...]
    values: Tensor
    flags: Tensor
    skip: Tensor
    output: Tensor


class StepModel(BaseModel):
    """`optimize_parameters` for models with `net_g`, `optimizer_g`, `precision` and `compute_losses`.

    Attributes:
        replayed: `step`, when it is recorded; None calls it.
        rates: learning rates that recordings read.
        watch: looks at the flags of earlier steps.
    """
    replayed: Replayed | None = None
    rates: DeviceRates | None = None
    _report: Report | None = None  # of the last step, while the host has not read its losses
    _log: dict[str, float]

    # of the model
    optimizer_g: torch.optim.Optimizer
    precision: Precision
    cast_weights: CastWeights
    ema_decay: float = 0
    # losses; a model that replaces `init_training_settings` sets those it has
    cri_pix: Any = None
    cri_perceptual: Any = None
    cri_more: Sequence[tuple[str, Callable]] = ()
    cri_net: Sequence[tuple[str, Callable]] = ()
    compute_losses: Callable[..., dict[str, Tensor]]
    image_losses: Callable[[], list[tuple[str, Callable]]]
    _network_losses: Callable[..., Iterable[tuple[str, Tensor | None]]]
    # a batch: `gt` is None where there is none, `guides` is what the network is given beside `lq`, of its size
    lq: Tensor
    gt: Any
    guides: Sequence[Tensor] = ()
    share = 1.  # of the batch that the part has which is worked on

    def __init__(self, opt: dict[str, Any]):
        super().__init__(opt)
        root = opt['path'].get('experiments_root')
        tell = NonFinite(opt.get('train', {}).get('nonfinite', 'stop'), Path(root) if root else None)
        self.watch = FiniteWatch(tell, in_step=is_dist())

    def record_steps(self, recorder: Any) -> None:
        """Replay `step` from recordings, one for each size of patches; None calls it."""
        if recorder is None:
            return
        self.rates = DeviceRates(self.optimizer_g, self.device)
        losses = [loss for _, loss in (*self.image_losses(), *self.cri_net)]
        modules = [m for m in (self.net_g, *losses) if isinstance(m, nn.Module)]
        self.replayed = Replayed(self.step, recorder, 'training', state=lambda: python_state(*modules),
                                 on_failure=self.precision.start_over)

    def optimize_parameters(self, current_iter: int) -> None:
        """One optimizer step on the batch, in `train.accumulate` parts. The host does not wait for it to end."""
        self._iteration = current_iter
        if self.rates is not None:
            self.rates.refresh()
        self._report = (self.replayed or self.step)(self.lq, self.gt, *self.guides)
        self.output = self._report.output
        if can_mask(self.optimizer_g):  # else it was looked at before the update
            self._look_at(self._report)

    def step(self, lq: Tensor, gt: Tensor, *guides: Tensor) -> Report:
        """Everything between a batch on the device and the updated weights and their average."""
        report = self._gradients(lq, gt, *guides)
        if not can_mask(self.optimizer_g):
            self._look_at(report)
            self.watch.drain()
        self._update(report.skip)
        return report

    def _gradients(self, lq: Tensor, gt: Tensor, *guides: Tensor) -> Report:
        """Forward and backward passes; leaves the gradients, unscaled and clipped, in the parameters."""
        train = self.opt['train']
        self.optimizer_g.zero_grad(set_to_none=True)
        count = train.get('accumulate', 1)
        parts = list(zip(*(t.chunk(count) for t in (lq, gt, *guides))))
        sums: dict[str, Tensor] = OrderedDict()
        for i, (part, target, *maps) in enumerate(parts):
            share = self.share = len(part) / len(lq)
            with self._gradient_exchange(last=i == len(parts) - 1), self.cast_weights():
                with self.precision.autocast():
                    preds = self.net_g(part, *maps)
                compared = self.compute_losses(preds, target).items()
                losses = number_names([*compared, *self._network_losses(preds, target)])
                for key, value in losses.items():
                    sums[key] = sums.get(key, 0) + value.detach() * share
                total: Any = sum(losses.values())
                self.precision.backward(total * share)
        output = preds[-1] if isinstance(preds, (list, tuple)) else preds
        return self._finished_gradients(self.optimizer_g, self.net_g, sums, output)

    def _finished_gradients(self, optimizer: torch.optim.Optimizer, net: nn.Module, losses: Mapping[str, Tensor],
                            output: Tensor) -> Report:
        """Unscale and clip the gradients of a network; the report of its step, whose losses are these."""
        norm = self.precision.clip(optimizer, list(net.parameters()), self.opt['train'].get('grad_clip_norm'))
        values = torch.stack([v.detach().float().mean() for v in losses.values()])
        finite = torch.isfinite(torch.cat([values, norm.detach().view(1)]))
        flags = finite[:-1] if self.precision.scaler.is_enabled() else finite
        skip = (~finite.all()).float()
        if is_dist():
            found = torch.stack([skip, (~finite[:-1].all()).float()])
            torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
            skip, flags = found[0], torch.cat([flags, found[1:] == 0])
        return Report(tuple(losses), values, flags, skip, output.detach())

    def _update(self, skip: Tensor) -> None:
        with self.rates.in_place() if self.rates is not None else nullcontext():
            self._masked_update(self.optimizer_g, skip)
        if self.ema_decay > 0:
            self.model_ema(self.ema_decay)

    def _masked_update(self, optimizer: torch.optim.Optimizer, skip: Tensor) -> None:
        """Leaves it out where `skip` is 1; for optimizers that cannot on the device the host waits. Scaling does so itself."""
        if can_mask(optimizer):
            self.precision.update(optimizer, skip)
        elif self.precision.scaler.is_enabled() or not skip:
            self.precision.update(optimizer)

    def _look_at(self, report: Report) -> None:
        """Raises `UserError` when this step, or on a GPU one of the last, was not finite and the run is not to go on."""
        norm = () if self.precision.scaler.is_enabled() else (GRADIENT_NORM, )
        names = (*report.names, *norm, *((ELSEWHERE, ) if is_dist() else ()))
        batch = [t for t in (self.lq, self.gt, *self.guides) if t is not None]
        self.watch.add(Step(self._iteration, names, getattr(self, 'paths', []), batch), report.flags)

    def forget_steps(self) -> None:
        """What is on its way of earlier steps, as another state takes their place."""
        self.watch.clear()
        self._report = None
        self.optimizer_g.zero_grad(set_to_none=True)
        self.precision.start_over()
        if self.replayed:
            self.replayed.clear()

    @property
    def log_dict(self) -> dict[str, float]:
        """Losses of the last step as floats. The host waits for them here, and only here."""
        if self._report is not None:
            report, self._report = self._report, None
            self.watch.drain()
            self._log = self.reduce_loss_dict(dict(zip(report.names, report.values.unbind())))
        return self._log

    @log_dict.setter
    def log_dict(self, values: dict[str, float]) -> None:
        self._report, self._log = None, values

    def get_current_log(self) -> dict[str, float]:
        return self.log_dict

    def _gradient_exchange(self, last: bool) -> Any:
        """Processes exchange gradients once per step, with the last part of the batch."""
        return nullcontext() if last or not isinstance(self.net_g, DistributedDataParallel) else self.net_g.no_sync()

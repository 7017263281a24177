"""Optimizers: fused kernels, updates that the device itself leaves out, rates on the device, training states.

A training state says how an optimizer calculates (`fused`, `foreach`, ...) as well as what. The former is a matter of the
machine and of this program: it is neither taken from a file nor left there.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

_EXECUTION = ('fused', 'foreach', 'capturable', 'differentiable')
# whose fused kernels exist for CPU and GPU since PyTorch 2.6 and heed `found_inf`
_FUSED = (Adam, AdamW, torch.optim.SGD)


def build_optimizer(cls: Callable[..., Optimizer], params: Any, lr: float, **options: Any) -> Optimizer:
    """`cls(params, lr=lr, **options)`, in one kernel for all parameters where there is one and the options do not choose."""
    params = list(params)
    if options.get('capturable') and any(p.device.type == 'cpu' for p in _tensors(params)):
        raise ValueError('capturable is for parameters on a GPU')  # PyTorch says so in the first step
    fused = cls in _FUSED and not any(key in options for key in _EXECUTION)
    # PyTorch would leave the first momentum uninitialised when that update is left out; zeros are the same without dampening
    fused = fused and not (cls is torch.optim.SGD and options.get('momentum') and options.get('dampening'))
    optimizer = cls(params, lr=lr, **options, **({'fused': True} if fused else {}))
    _fill_in_momentum(optimizer)
    return optimizer


def _tensors(params: list[Any]) -> Iterator[Tensor]:
    """Parameters as an optimizer takes them: alone, with their names, or in groups."""
    for entry in params:
        if isinstance(entry, dict):
            yield from _tensors(list(entry['params']) if not isinstance(entry['params'], Tensor) else [entry['params']])
        else:
            yield entry[1] if isinstance(entry, tuple) else entry


def can_mask(optimizer: Optimizer) -> bool:
    """Whether `masked_step` works."""
    return type(optimizer) in _FUSED and all(group.get('fused') for group in optimizer.param_groups)


def masked_step(optimizer: Optimizer, skip: Tensor) -> None:
    """An update that leaves parameters, moments and step counters as they are where `skip`, float32 (), is 1 and not 0.

    The host does not learn which. `GradScaler` does the same.
    """
    scaled: Any = optimizer  # as by a scaler, from which it takes these
    scaled.found_inf, scaled.grad_scale = skip, None
    try:
        optimizer.step()
    finally:
        del scaled.found_inf, scaled.grad_scale


class DeviceRates:
    """Learning rates as tensors that recorded kernels read; the groups of the optimizer keep their numbers.

    float32 on a GPU, as its kernels want it.
    """

    def __init__(self, optimizer: Optimizer, device: torch.device):
        dtype = torch.float64 if device.type == 'cpu' else torch.float32
        self.optimizer = optimizer
        self.tensors = [torch.zeros((), dtype=dtype, device=device) for _ in optimizer.param_groups]
        self._filled: list[float | None] = [None] * len(self.tensors)

    def refresh(self) -> None:
        """Take over the rates of the groups; outside of what is recorded. The host waits for nothing."""
        for i, group in enumerate(self.optimizer.param_groups):
            if group['lr'] != self._filled[i]:
                self.tensors[i].fill_(group['lr'])
                self._filled[i] = group['lr']

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within this block the groups hold the tensors."""
        groups = self.optimizer.param_groups
        changes = [{'lr': rate} | {k: True for k in ('capturable', ) if k in group}
                   for rate, group in zip(self.tensors, groups)]
        before = [{k: group[k] for k in change} for change, group in zip(changes, groups)]
        for group, change in zip(groups, changes):
            group.update(change)
        try:
            yield
        finally:
            for group, values in zip(groups, before):
                group.update(values)


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """`state_dict` as a plain optimizer has it; any version can load it."""
    state = optimizer.state_dict()
    plain = {'fused': None}
    return state | {
        'param_groups': [group | {k: v for k, v in plain.items() if k in group} for group in state['param_groups']]
    }


# of every parameter, with its shape
_MOMENTS = ('exp_avg', 'exp_avg_sq', 'max_exp_avg_sq', 'exp_inf', 'momentum_buffer', 'square_avg', 'grad_avg',
            'acc_delta', 'sum', 'prev', 'step_size')
_OF_ADAM = ('step', 'exp_avg', 'exp_avg_sq')


def check_optimizer_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Raise `ValueError` where a state is of other parameters, before `load_optimizer_state` takes over a part of it."""
    mine, theirs = ([len(group['params']) for group in groups]
                    for groups in (optimizer.param_groups, state['param_groups']))
    if mine != theirs:
        raise ValueError(f"groups of {', '.join(map(str, theirs))} parameters in the file, of"
                         f" {', '.join(map(str, mine))} in the network")
    params = [param for group in optimizer.param_groups for param in group['params']]
    for index, param in zip((index for group in state['param_groups'] for index in group['params']), params):
        values = state['state'].get(index) or {}
        lacks = [key for key in _OF_ADAM if values and key not in values and isinstance(optimizer, (Adam, AdamW))]
        if lacks:
            raise ValueError(f'{lacks[0]} of parameter {index} is missing')
        for key, value in values.items():
            shape = tuple(value.shape) if isinstance(value, Tensor) else None
            if key in _MOMENTS and value is not None and shape != tuple(param.shape):
                raise ValueError(
                    f'{key} of parameter {index} is {_size(shape)}, and the parameter {_size(tuple(param.shape))}')
            if key == 'step' and not (isinstance(value, (int, float)) or (shape is not None and value.numel() == 1)):
                raise ValueError(f'step of parameter {index} is no number')


def _size(shape: tuple[int, ...] | None) -> str:
    return 'no tensor' if shape is None else 'x'.join(map(str, shape)) or 'one number'


def load_optimizer_state(optimizer: Optimizer, state: dict[str, Any], keep_options: bool = False) -> None:
    """Take over moments and hyper-parameters. Raises `ValueError` where they belong to other parameters.

    keep_options: the hyper-parameters stay those that the optimizer was made with.
    """
    groups = [dict(group) for group in state['param_groups']]
    for theirs, ours in zip(groups, optimizer.param_groups):
        kept = (*_EXECUTION, *(('initial_lr', *optimizer.defaults) if keep_options else ()))
        theirs.update((k, ours[k]) for k in kept if k in ours)
        theirs.update((k, v.item()) for k, v in theirs.items() if isinstance(v, Tensor))
    optimizer.load_state_dict({**state, 'param_groups': groups})
    for param, values in optimizer.state.items():
        for key, value in values.items():
            # fused kernels walk through memory, whatever the order of the axes in it
            if isinstance(value, Tensor) and value.shape == param.shape and value.stride() != param.stride():
                values[key] = torch.empty_like(param, dtype=value.dtype).copy_(value)
    _fill_in_momentum(optimizer)


def _fill_in_momentum(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        if type(optimizer) is torch.optim.SGD and group['fused'] and group['momentum']:
            for p in group['params']:
                if optimizer.state[p].get('momentum_buffer') is None:
                    optimizer.state[p]['momentum_buffer'] = torch.zeros_like(p, memory_format=torch.preserve_format)

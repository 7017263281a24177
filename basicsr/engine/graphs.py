"""Whether `train.cuda_graphs` can be done: what of a model is recorded and replayed."""
from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from basicsr.engine.optimizer import can_mask
from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger
from basicsr.utils.replay import CudaRecorder


def step_recorder(opt: dict[str, Any], device: torch.device, net: nn.Module, optimizer: torch.optim.Optimizer,
                  model: type) -> CudaRecorder | None:
    """What records the training step of `model`, or None; one line in the log says why not, on a GPU.

    Raises `UserError` where the options demand graphs that cannot be.
    """
    wanted = opt['train'].get('cuda_graphs', 'auto')
    if wanted is False:
        return None
    why = _obstacle(opt['train'].get('compile'), device, net, optimizer, model)
    if why is None:
        return CudaRecorder(device)
    if wanted is True:
        raise UserError(f'train.cuda_graphs: true, but {why}; with auto it would train without')
    if device.type == 'cuda':
        get_root_logger().info(f'training runs without CUDA graphs: {why}')
    return None


def image_recorder(opt: dict[str, Any], device: torch.device, net: nn.Module) -> CudaRecorder | None:
    """The same for images that are restored by it, silently."""
    train = opt.get('train', {})
    wrapped = isinstance(net, (DataParallel, DistributedDataParallel))
    off = train.get('cuda_graphs') is False or train.get('compile') in ('reduce-overhead', 'max-autotune')
    return None if device.type != 'cuda' or wrapped or off else CudaRecorder(device)


def _obstacle(compile_mode: Any, device: torch.device, net: nn.Module, optimizer: torch.optim.Optimizer,
              model: type) -> str | None:
    if device.type != 'cuda':
        return 'this run is on the CPU'
    if isinstance(net, DistributedDataParallel):
        return 'several processes exchange gradients'
    if isinstance(net, DataParallel):
        return 'the network is copied to several GPUs at each step (one process per GPU would be faster)'
    if compile_mode in ('reduce-overhead', 'max-autotune'):
        return f'train.compile: {compile_mode} has graphs of its own'
    if not can_mask(optimizer):
        return f'{type(optimizer).__name__} has no fused kernel with these options'
    if not vars(model).get('replayable'):
        return f'{model.__name__} does not say that its step consists of tensor operations only (replayable = True)'
    return None

"""What a network costs: parameters, multiply-accumulates, seconds per image."""
from __future__ import annotations

import statistics
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from basicsr.data import build_dataset
from basicsr.data.loader import ImageLoader
from basicsr.evaluation.restoring import array
from basicsr.inference.build import build_restorer
from basicsr.utils.machine import processor

MAC_SIZE = 256
_SCANS = ('ss2d_scan', 'selective_scan')


def measure_costs(opt: dict[str, Any], weights: Path, images: int = 15) -> dict[str, Any]:
    """`parameters`, `macs`, `macs_scan` (the part of the scan), `seconds` per image, its `size`, and the `machine`.

    Args:
        opt: options of a run; time is measured on its first val or test data set, after one image to warm up.
        images: at most so many.
    """
    restorer = build_restorer(weights, opt)
    macs, scan = count_macs(restorer.net, channels=restorer.channels or 3)
    block = opt['datasets'][min(k for k in opt['datasets'] if not k.startswith('train'))]
    dataset = build_dataset(block)
    seconds: list[float] = []
    for batch in ImageLoader(dataset, block, batch_size=1, sampler=list(range(len(dataset)))[:images]):
        image = array(batch['lq'])
        for _ in range(1 if seconds else 2):
            start = time.perf_counter()
            restorer(image)
            last = time.perf_counter() - start
        seconds.append(last)
    return {
        'parameters': sum(p.numel() for p in restorer.net.parameters()),
        'macs': macs,
        'macs_scan': scan,
        'seconds': statistics.median(seconds),
        'size': f'{image.shape[0]}x{image.shape[1]}',
        'machine': machine(restorer.device.type),
    }


def count_macs(net: nn.Module, size: int = MAC_SIZE, channels: int = 3) -> tuple[int, int]:
    """Multiply-accumulates of one forward pass of 1 x channels x size x size, and those of the scan among them.

    Convolutions, matrix products and the scan, as executed: half of what FlopCounterMode counts. Nothing is computed;
    with gradients, as then no layer works in strips whose shared rows would count twice. Where the image decides what is
    executed, as in a mixture of experts, it is what a black image takes.
    """
    net = deepcopy(net).cpu().eval()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.enable_grad():
            counter = _counted(net, torch.empty(1, channels, size, size))
    except DataDependentOutputException:
        with torch.no_grad():
            counter = _counted(net, torch.zeros(1, channels, size, size))
    by_operator = counter.get_flop_counts().get('Global', {})  # none where nothing is counted
    scan = sum(flops for op, flops in by_operator.items() if str(op).split('.')[1] in _SCANS)
    return counter.get_total_flops() // 2, scan // 2


def _counted(net: nn.Module, image: torch.Tensor) -> FlopCounterMode:
    with FlopCounterMode(display=False) as counter:
        net(image)
    return counter


def machine(device: str) -> str:
    """Name of the GPU, or of the CPU with the instructions that PyTorch uses there, and the number of threads."""
    if device.startswith('cuda'):
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    cpu = f'{processor()} ({torch.backends.cpu.get_cpu_capability()})'
    return f'{cpu}, {threads} thread{"s" if threads != 1 else ""}'

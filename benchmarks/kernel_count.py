"""Kernels and bytes of a training step on an NVIDIA GPU, counted without one: forward, L1 loss and backward.

Every operation below autograd is seen on fake tensors (fake_step.py) and looked up in a small table of how many kernels
PyTorch launches for it. The scan's own kernels are not counted. What cuDNN launches beside its convolutions is not to be
seen from here: 4.4 kernels for each of them, forward and backward together, make the counts of two networks agree with
those of a profiler on an H100 (bf16, before pointwise convolutions became products: RetinexMamba 3,216 counted, 3,217
measured; RetinexFormer 1,558 and 1,558; float32, where nothing was fitted, 2,495 and 2,564; 1,140 and 1,163).

Seconds are a rough model, 10 % below the measured ones (bf16: 33.3 and 37 ms, 14.1 and 15.5): bytes over bandwidth with
a factor for what is known to be slower, products at the rate of their type, and no kernel below 1.5 microseconds.

    python benchmarks/kernel_count.py [--networks RetinexMamba ...] [--float32] [--cast-once] [--top 12]

`--cast-once`: weights are cast once for the step, as in training; the copies of that are not counted.
"""
from __future__ import annotations

import argparse
import logging
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any
from unittest import mock

import torch
from common import report
from fake_step import fake_cuda, to_fake_cuda, training_step
from torch import Tensor
from torch.utils._pytree import tree_leaves

from basicsr.archs import build_network
from basicsr.engine.casting import CastWeights
from basicsr.utils.logger import get_root_logger

OFFICIAL: dict[str, dict[str, Any]] = {
    'RetinexMamba': {},
    'RetinexFormer': {},
    'MST_Plus_Plus': {'stage': 3},
    'Restormer': {},
    'LoRa_Gate_Restormer': {},
    'ImprovedLoRaGateRestormer': {},
    'MASRNet': {},
    'ISALux': {'semantic': 'off'},
    'IllRecNet': {},
}

_NOTHING = {
    'detach', 'alias', 'empty', 'empty_like', 'empty_strided', 'new_empty', 'new_empty_strided', '_unsafe_view',
    'scalar_tensor', 'lift_fresh', 'promote_types', 'device', 'stack_', 'resize_', 'set_', '_foreach_copy_'
}
_FILLS = {'new_zeros', 'zeros_like', 'ones_like', 'new_ones', 'full_like', 'zeros', 'ones'}
# how much longer than their bytes at full bandwidth, where that is known from an H100
_SLOWER = {
    'convolution': 2., 'convolution_backward': 2.9, 'mm': 2.2, 'addmm': 2.2, 'bmm': 2.2, 'baddbmm': 2.2, 'sum': 2.
}
_ROW = 1.6e-9  # seconds of a layer norm for each pixel, however few channels
BANDWIDTH, LEAST = 2.3e12, 1.5e-6
RATE = {torch.float32: 4e13, torch.bfloat16: 3e14, torch.float16: 3e14}


class KernelCount:
    """What `fake_cuda` reports: kernels, bytes and modelled seconds, by operation."""

    def __init__(self) -> None:
        self.kernels: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()

    def __call__(self, func: Any, args: tuple, kwargs: dict, out: Any) -> None:
        name = func.name().split('::')[1].split('.')[0]
        count = 0 if getattr(func, 'is_view', False) else kernels(name, args, kwargs, out)
        if not count:
            return
        moved = sum(_bytes(t) for t in _tensors(() if name in _FILLS else (args, kwargs), out))
        if name == 'convolution_backward':  # the image and the weight are read twice, the gradient three times
            moved += sum(_bytes(t) for t in args[:1]) * args[-1][1] + (sum(args[-1]) - 1) * _bytes(args[0])
        self.kernels[name] += count
        self.bytes[name] += moved
        rows = _ROW * _norm_rows(name, args)
        busy = max(moved / BANDWIDTH * _SLOWER.get(name, 1), _products(name, args, out), rows)
        self.seconds[name] += max(busy, count * LEAST)

    def clear(self) -> None:
        for counter in (self.kernels, self.bytes, self.seconds):
            counter.clear()


def kernels(name: str, args: tuple, kwargs: dict, out: Any) -> float:
    """How many kernels PyTorch's CUDA backend launches for one operation."""
    if name in _NOTHING or name.startswith(('ss2d_scan', 'selective_scan')):
        return 0
    if name == 'convolution':
        return 2 + (args[2] is not None)  # the bias is an addition of its own
    if name == 'convolution_backward':
        return 2 * args[-1][0] + 3.4 * args[-1][1] + args[-1][2]
    if name == 'native_layer_norm_backward':
        return args[-1][0] + (args[-1][1] or args[-1][2]) * (3 if _norm_rows(name, args) > 65536 else 1)
    if name == 'block_diag':
        return 1 + len(args[0])
    if name in ('native_batch_norm', 'cudnn_batch_norm', 'topk', 'sort', 'multinomial', 'constant_pad_nd'):
        return 2
    return 1


def count_step(options: dict[str, Any], size: int = 128, amp: torch.dtype | None = torch.bfloat16,
               cast_once: bool = False, batch: int = 8) -> KernelCount:
    """The counts of one step of a network on `batch` images of size x size."""
    counted = KernelCount()
    with torch.device('meta'):
        net = build_network(options)
    with fake_cuda(counted), _choices_of_experts():
        net = to_fake_cuda(net).train()
        x = torch.rand(batch, 3, size, size, device='cuda')
        counted.clear()
        with CastWeights(net, amp if cast_once else None, 'cuda')():
            training_step(net, x, amp)
    return counted


def _choices_of_experts() -> Any:
    """ISALux asks the router's choices of the GPU, which fake tensors do not know: two of four, different for each image."""
    from basicsr.archs.isalux.moe_ffn import MOE_FFN
    route = MOE_FFN.route

    class Chosen:

        def __init__(self, count: int, of: int):
            self.rows = [[i % of, (i + 1) % of] for i in range(count)]

        def tolist(self) -> list[list[int]]:
            return self.rows

    def known(self: Any, u: Tensor) -> tuple[Tensor, Chosen]:
        gates, chosen = route(self, u)
        return gates, Chosen(len(chosen), len(self.experts))

    return mock.patch.object(MOE_FFN, 'route', known)


def _tensors(*parts: Any) -> Iterable[Tensor]:
    return (t for t in tree_leaves(parts) if isinstance(t, Tensor))


def _bytes(t: Tensor) -> int:
    """Of the elements that exist: expanded ones are in the cache."""
    return t.element_size() * math.prod(n for n, s in zip(t.shape, t.stride()) if s)


def _norm_rows(name: str, args: tuple) -> int:
    if not name.startswith('native_layer_norm'):
        return 0
    x, shape = args[1:3] if name.endswith('backward') else args[:2]
    return x.numel() // math.prod(shape)


def _products(name: str, args: tuple, out: Any) -> float:
    """Seconds of multiplying."""
    if name == 'convolution':
        flops = out.numel() * args[1][0].numel()
    elif name == 'convolution_backward':
        flops = args[0].numel() * args[2][0].numel() * sum(args[-1][:2])
    elif name in ('mm', 'bmm', 'addmm', 'baddbmm'):
        left, right = args[-2:] if name.startswith('add') else args[:2]
        flops = left.numel() * right.shape[-1]
    else:
        return 0.
    return 2 * flops / RATE.get(next(_tensors(args)).dtype, 4e13)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--networks', nargs='+', default=list(OFFICIAL), choices=list(OFFICIAL))
    parser.add_argument('--size', type=int, default=128)
    parser.add_argument('--float32', action='store_true')
    parser.add_argument('--cast-once', action='store_true')
    parser.add_argument('--top', type=int, default=8, help='operations to name')
    args = parser.parse_args()
    get_root_logger().setLevel(logging.ERROR)
    rows = []
    for name in args.networks:
        counted = count_step({'type': name, **OFFICIAL[name]}, args.size, None if args.float32 else torch.bfloat16,
                             args.cast_once)
        rows.append({
            'network': name,
            'kernels': counted.kernels.total(),
            'GB': counted.bytes.total() / 1e9,
            'ms': 1e3 * counted.seconds.total(),
            'most kernels': ', '.join(f'{k} {n}' for k, n in counted.kernels.most_common(args.top)),
            'most time': ', '.join(f'{k} {1e3 * s:.1f}' for k, s in counted.seconds.most_common(args.top)),
        })
    kind = 'float32' if args.float32 else 'bf16, weights cast once' if args.cast_once else 'bf16'
    report(f'kernels of a step, {kind}', rows, batch=8, size=args.size)


if __name__ == '__main__':
    main()

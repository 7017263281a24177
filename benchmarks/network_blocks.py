"""Whole networks at 1x3x256x256: seconds and memory of a forward and of a training step, against the obvious code.

`plain` is tests/plain_networks.py: separate projections, permutations, norms by hand, nothing else different. Saved
activations are what autograd keeps between forward and backward, every storage counted once, parameters left out. A
training step of the plain Restormer takes 14 GiB at 256 pixels and 4 GiB at 128: take --size 128 on a small machine.

    python benchmarks/network_blocks.py [--size 256] [--networks RetinexFormer Restormer] [--repeats 3] [--threads 1]
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import torch
from common import ROOT, alternate, report
from scan import in_fresh_process
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(ROOT / 'tests'))
from plain_networks import PlainRestormer, PlainRetinexFormer

from basicsr.archs import build_network

NETWORKS: dict[str, dict[str, Any]] = {
    'RetinexFormer': {},
    'MST_Plus_Plus': {'stage': 3},
    'Restormer': {},
    'LoRa_Gate_Restormer': {},
    'ImprovedLoRaGateRestormer': {},
    'RetinexMamba': {},
}
PLAIN: dict[str, Callable[[], nn.Module]] = {'RetinexFormer': PlainRetinexFormer, 'Restormer': PlainRestormer}


def saved_bytes(net: nn.Module, x: Tensor) -> int:
    """What the backward pass will need, in bytes."""
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    kept: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no address is used twice
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        net(x)
    return sum(size for size, _ in kept.values())


def peak_bytes(function: Callable[[], Any]) -> int:
    """The most memory that tensors made by `function` occupy at a time, in bytes, on CPU."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function()
    now = peak = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == '[memory]':
            now += event.nbytes()
            peak = max(peak, now)
    return peak


def variants(name: str) -> dict[str, nn.Module]:
    """The network, with checkpoints, and the plain one where there is one; equal weights."""
    options = {'type': name, **NETWORKS[name]}
    nets = {'plain': PLAIN[name]()} if name in PLAIN else {}
    nets['ours'] = build_network(options)
    nets['ours, checkpoint'] = build_network({**options, 'checkpoint': True})
    for net in nets.values():
        net.load_state_dict(nets['ours'].state_dict())
        net.eval()
    return nets


def forward(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x)


def step(net: nn.Module, x: Tensor) -> None:
    torch.autograd.grad(net(x).square().mean(), [p for p in net.parameters() if p.requires_grad], allow_unused=True)


def memory(name: str, variant: str, size: int) -> dict[str, float]:
    """Of one variant; in a process of its own, since what others have left would not leave room for the largest."""
    net, x = variants(name)[variant], image(size)
    return {
        'saved MiB': saved_bytes(net, x) / 2**20, 'forward peak MiB': peak_bytes(lambda: forward(net, x)) / 2**20,
        'step peak MiB': peak_bytes(lambda: step(net, x)) / 2**20
    }


def image(size: int) -> Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))


def rows_of(name: str, size: int, repeats: int) -> list[dict[str, Any]]:
    nets, x = variants(name), image(size)
    infer = alternate({k: lambda net=net: forward(net, x) for k, net in nets.items()}, repeats)
    train = alternate({k: lambda net=net: step(net, x) for k, net in nets.items()}, repeats)
    rows = []
    for variant in nets:
        row = {
            'network': name, 'variant': variant, 'forward s': infer[variant], 'step s': train[variant],
            **in_fresh_process(memory, name, variant, size)
        }
        if 'plain' in nets:
            base = rows[0] if rows else row
            row |= {
                'forward x': base['forward s'] / row['forward s'], 'step x': base['step s'] / row['step s'],
                'saved /': row['saved MiB'] / base['saved MiB']
            }
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--size', type=int, default=256)
    parser.add_argument('--networks', nargs='+', default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows = [row for name in args.networks for row in rows_of(name, args.size, args.repeats)]
    report(f'network blocks at 1x3x{args.size}x{args.size}', rows, repeats=args.repeats)


if __name__ == '__main__':
    main()

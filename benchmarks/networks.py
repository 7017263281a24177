"""RetinexMamba against itself as published, and against Retinexformer: seconds and memory, official options.

python benchmarks/networks.py [--quick]      --quick leaves out the published loop, which takes half a minute
"""
from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from common import alternate, report
from peers.retinexformer_plain import RetinexFormer
from peers.retinexmamba_plain import RetinexMamba as PublishedRetinexMamba
from scan import in_fresh_process, peak_growth, row, synchronised
from torch import nn

from basicsr.archs.retinexmamba_arch import RetinexMamba
from basicsr.utils.logger import get_root_logger

NETWORKS = {'ours': RetinexMamba, 'published': PublishedRetinexMamba, 'retinexformer': RetinexFormer}
FRAME, CROP, PAIR, BATCH = (1, 3, 400, 600), (1, 3, 128, 128), (2, 3, 128, 128), (8, 3, 128, 128)
MB = 2**20


def network(name: str, device: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name]().to(device).eval()


def image(shape: tuple[int, ...], device: str) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)


def forward(net: nn.Module, shape: tuple[int, ...], device: str, amp: bool = False) -> Callable[[], Any]:
    x = image(shape, device)

    @torch.no_grad()
    def run() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=amp):
            return net(x)

    return synchronised(run) if device == 'cuda' else run


def training_step(net: nn.Module, shape: tuple[int, ...], device: str, amp: bool = False) -> Callable[[], Any]:
    """Forward and backward, without the optimiser."""
    net, x = net.train(), image(shape, device)

    def run() -> None:
        net.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=amp):
            loss = (net(x) - x).abs().mean()
        loss.backward()

    return synchronised(run) if device == 'cuda' else run


def peak(make: Callable[..., Callable], name: str, shape: tuple[int, ...], device: str, amp: bool, threads: int) -> int:
    """Bytes above weights and image at the peak of one run; to be called in a fresh process."""
    torch.set_num_threads(threads)
    get_root_logger().setLevel(logging.ERROR)
    net = network(name, device)
    make(net, (1, 3, 16, 16), device, amp)()  # what is loaded once
    net.zero_grad(set_to_none=True)
    run = make(net, shape, device, amp)
    if device == 'cpu':
        return peak_growth(run)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() - before


def published_loop(device: str) -> list[dict]:
    """The published structure and loop on the same weights; timed once, the loop is long enough to be steady."""
    torch.set_num_threads(1)
    nets = {name: network(name, device) for name in ('ours', 'published')}
    nets['published'].load_state_dict(nets['ours'].state_dict())
    runs, tiny = ({k: forward(net, shape, device) for k, net in nets.items()} for shape in (CROP, (1, 3, 16, 16)))
    torch.testing.assert_close(tiny['ours'](), tiny['published'](), rtol=1e-3, atol=1e-4)
    start = time.perf_counter()
    runs['published']()
    peer = time.perf_counter() - start
    ours = alternate({'ours': runs['ours']}, repeats=5)['ours']
    return [
        row(f'RetinexMamba / published structure and loop, forward 1x128x128 {device}, 1 thread', ours, peer,
            peer / ours, at_least=80 if device == 'cpu' else None)
    ]


def against_retinexformer(what: str, make: Callable[..., Callable], shape: tuple[int, ...], device: str,
                          seconds: float | None, memory: float | None, amp: bool = False) -> list[dict]:
    """Cost relative to Retinexformer; `seconds` and `memory` are the targets."""
    threads = 2
    torch.set_num_threads(threads)
    names = ('ours', 'retinexformer')
    runs = {k: make(network(k, device), shape, device, amp) for k in names}
    t = alternate(runs, repeats=3 if device == 'cpu' else 20)
    m = {k: in_fresh_process(peak, make, k, shape, device, amp, threads) / MB for k in names}
    what = f"RetinexMamba / Retinexformer, {what} {'x'.join(map(str, (shape[0], *shape[2:])))} {device}"
    what += ' bf16' if amp else ''
    return [
        row(what, t['ours'], t['retinexformer'], t['ours'] / t['retinexformer'], at_most=seconds),
        row(f'{what}, peak memory', m['ours'], m['retinexformer'], m['ours'] / m['retinexformer'], 'MB', at_most=memory)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='leave out the published loop')
    quick = parser.parse_args().quick
    get_root_logger().setLevel(logging.ERROR)
    rows = []
    for device in ('cpu', 'cuda') if torch.cuda.is_available() else ('cpu', ):
        rows += [] if quick else published_loop(device)
        rows += against_retinexformer('forward', forward, FRAME, device, seconds=1.3, memory=1.6)
        rows += against_retinexformer('training step', training_step, PAIR, device, seconds=2.5, memory=None)
    if torch.cuda.is_available():
        rows += against_retinexformer('training step', training_step, BATCH, 'cuda', None, None)
        rows += against_retinexformer('training step', training_step, BATCH, 'cuda', None, None, amp=True)
        rows += against_retinexformer('forward', forward, FRAME, 'cuda', None, None, amp=True)
    report('networks', rows, threads_against_retinexformer=2, load_average=os.getloadavg()[0])


if __name__ == '__main__':
    main()

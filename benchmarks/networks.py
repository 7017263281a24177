"""Networks against themselves as published, and RetinexMamba against Retinexformer: seconds and memory, official options.

python benchmarks/networks.py [--quick]          --quick leaves out the published loops, which take minutes
python benchmarks/networks.py --only CIDNet ...  some of the networks
"""
from __future__ import annotations

import argparse
import importlib
import logging
import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from common import alternate, report
from peers.retinexformer_plain import RetinexFormer
from peers.retinexmamba_plain import RetinexMamba as PublishedRetinexMamba
from scan import in_fresh_process, row, synchronised
from torch import nn

from basicsr.archs import build_network
from basicsr.archs.retinexmamba_arch import RetinexMamba
from basicsr.utils.freed_memory import freed_memory_is_kept
from basicsr.utils.logger import get_root_logger
from basicsr.utils.peak_memory import peak_growth

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    'ours': RetinexMamba, 'published': PublishedRetinexMamba, 'retinexformer': RetinexFormer
}
FRAME, CROP, PAIR, BATCH = (1, 3, 400, 600), (1, 3, 128, 128), (2, 3, 128, 128), (8, 3, 128, 128)


def peer_of(module: str, name: str, *arguments: Any) -> nn.Module:
    """Built when it is needed: some peers take parts from the tests."""
    return getattr(importlib.import_module(f'peers.{module}'), name)(*arguments)


SMALL = (2, 3, 64, 64)  # a training step of the large ones
# options of ours, its peer, the shape of a training step
AS_PUBLISHED: dict[str, tuple[dict[str, Any], Callable[[], nn.Module], tuple[int, ...]]] = {
    'CIDNet': ({}, partial(peer_of, 'cidnet_plain', 'CIDNet'), BATCH),
    'DarkIR': ({}, partial(peer_of, 'naf_plain', 'DarkIR'), BATCH),
    'NAFNet': ({'width': 32, 'enc_blk_nums': [2, 2, 4, 8], 'middle_blk_num': 12,
                'dec_blk_nums': [2, 2, 2, 2]}, partial(peer_of, 'naf_plain', 'NAFNet'), BATCH),
    'NAFNetLocal': ({'width': 32, 'enc_blk_nums': [1, 1, 1, 28], 'middle_blk_num': 1,
                     'dec_blk_nums': [1, 1, 1, 1]}, partial(peer_of, 'naf_plain', 'NAFNetLocal'), BATCH),
    'MoCEIR': ({}, partial(peer_of, 'moce_ir_plain', 'MoCEIR'), SMALL),
    'PromptIR': ({}, partial(peer_of, 'promptir_plain', 'PromptIR'), SMALL),
}
MAMBAIR = {'embed_dim': 180, 'depths': [6]}  # a sixth of the official one: all six groups are alike
for _name, (_options, _peer, _) in AS_PUBLISHED.items():
    NETWORKS |= {_name: partial(build_network, {'type': _name, **_options}), f'{_name} as published': _peer}
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


def allocating(make: Callable[..., Callable], device: str) -> AbstractContextManager:
    """Memory as `basicsr train` and `enhance` have it: a training on a CPU keeps what it has freed."""
    return freed_memory_is_kept(device) if make is training_step else nullcontext()


def peak(make: Callable[..., Callable], name: str, shape: tuple[int, ...], device: str, amp: bool, threads: int) -> int:
    """Bytes above weights and image at the peak of one run; to be called in a fresh process."""
    torch.set_num_threads(threads)
    get_root_logger().setLevel(logging.ERROR)
    net = network(name, device)
    make(net, (1, 3, 16, 16), device, amp)()  # what is loaded once
    net.zero_grad(set_to_none=True)
    run = make(net, shape, device, amp)
    if device == 'cpu':
        with allocating(make, device):
            return peak_growth(run) or 0
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


def obvious_scan() -> list[dict]:
    """A group of MambaIR and one around the published loop, which is timed once."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    ours = build_network({'type': 'MambaIR', **MAMBAIR}).eval()
    peer = peer_of('mambair_plain', 'MambaIR', MAMBAIR['embed_dim'], MAMBAIR['depths']).eval()
    peer.load_state_dict(ours.state_dict())
    tiny = (1, 3, 16, 16)
    torch.testing.assert_close(forward(ours, tiny, 'cpu')(), forward(peer, tiny, 'cpu')(), rtol=1e-3, atol=1e-4)
    rows = []
    for what, make, shape in (('forward', forward, (1, 3, 64, 64)), ('training step', training_step, (1, 3, 24, 24))):
        seconds = alternate({'ours': make(ours, shape, 'cpu')}, repeats=5)['ours']
        run, start = make(peer, shape, 'cpu'), time.perf_counter()
        run()
        loop = time.perf_counter() - start
        what = f"a group of MambaIR / around the published loop, {what} {'x'.join(map(str, (shape[0], *shape[2:])))} cpu"
        rows.append(row(what, seconds, loop, loop / seconds, at_least=20))
    return rows


def against_itself(name: str, device: str) -> list[dict]:
    """A network and the same weights in the published structure: seconds and peak memory, two threads."""
    torch.set_num_threads(2)
    peer = f'{name} as published'
    shapes = {'forward': (forward, FRAME), 'training step': (training_step, AS_PUBLISHED[name][2])}
    rows = []
    for what, (make, shape) in shapes.items():
        nets = {k: network(k, device) for k in (name, peer)}
        nets[peer].load_state_dict(nets[name].state_dict())
        check = (1, 3, 32, 32)
        torch.testing.assert_close(*(forward(net, check, device)() for net in nets.values()), rtol=1e-3, atol=1e-4)
        with allocating(make, device):
            t = alternate({k: make(net, shape, device) for k, net in nets.items()},
                          repeats=3 if device == 'cpu' else 20)
        del nets
        # where the system's allocator puts large tensors differs from process to process
        m = {
            k: statistics.median(in_fresh_process(peak, make, k, shape, device, False, 2) for _ in range(5)) / MB
            for k in (name, peer)
        }
        what = f"{name} / as published, {what} {'x'.join(map(str, (shape[0], *shape[2:])))} {device}"
        rows += [
            row(what, t[name], t[peer], t[name] / t[peer], at_most=1.05),
            row(f'{what}, peak memory', m[name], m[peer], m[name] / m[peer], 'MB', at_most=1.05)
        ]
    return rows


def against_retinexformer(what: str, make: Callable[..., Callable], shape: tuple[int, ...], device: str,
                          seconds: float | None, memory: float | None, amp: bool = False) -> list[dict]:
    """Cost relative to Retinexformer; `seconds` and `memory` are the targets."""
    threads = 2
    torch.set_num_threads(threads)
    names = ('ours', 'retinexformer')
    runs = {k: make(network(k, device), shape, device, amp) for k in names}
    with allocating(make, device):
        t = alternate(runs, repeats=3 if device == 'cpu' else 20)
    m = {k: in_fresh_process(peak, make, k, shape, device, amp, threads) / MB for k in names}
    what = f"RetinexMamba / Retinexformer, {what} {'x'.join(map(str, (shape[0], *shape[2:])))} {device}"
    what += ' bf16' if amp else ''
    return [
        row(what, t['ours'], t['retinexformer'], t['ours'] / t['retinexformer'], at_most=seconds),
        row(f'{what}, peak memory', m['ours'], m['retinexformer'], m['ours'] / m['retinexformer'], 'MB', at_most=memory)
    ]


def retinexmamba(devices: Sequence[str], quick: bool) -> list[dict]:
    rows = []
    for device in devices:
        rows += [] if quick else published_loop(device)
        rows += against_retinexformer('forward', forward, FRAME, device, seconds=1.3, memory=1.6)
        rows += against_retinexformer('training step', training_step, PAIR, device, seconds=2.5, memory=None)
        rows += against_retinexformer('training step', training_step, BATCH, device, None, None)
    if 'cuda' in devices:
        rows += against_retinexformer('training step', training_step, BATCH, 'cuda', None, None, amp=True)
        rows += against_retinexformer('forward', forward, FRAME, 'cuda', None, None, amp=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='leave out the published loops')
    names = ['RetinexMamba', 'MambaIR', *AS_PUBLISHED]
    parser.add_argument('--only', nargs='+', choices=names, default=names, help='these networks')
    args = parser.parse_args()
    get_root_logger().setLevel(logging.ERROR)
    devices = ('cpu', 'cuda') if torch.cuda.is_available() else ('cpu', )
    for name in args.only:  # each is stored when it is measured
        if name == 'RetinexMamba':
            rows = retinexmamba(devices, args.quick)
        elif name == 'MambaIR':
            rows = [] if args.quick else obvious_scan()
        else:
            rows = [row for device in devices for row in against_itself(name, device)]
        if rows:
            report(f'networks: {name}', rows, threads=2, load_average=os.getloadavg()[0])


if __name__ == '__main__':
    main()

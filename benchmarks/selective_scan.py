"""The selective scan against its reference loop: B = 1, 320 channels in 4 directions, 16 states, 4096 positions."""
from __future__ import annotations

import torch
from common import alternate, report

from basicsr.ops.selective_scan import selective_scan
from basicsr.ops.selective_scan.reference import selective_scan_reference

CHANNELS, GROUPS, STATES, LENGTH = 320, 4, 16, 4096


def inputs() -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    return [draw(1, CHANNELS, LENGTH), draw(1, CHANNELS, LENGTH) - 4, -torch.rand(CHANNELS, STATES, generator=g) * STATES,
            draw(1, GROUPS, STATES, LENGTH), draw(1, GROUPS, STATES, LENGTH), draw(CHANNELS), draw(CHANNELS)]  # yapf: disable


def main() -> None:
    torch.set_num_threads(1)
    args = inputs()
    leaves = [x.clone().requires_grad_() for x in args]

    def both(scan):
        return lambda: torch.autograd.grad(scan(*leaves).sum(), leaves)

    rows = []
    with torch.no_grad():
        forward = alternate({
            'torch': lambda: selective_scan(*args),
            'reference': lambda: selective_scan_reference(*args)
        })
    step = alternate({'torch': both(selective_scan), 'reference': both(selective_scan_reference)}, repeats=3)
    for what, times in (('forward', forward), ('forward + backward', step)):
        rows += [{
            'what': what,
            'backend': k,
            'seconds': v,
            'times faster': times['reference'] / v
        } for k, v in times.items()]
    report('selective scan', rows, shape=f'B=1, KD={CHANNELS}, N={STATES}, L={LENGTH}')


if __name__ == '__main__':
    main()

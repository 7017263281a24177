"""How far a network has come with one large image: its modules end one after the other, after known shares of the work."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from basicsr.inference.tiling import Watch

LARGE = 500_000  # pixels from which an image on a CPU takes seconds
_STEPS = 100


def shares_of(net: nn.Module, small: Tensor, forward: Callable[[Tensor], object]) -> dict[nn.Module, float]:
    """For each module, the share of all operations that are done when it ends (for the last time) in `forward(small)`.

    Images of other sizes have about the same shares. Nothing, where it cannot be counted: the work is worth more than its bar.
    """
    counter, ends = FlopCounterMode(display=False), dict[nn.Module, float]()

    def end(module: nn.Module, *_: object) -> None:
        ends[module] = counter.get_total_flops()

    # with gradients, as without them layers take kernels that the counter does not know
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng([]), suppress(Exception):
        with _hooked(net, end), counter:
            forward(small.clone())
    total = max(counter.get_total_flops(), 1)
    return {module: flops / total for module, flops in ends.items()}


@contextmanager
def watched(net: nn.Module, shares: dict[nn.Module, float], watch: Watch) -> Iterator[None]:
    """Tell `watch` of each percent that `net` does within; first of 0, and at last of all."""
    done = 0

    def end(module: nn.Module, *_: object) -> None:
        nonlocal done
        now = int(_STEPS * shares.get(module, 0.))
        if done < now < _STEPS:
            done = now
            watch(done, _STEPS, '%')

    watch(0, _STEPS, '%')
    with _hooked(net, end):
        yield
    watch(_STEPS, _STEPS, '%')


@contextmanager
def _hooked(net: nn.Module, end: Callable[..., None]) -> Iterator[None]:
    handles = [module.register_forward_hook(end) for module in net.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

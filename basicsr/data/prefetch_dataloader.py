"""BasicSR's prefetchers, for training loops written for it. Loading ahead is what the workers of the loader do here."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

__all__ = ['CPUPrefetcher', 'CUDAPrefetcher']


class CPUPrefetcher:
    """The batches of a loader one by one, None at the end of the epoch; `reset` begins the next one."""

    def __init__(self, loader: Iterable[Any]):
        self.loader = loader
        self.reset()

    def next(self) -> Any:
        return next(self.batches, None)

    def reset(self) -> None:
        self.batches = iter(self.loader)


class CUDAPrefetcher(CPUPrefetcher):
    """The same with tensors on the GPU, where `opt['num_gpu']` is not 0."""

    def __init__(self, loader: Iterable[Any], opt: dict[str, Any]):
        self.device = torch.device('cpu' if opt.get('num_gpu') == 0 else 'cuda')
        super().__init__(loader)

    def next(self) -> Any:
        batch = super().next()
        return batch and {
            k: v.to(self.device, non_blocking=True) if isinstance(v, torch.Tensor) else v for k, v in batch.items()
        }

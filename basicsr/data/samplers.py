"""Which sample comes when: a function of the seed, the epoch and the position alone."""
from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from typing import Any

import torch
from torch.utils.data import Sampler

from basicsr.utils.seed import mix_seed


class SampleIndex(int):
    """An index that also carries the seed for the sample's random crop and augmentation.

    It travels to the loader's workers with the index, so results do not depend on how many workers there are.
    """
    seed: int

    def __new__(cls, index: int, seed: int) -> SampleIndex:
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __getnewargs__(self) -> Any:  # more than of other numbers
        return int(self), self.seed


class EnlargedSampler(Sampler):
    """A shuffled pass over the dataset, repeated `ratio` times, split between processes.

    Args:
        dataset: anything with a length.
        num_replicas, rank: processes of the run, and this one.
        ratio: virtual repetition, so that small datasets have long epochs.
        seed: `manual_seed` of the run.
        at_least: shortest epoch per process; a dataset smaller than one batch is repeated to fill it.
    """

    def __init__(self, dataset: Sized, num_replicas: int = 1, rank: int = 0, ratio: float = 1, seed: int = 0,
                 at_least: int = 1):
        self.size, self.num_replicas, self.rank, self.seed = len(dataset), num_replicas, rank, seed
        self.num_samples = max(math.ceil(self.size * ratio / num_replicas), at_least)
        self.epoch, self.start = 0, 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch; `start` samples of this process are skipped (they were used before a resume)."""
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[SampleIndex]:
        generator = torch.Generator().manual_seed(mix_seed(self.seed, self.epoch))
        total = self.num_samples * self.num_replicas
        # whole shuffled passes one after the other: every sample is used equally often, up to the last pass
        passes = [torch.randperm(self.size, generator=generator) for _ in range(math.ceil(total / self.size))]
        order = torch.cat(passes).tolist()
        for position in range(self.rank, total, self.num_replicas)[self.start:]:
            yield SampleIndex(order[position], mix_seed(self.seed, self.epoch, position))

    def __len__(self) -> int:
        return self.num_samples


class ShardSampler(Sampler):
    """Every image once, in order, split between processes: for validation."""

    def __init__(self, dataset: Sized, num_replicas: int = 1, rank: int = 0):
        self.indices = range(rank, len(dataset), num_replicas)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)

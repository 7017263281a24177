"""Random numbers: every draw follows from `manual_seed`, the rank, and for data the epoch and sample position."""
from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch

_batch: ContextVar[int | None] = ContextVar('batch', default=None)


def set_random_seed(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def mix_seed(*parts: int) -> int:
    """One well-mixed 32-bit seed from several integers (near inputs give unrelated outputs)."""
    return int(np.random.SeedSequence([p % 2**32 for p in parts]).generate_state(1)[0])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with all CPU generators seeded, then put them back as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@contextmanager
def one_batch(seed: int) -> Iterator[None]:
    """Samples that are read inside belong together, see `batch_random`."""
    token = _batch.set(seed)
    try:
        yield
    finally:
        _batch.reset(token)


def batch_random() -> random.Random:
    """The same numbers for all samples of a batch; outside of batches, numbers of each sample's own."""
    seed = _batch.get()
    return random.Random(random.getrandbits(32) if seed is None else mix_seed(seed, 1))


@contextmanager
def undrawn() -> Iterator[None]:
    """Put all generators, those of the GPU as well, back as they were before a block."""
    state = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


def get_rng_state() -> dict[str, Any]:
    """State of all generators in types that load without unpickling code (lists, numbers, tensors)."""
    version, internal, gauss = random.getstate()
    numpy_state: Any = np.random.get_state()  # a mapping only on request
    name, keys, position, has_gauss, cached = numpy_state
    state = {
        'python': [version, list(internal), gauss],
        'numpy': [name, torch.from_numpy(keys.astype(np.int64)),
                  int(position),
                  int(has_gauss),
                  float(cached)],
        'torch': torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    version, internal, gauss = state['python']
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state['numpy']
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())

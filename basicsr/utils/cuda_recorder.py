"""Recording of what a function launches on a CUDA device, as `replay.Replayed` wants it."""
from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_WAITS = 'called a synchronizing CUDA operation'  # PyTorch's words for it


class Recording:
    """A CUDA graph and what its function returned: tensors in the memory of the graph, written by each replay."""

    def __init__(self, graph: torch.cuda.CUDAGraph, outputs: Any):
        self.graph, self.outputs = graph, outputs

    def replay(self) -> None:
        self.graph.replay()


class CudaRecorder:
    """Warms up and records on a stream of its own, which cannot be the default one; recordings share a memory pool.

    Results of one recording may lie where another one calculates, so they are to be copied before that is replayed.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.pool: Any = None

    def warm(self, call: Callable[[], Any], watched: bool) -> tuple[Any, str | None]:
        """Run; when watched, with a sentence if the host waited for the device, which no recording survives."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result, wait = _watched(call) if watched else (call(), None)
        current.wait_stream(self.stream)
        return result, wait

    def record(self, call: Callable[[], Any]) -> Recording:
        """Raises what the function raises, or PyTorch where it did what cannot be recorded."""
        gc.collect()  # what is freed in the middle of a recording disturbs it
        before = torch.cuda.current_stream(self.device)
        if self.pool is None:
            self.pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        try:
            # other threads, such as the one that pins batches, may go on meanwhile
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode='thread_local'):
                outputs = call()
        except Exception:
            torch.cuda.set_stream(before)  # PyTorch leaves ours in place when the end of the recording fails as well
            self._mend()
            raise
        return Recording(graph, outputs)

    def wait(self) -> None:
        """Until nothing is replayed any more."""
        torch.cuda.synchronize(self.device)

    def new_pool(self) -> None:
        """To be called when the recordings are gone: hand their memory back."""
        self.pool = None
        torch.cuda.empty_cache()

    def _mend(self) -> None:
        """After an operation that breaks a recording, PyTorch goes on as if it were recording: in two places.

        The allocator keeps the pool open, and the generator of random numbers refuses to draw.
        """
        index = torch.cuda.current_device() if self.device.index is None else self.device.index
        try:
            allocator: Any = torch._C
            end = getattr(allocator, '_cuda_endAllocateToPool', None) or allocator._cuda_endAllocateCurrentStreamToPool
            end(index, self.pool)
            allocator._cuda_releasePool(index, self.pool)
        except (AttributeError, RuntimeError):
            pass  # it was closed, which is so unless the end of the recording failed
        self.pool = None
        scratch, graph = torch.zeros(1, device=self.device), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode='thread_local'):
            scratch.zero_()  # a recording that succeeds closes the generator


def _watched(call: Callable[[], Any]) -> tuple[Any, str | None]:
    before, wait = torch.cuda.get_sync_debug_mode(), None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            result = call()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for warning in caught:
        if _WAITS in str(warning.message):
            wait = wait or f'the host waits for the GPU in {Path(warning.filename).name}, line {warning.lineno}'
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return result, wait

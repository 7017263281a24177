"""Milliseconds, launches and memory of a function on a GPU; on a CPU the same calls give what a clock sees."""
from __future__ import annotations

import statistics
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

Function = Callable[[], Any]


def synchronise(device: str) -> None:
    if device == 'cuda':
        torch.cuda.synchronize()


def _once(function: Function, device: str, times: int = 1) -> float:
    """Milliseconds of a call, of several in a row."""
    if device != 'cuda':
        start = time.perf_counter()
        for _ in range(times):
            function()
        return (time.perf_counter() - start) * 1e3 / times
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(times):
        function()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / times


def eager(function: Function, device: str, count: int = 10) -> float:
    """Median of single calls, the host's part included."""
    for _ in range(2):
        function()
    synchronise(device)
    return statistics.median(_once(function, device) for _ in range(1 if device == 'cpu' else count))


def replayed(function: Function, device: str, count: int = 5) -> float:
    """Median of a recorded CUDA graph: the GPU's part alone. It is replayed for 10 ms or more at a time.

    NaN where the function cannot be recorded, which is printed: other figures of the row are worth having.
    """
    try:
        run = recorded(function) if device == 'cuda' else function
    except RuntimeError:
        traceback.print_exc()
        return float('nan')
    run()
    times = max(1, min(100, int(10 / max(_once(run, device), 1e-3)))) if device == 'cuda' else 1
    return statistics.median(_once(run, device, times) for _ in range(1 if device == 'cpu' else count))


def recorded(function: Function) -> Function:
    """A CUDA graph of a function; warmed up on a stream of its own, as recording wants it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


def kernels(function: Function, device: str) -> list[tuple[str, int, float]]:
    """(name, launches, milliseconds) of everything a call runs on the device, the longest first."""
    wanted = DeviceType.CUDA if device == 'cuda' else DeviceType.CPU
    synchronise(device)
    with profile(activities=[ProfilerActivity.CUDA if device == 'cuda' else ProfilerActivity.CPU]) as found:
        function()
        synchronise(device)
    rows = [(e.key, e.count, e.self_device_time_total / 1e3 if device == 'cuda' else e.self_cpu_time_total / 1e3)
            for e in found.key_averages() if e.device_type == wanted and not getattr(e, 'is_user_annotation', False)]
    return sorted(rows, key=lambda row: -row[2])


def launches_and_busy(function: Function, device: str) -> tuple[int, float]:
    """Launches of a call, and milliseconds in which the device works on them."""
    rows = kernels(function, device)
    return sum(row[1] for row in rows), sum(row[2] for row in rows)


def peak(function: Function, device: str) -> float:
    """MiB above what is there before; 0 on the CPU."""
    if device != 'cuda':
        function()
        return 0.
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    function()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20

"""Functions of tensors whose kernels are recorded once for each input size and then replayed: CUDA graphs.

What the host does in such a function, Python's part, happens while it is warmed up and recorded and never again.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from basicsr.utils.cuda_recorder import CudaRecorder
from basicsr.utils.logger import get_root_logger

__all__ = ['CudaRecorder', 'Replayed', 'python_state']


class Replayed:
    """A function of tensors, called as that function; its results are copies, and may be kept.

    For each set of input shapes, types and memory orders: the first calls run as they are, as real work, so that
    everything that happens once (tuning, workspaces, lazy state) is over; the next one is recorded, which executes
    nothing, and replayed at once; later ones are replayed. Calls in which the host waits for the device, or leaves
    something behind for the next one, cannot be recorded: one line in the log says so, and the function is called.

    Args:
        function: tensors to tensors, in any nest of tuples, lists, named tuples and dicts beside other values, which
            are those of the recording. It may change tensors in place.
        recorder: makes recordings; None calls the function, as on every device other than CUDA.
        label: what the line in the log calls the function.
        warmup: calls before the recording. The last of them is watched, and done again when the host waited in it.
        limit: recordings that are kept; each holds its inputs and results, and all share one pool of memory. When memory
            runs out elsewhere in the function, all of them are forgotten, and it is called again.
        evict: beyond `limit`, a size that comes twice in a row takes the place of the one that was not used for longest;
            else the function is called.
        state: what the host keeps between calls, as a mapping that is compared; see `python_state`.
        on_failure: called when a recording has failed or memory has run out, to repair what the host has done by half.
    """

    def __init__(self, function: Callable[..., Any], recorder: Any, label: str, warmup: int = 3, limit: int = 8,
                 evict: bool = False, state: Callable[[], dict[str, Any]] = dict,
                 on_failure: Callable[[], None] | None = None):
        self.function, self.recorder, self.label = function, recorder, label
        self.warmup, self.limit, self.evict = warmup, limit, evict
        self.state, self.on_failure = state, on_failure
        self._calls: Counter = Counter()  # of each key before its recording
        self._waits = 0  # watched calls in a row in which the host waited
        self._before: dict[Any, dict[str, Any]] = {}
        self._recordings: dict[Any, tuple[list[Tensor], Any]] = {}  # the order is that of their use
        self._failed: set[Any] = set()
        self._last: Any = None  # key of the call before
        self._told: set[str] = set()

    @property
    def recordings(self) -> int:
        return len(self._recordings)

    def __call__(self, *inputs: Tensor) -> Any:
        if self.recorder is None:
            return self.function(*inputs)
        inputs = tuple(_dense(t) for t in inputs)
        key = tuple((t.shape, t.dtype, t.stride(), t.device) for t in inputs)
        again, self._last = key == self._last, key
        if key in self._recordings:
            return self._replay(key, inputs)
        if key not in self._failed and self._calls[key] < self.warmup:
            return self._warm(key, inputs)
        full = self.recordings >= self.limit
        if key in self._failed or (full and not (self.evict and again)):
            if full and not self.evict:
                self._say(f'{self.limit} sizes are recorded; further ones are not')
            return self._with_memory(lambda: self.function(*inputs))
        if full:
            self.recorder.wait()
            del self._recordings[next(iter(self._recordings))]
        return self._record(key, inputs)

    def clear(self) -> None:
        """Forget all recordings and give their memory back; sizes that come again are recorded again."""
        if self._recordings:
            self.recorder.wait()
            self._recordings.clear()
            self.recorder.new_pool()

    def stop(self, why: str | None = None) -> None:
        """Call the function from now on; `why` goes to the log."""
        self.clear()
        self.recorder = None
        if why:
            self._say(why)

    def _warm(self, key: Any, inputs: tuple[Tensor, ...]) -> Any:
        if not self._calls[key]:
            self._before[key] = self.state()
        watched = self._calls[key] == self.warmup - 1
        result, wait = self._with_memory(lambda: self.recorder.warm(lambda: self.function(*inputs), watched))
        if not watched:
            self._calls[key] += 1
            return result
        before, after = self._before.get(key, {}), self.state()
        changed = [name for name, value in after.items() if before.get(name) != value]
        self._waits = self._waits + 1 if wait else 0
        if changed:
            self.stop(f'{changed[0]} changes from call to call')
        elif self._waits > 1:  # once can be the first time of something
            self.stop(wait)
        elif not wait:
            self._calls[key] += 1
            self._before.pop(key, None)
        return result

    def _record(self, key: Any, inputs: tuple[Tensor, ...]) -> Any:
        static = [torch.empty_like(t).copy_(t) for t in inputs]
        try:
            recording = self.recorder.record(lambda: self.function(*static))
        except Exception as error:
            self._failed.add(key)
            self._say(reason(error))
            if self.on_failure:
                self.on_failure()
        else:
            self._recordings[key] = static, recording
            return self._replay(key, static)
        # outside of the handler, which holds on to the memory of the recording
        return self._with_memory(lambda: self.function(*inputs))

    def _replay(self, key: Any, inputs: Any) -> Any:
        static, recording = self._recordings[key] = self._recordings.pop(key)
        for mine, theirs in zip(static, inputs):
            if mine is not theirs:
                mine.copy_(theirs, non_blocking=True)
        recording.replay()
        return copies(recording.outputs)

    def _with_memory(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except torch.OutOfMemoryError:
            if not self._recordings:
                raise
        self.clear()
        if self.on_failure:
            self.on_failure()
        return call()

    def _say(self, why: str) -> None:
        if why not in self._told:
            self._told.add(why)
            get_root_logger().info(f'{self.label} runs without CUDA graphs: {why}')


def copies(value: Any) -> Any:
    """The same nest with copies of its tensors."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return type(value)((k, copies(v)) for k, v in value.items())
    if isinstance(value, tuple) and hasattr(value, '_fields'):
        return type(value)(*map(copies, value))
    return type(value)(map(copies, value)) if isinstance(value, (tuple, list)) else value


def python_state(*modules: Any) -> dict[str, Any]:
    """Numbers, flags and strings that modules, their children and their classes keep, by name.

    A loss that counts its calls changes them, and would stand still in a recording.
    """
    found: dict[str, Any] = {}
    for module in (child for m in modules for child in m.modules()):
        for holder in (type(module), module):
            for key, value in vars(holder).items():
                if not key.startswith('__') and isinstance(value, (bool, int, float, str)):
                    found.setdefault(f'{type(module).__name__}.{key}', []).append(value)
    return found


def reason(error: BaseException) -> str:
    """The first line of the first error: a recording that breaks fails again when it is closed."""
    while error.__context__ is not None:
        error = error.__context__
    return f'{type(error).__name__}: {(str(error).strip() or "no message").splitlines()[0]}'


def _dense(t: Tensor) -> Tensor:
    """A window of a larger tensor as a tensor of its own, so that all inputs of a size are alike."""
    dense = torch.empty_like(t, device='meta')
    return t if dense.stride() == t.stride() else torch.empty_like(t).copy_(t)

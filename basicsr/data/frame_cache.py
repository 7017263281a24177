"""Frames stored as NumPy arrays: read by memory map, resized, and kept in bounded memory."""
from __future__ import annotations

from collections import OrderedDict

import cv2
import numpy as np
from torch.utils.data import get_worker_info

from basicsr.utils.errors import UserError, naming


class FrameReader:
    """Reads `.npy` frames.

    Args:
        size: (width, height) that frames are resized to, bilinearly; None keeps them as they are.
        cache_gib: memory for resized frames in GiB, shared evenly by the loader's workers; 0 keeps none. When it is
            used up, the frames that were not asked for longest are dropped.
    """

    def __init__(self, size: tuple[int, int] | None, cache_gib: float = 0):
        self.size, self.limit = size, cache_gib * 2**30
        self.frames: OrderedDict[str, np.ndarray] = OrderedDict()
        self.held = 0  # bytes

    def read(self, path: str) -> np.ndarray:
        """(H, W, 3) BGR uint8, not to be written to. Raises `UserError` naming a file that is no such array."""
        if path in self.frames:
            self.frames.move_to_end(path)
            return self.frames[path]
        frame = load_frame(path)
        if self.size is not None and frame.shape[1::-1] != self.size:
            frame = cv2.resize(frame, self.size, interpolation=cv2.INTER_LINEAR)
        if self.limit:
            self._keep(path, np.ascontiguousarray(frame))
        return frame

    def shape(self, path: str) -> tuple[int, int]:
        """(height, width) of what `read` gives; the frame's pixels are not read. Raises `UserError` as `read` does."""
        height, width, _ = load_frame(path).shape
        return (height, width) if self.size is None else (self.size[1], self.size[0])

    def _keep(self, path: str, frame: np.ndarray) -> None:
        worker = get_worker_info()
        limit = self.limit / (worker.num_workers if worker else 1)
        if frame.nbytes > limit:
            return
        if isinstance(frame.base, np.memmap):
            frame = frame.copy()  # a mapping holds the file open and counts for no memory
        self.frames[path] = frame
        self.held += frame.nbytes
        while self.held > limit:
            self.held -= self.frames.popitem(last=False)[1].nbytes


def load_frame(path: str) -> np.ndarray:
    """(H, W, 3) uint8 view of a `.npy` file; only the parts that are used are read from the disk."""
    try:
        with naming(path):
            frame = np.load(path, mmap_mode='r')
    except (ValueError, EOFError) as error:
        raise UserError(f"'{path}' cannot be read as a NumPy array (damaged or cut off): {error}") from error
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise UserError(
            f"'{path}' holds {frame.dtype} values of shape {frame.shape}; a frame is uint8 (H, W, 3) in BGR")
    return np.asarray(frame)

"""Bars for who waits: photos, or frames of a clip, with their rate and the time left, and how far a large one has come."""
from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from basicsr.inference.restorer import ImageRestorer


class Progress:
    """Shown on a terminal alone, while the block runs. `count`: of photos; one has no bar but that of its parts."""

    def __init__(self, restorer: ImageRestorer, count: int, unit: str = 'image'):
        self.restorer, self.count, self.unit = restorer, count, unit
        self.shown = sys.stderr.isatty()
        self.files: Any = None
        self.parts: Any = None

    def __enter__(self) -> Progress:
        self.files = tqdm(total=self.count, unit=self.unit, disable=self.count < 2 or not self.shown)
        self.restorer.watch = self._part_done if self.shown else None
        return self

    def _part_done(self, done: int, count: int, what: str) -> None:
        if done == 0:
            self._close_parts()
            self.parts = tqdm(total=count, unit=what, leave=False)
        self.parts.update(done - self.parts.n)

    def _close_parts(self) -> None:
        if self.parts is not None:
            self.parts.close()
            self.parts = None

    def file_done(self) -> None:
        self._close_parts()
        self.files.update()

    def __exit__(self, *exc_info: object) -> None:
        self._close_parts()
        self.restorer.watch = None
        self.files.close()

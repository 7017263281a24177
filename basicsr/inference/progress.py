"""Bars for who waits: photos with their rate and the time left, and the tiles of a large one."""
from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from basicsr.inference.restorer import ImageRestorer


class Progress:
    """Shown on a terminal alone, while the block runs. `count`: of photos; one has no bar but that of its tiles."""

    def __init__(self, restorer: ImageRestorer, count: int):
        self.restorer, self.count = restorer, count
        self.shown = sys.stderr.isatty()
        self.files: Any = None
        self.tiles: Any = None

    def __enter__(self) -> Progress:
        self.files = tqdm(total=self.count, unit='image', disable=self.count < 2 or not self.shown)
        self.restorer.watch = self._tile_done if self.shown else None
        return self

    def _tile_done(self, done: int, count: int) -> None:
        if done == 0:
            self._close_tiles()
            self.tiles = tqdm(total=count, unit='tile', leave=False)
        else:
            self.tiles.update()

    def _close_tiles(self) -> None:
        if self.tiles is not None:
            self.tiles.close()
            self.tiles = None

    def file_done(self) -> None:
        self._close_tiles()
        self.files.update()

    def __exit__(self, *exc_info: object) -> None:
        self._close_tiles()
        self.restorer.watch = None
        self.files.close()

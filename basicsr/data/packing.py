"""Images as LMDB databases in BasicSR's format."""
from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lmdb
from tqdm import tqdm

from basicsr.data.pairing import by_stem, image_folder
from basicsr.utils.errors import UserError
from basicsr.utils.files import read_bytes
from basicsr.utils.img import decode_image, encode_png
from basicsr.utils.names import name_bytes
from basicsr.utils.outputs import check_outputs

_COMMIT_BYTES = 1 << 26


def make_lmdb(folder: str | Path, output: str | Path, compress_level: int = 1) -> int:
    """Pack the images of a folder, each under its name without suffix; returns their number.

    PNG files are packed as they are; other types are decoded and encoded again.
    """
    images = by_stem(image_folder(str(folder), 'folder'), folder, 'folder')
    _pack(images.items(), output, compress_level)
    return len(images)


def make_lmdb_from_imgs(data_path: str, lmdb_path: str, img_path_list: Sequence[str], keys: Sequence[str],
                        batch: int = 5000, compress_level: int = 1, *args: Any, **kwargs: Any) -> None:
    """Pack the images `img_path_list` below `data_path` under `keys` (BasicSR).

    `batch`, and the arguments that BasicSR has beyond these, say how to read and how much room to make: not needed here.
    """
    if len(img_path_list) != len(keys):
        raise UserError(f'{len(img_path_list)} images, but {len(keys)} keys')
    _pack(zip(keys, (Path(data_path) / path for path in img_path_list)), lmdb_path, compress_level)


def _pack(images: Iterable[tuple[str, Path]], output: str | Path, compress_level: int) -> None:
    images = list(images)
    for key, path in images:
        if '\n' in key:  # meta_info.txt has a line for each name
            raise UserError(f'{key!r} in {str(path.parent)!r} has a line break in its name; rename it')
    check_outputs([_unfinished(Path(output))], {path.parent for _, path in images}, str(output))  # it is emptied
    maker = LmdbMaker(output, compress_level=compress_level)
    with maker.env:  # closed, too, when an image cannot be read
        for key, path in tqdm(images, unit='image', disable=not sys.stderr.isatty()):
            data = read_bytes(path)
            img = decode_image(data, str(path))
            maker.put(data if path.suffix.lower() == '.png' else encode_png(img, compress_level), key, img.shape)
        maker.close()


def _unfinished(output: Path) -> Path:
    """The name of a database until it is complete."""
    return output.with_name(output.name + '.part')


class LmdbMaker:
    """Writes `data.mdb`, `lock.mdb` and `meta_info.txt`. The folder takes its name at `close`, when it is complete.

    Args:
        lmdb_path: a folder that ends in '.lmdb' and is not there yet.
        map_size, batch: as in BasicSR; not needed, as room is made when it is.
        compress_level: noted beside each image.

    Raises:
        UserError: for another ending, or a folder that exists.
    """

    def __init__(self, lmdb_path: str | Path, map_size: int = 0, batch: int = 0, compress_level: int = 1):
        self.output, self.compress_level = Path(lmdb_path), compress_level
        if self.output.suffix != '.lmdb':
            raise UserError(f"'{lmdb_path}' must end in '.lmdb'")
        if self.output.exists():
            raise UserError(f"'{lmdb_path}' exists already; remove it, or choose another name")
        self.part = _unfinished(self.output)
        shutil.rmtree(self.part, ignore_errors=True)
        self.part.mkdir(parents=True)
        self.env = lmdb.open(os.fsencode(self.part), map_size=_COMMIT_BYTES * 2)
        self.lines: list[str] = []
        self.waiting: list[tuple[bytes, bytes]] = []
        self.size = 0  # of what is waiting

    def put(self, img_byte: bytes, key: str, img_shape: Sequence[int]) -> None:
        """Add an image: its encoded bytes, its key, and (H, W, C)."""
        self.waiting.append((name_bytes(key), img_byte))
        self.size += len(img_byte)
        h, w, c = img_shape
        self.lines.append(f'{key}.png ({h},{w},{c}) {self.compress_level}\n')
        if self.size >= _COMMIT_BYTES:
            self._store()

    def close(self) -> None:
        self._store()
        self.env.close()
        (self.part / 'meta_info.txt').write_bytes(name_bytes(''.join(self.lines)))
        self.part.rename(self.output)

    def _store(self) -> None:
        """Write in one transaction. A full database loses the whole transaction: enlarge it and write again."""
        while True:
            try:
                with self.env.begin(write=True) as transaction:
                    for key, value in self.waiting:
                        transaction.put(key, value)
            except lmdb.MapFullError:
                self.env.set_mapsize(self.env.info()['map_size'] * 2)
            else:
                self.waiting, self.size = [], 0
                return

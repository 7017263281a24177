"""Folders of images as LMDB databases in BasicSR's format."""
from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import lmdb
from tqdm import tqdm

from basicsr.data.pairing import by_stem, image_folder
from basicsr.utils.errors import UserError
from basicsr.utils.files import read_bytes
from basicsr.utils.img import decode_image, encode_png
from basicsr.utils.names import name_bytes

_COMMIT_BYTES = 1 << 26


def make_lmdb(folder: str | Path, output: str | Path, compress_level: int = 1) -> int:
    """Write `data.mdb`, `lock.mdb` and `meta_info.txt`; returns the number of images.

    Values are PNG bytes. PNG files are packed as they are; other types are decoded and encoded again.
    """
    output = Path(output)
    if output.suffix != '.lmdb':
        raise UserError(f"'{output}' must end in '.lmdb'")
    if output.exists():
        raise UserError(f"'{output}' exists already; remove it, or choose another name")
    images = by_stem(image_folder(str(folder), 'folder'), folder, 'folder')
    odd = next((key for key in images if '\n' in key), None)
    if odd is not None:  # meta_info.txt has a line for each name
        raise UserError(f'{odd!r} in {str(folder)!r} has a line break in its name; rename it')
    part = output.with_name(output.name + '.part')  # takes its name when it is complete
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    lines, entries, size = [], [], 0
    with lmdb.open(os.fsencode(part), map_size=sum(p.stat().st_size for p in images.values()) * 2 + (1 << 26)) as env:
        for key, path in tqdm(images.items(), unit='image', disable=not sys.stderr.isatty()):
            data = read_bytes(path)
            img = decode_image(data, str(path))
            if path.suffix.lower() != '.png':
                data = encode_png(img, compress_level)
            entries.append((name_bytes(key), data))
            size += len(data)
            lines.append(f'{key}.png ({img.shape[0]},{img.shape[1]},{img.shape[2]}) {compress_level}\n')
            if size >= _COMMIT_BYTES:
                _store(env, entries)
                entries, size = [], 0
        _store(env, entries)
    (part / 'meta_info.txt').write_bytes(name_bytes(''.join(lines)))
    part.rename(output)
    return len(images)


def _store(env, entries: list[tuple[bytes, bytes]]) -> None:
    """Write entries in one transaction. A full database loses the whole transaction: enlarge it and write again."""
    while True:
        try:
            with env.begin(write=True) as transaction:
                for key, value in entries:
                    transaction.put(key, value)
            return
        except lmdb.MapFullError:
            env.set_mapsize(env.info()['map_size'] * 2)

"""Pack a folder of images into an LMDB database in BasicSR's format: basicsr lmdb FOLDER OUT.lmdb"""
from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from basicsr.utils.errors import UserError, run_main

_COMMIT_EVERY = 500


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', help='images to pack; keys are file names without extension')
    parser.add_argument('output', help="database to make, a new folder whose name ends in '.lmdb'")
    parser.add_argument('--compress_level', type=int, default=1, choices=range(10), help='of PNG')
    return parser.parse_args(argv)


def make_lmdb(folder: str | Path, output: str | Path, compress_level: int = 1) -> int:
    """Write `data.mdb`, `lock.mdb` and `meta_info.txt`; returns the number of images.

    Values are PNG bytes. PNG files are packed as they are; other types are decoded and encoded again.
    """
    import lmdb
    from tqdm import tqdm

    from basicsr.data.pairing import image_folder
    from basicsr.utils.img import decode_image, encode_png
    output = Path(output)
    if output.suffix != '.lmdb':
        raise UserError(f"'{output}' must end in '.lmdb'")
    if output.exists():
        raise UserError(f"'{output}' exists already; remove it, or choose another name")
    images = image_folder(str(folder), 'folder')
    part = output.with_name(output.name + '.part')  # takes its name when it is complete
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    env = lmdb.open(str(part), map_size=sum(p.stat().st_size for p in images) * 2 + (1 << 26))
    lines = []
    transaction = env.begin(write=True)
    for i, path in enumerate(tqdm(images, unit='image', disable=not sys.stderr.isatty()), start=1):
        data = path.read_bytes()
        img = decode_image(data, str(path))
        if path.suffix.lower() != '.png':
            data = encode_png(img, compress_level)
        transaction = _put(env, transaction, path.stem.encode(), data)
        lines.append(f'{path.stem}.png ({img.shape[0]},{img.shape[1]},{img.shape[2]}) {compress_level}\n')
        if i % _COMMIT_EVERY == 0:
            transaction.commit()
            transaction = env.begin(write=True)
    transaction.commit()
    env.close()
    (part / 'meta_info.txt').write_text(''.join(lines), encoding='utf-8')
    part.rename(output)
    return len(images)


def _put(env, transaction, key: bytes, value: bytes):
    """Store an entry; a database that became too small is enlarged. Returns the transaction to go on with."""
    import lmdb
    while True:
        try:
            transaction.put(key, value)
            return transaction
        except lmdb.MapFullError:
            transaction.commit()
            env.set_mapsize(env.info()['map_size'] * 2)
            transaction = env.begin(write=True)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)

    def run() -> None:
        count = make_lmdb(args.folder, args.output, args.compress_level)
        print(f'{count} images packed into {args.output}')

    return run_main(run)

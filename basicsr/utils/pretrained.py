"""Weights that come with the project, by name. `pretrained_weights/manifest.json` says what they are and what they do."""
from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from basicsr.utils.errors import UserError, nearest
from basicsr.utils.files import as_stored
from basicsr.utils.names import below

LIMIT = 20_000_000  # bytes of a file that comes with the project
README_PROTOCOL = 'retinexformer'  # of numbers that stand alone

_PACKAGE = Path(__file__).resolve().parents[1]


def folder() -> Path:
    """Where the manifest and its files are: inside an installed package, beside that of a checkout."""
    inside = _PACKAGE / 'pretrained_weights'
    return inside if inside.is_dir() else _PACKAGE.parent / 'pretrained_weights'


def read_manifest(where: Path | None = None) -> dict[str, Any]:
    """`{default: name or None, weights: {name: entry}}`; empty where there is no manifest. See the folder's README.

    Args:
        where: the folder, default `folder()`.

    Raises:
        UserError: when it is damaged.
    """
    file = (where or folder()) / 'manifest.json'
    if not file.is_file():
        return {'default': None, 'weights': {}}
    try:
        manifest = json.loads(file.read_text(encoding='utf-8'))
        return {'default': manifest['default'], 'weights': dict(manifest['weights'])}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{file}' is damaged; restore it (git checkout, or install again)") from error


def default_weights() -> str | None:
    """The name of the weights that `enhance` takes when it is given none; None when none come with the project."""
    return read_manifest()['default']


def find_weights(name_or_path: str | Path) -> Path:
    """The weight file of a path or, where there is none, of a name in the manifest.

    Raises:
        UserError: when it is neither, or when the file of the name is missing or not what was published.
    """
    given = Path(as_stored(name_or_path))
    if given.is_file():
        return given
    where, known = folder(), read_manifest()['weights']
    if str(name_or_path) not in known:
        names = f" Names: {', '.join(known)}" if known else ''
        raise UserError(f"there is no weight file '{name_or_path}', and no weights of that name come with the toolbox."
                        f"{nearest(str(name_or_path), known)}{names}")
    file = below(where, known[str(name_or_path)]['file'], what=f"'{where / 'manifest.json'}'")
    _check(file, known[str(name_or_path)], str(name_or_path))
    return file


def describe_weights(name: str) -> str:
    """What the manifest says of them in one line: measured PSNR and SSIM with their protocol, licence."""
    entry = read_manifest()['weights'][name]
    metrics, plain = entry['metrics'], shipped_metrics(entry)['plain']
    return (f"{plain[f'psnr {README_PROTOCOL}']:.2f} dB PSNR, {plain[f'ssim {README_PROTOCOL}']:.4f} SSIM on the"
            f" {metrics['images']} images of {metrics['dataset']} (protocol {README_PROTOCOL}); licence:"
            f" {entry['licence']}")


def shipped_metrics(entry: dict[str, Any]) -> dict[str, Any]:
    """`{iterations, plain: {...}, GT-mean: {...}}` of the candidate that was published."""
    return entry['metrics']['candidates'][entry['entry']]


def _check(file: Path, entry: dict[str, Any], name: str) -> None:
    again = 'get it again (git checkout, or install again)'
    if not file.is_file():
        raise UserError(f"the weights '{name}' should be in '{file}', which is missing; {again}")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() == entry['sha256']:
        return
    if re.match(rb'version https?://\S*(git-lfs|media)', data):
        raise UserError(f"'{file}' is a pointer of Git LFS and not the weights; git lfs pull fetches them")
    how = (f"it has {len(data):,d} of {entry['bytes']:,d} bytes"
           if len(data) != entry['bytes'] else 'its SHA-256 is another one')
    raise UserError(f"'{file}' is not what was published as '{name}' ({how}); {again}")

"""The images of a board, as they are before anything is measured."""
from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from basicsr.config.files import data_of
from basicsr.utils.errors import UserError
from basicsr.utils.files import scan_images, sha256_of
from basicsr.utils.names import name_bytes


def check_images(block: dict[str, Any]) -> None:
    """Raise `UserError` for a data set that is empty, does not pair, or has images that cannot be used by their headers."""
    from basicsr.data import construct  # only now, as it takes torch
    from basicsr.evaluation.data_sets import DataSet
    from basicsr.evaluation.preconditions import sizes_of
    try:
        data = construct(block)
    except ValueError as error:
        raise UserError(f"'{block['type']}' cannot be built: {error}") from error
    if not len(data):
        raise UserError('there are no images')
    sizes_of(DataSet(data,
                     {key: value for key, value in block.items() if key != 'block'}))  # the board is no option file


def fingerprint(block: dict[str, Any]) -> str:
    """A SHA-256 of the names and contents of all files that a data set may read."""
    digest = hashlib.sha256()
    for root in map(Path, data_of(block)):
        found = scan_images(root, recursive=True) if root.is_dir() else None
        files = sorted([*found.images, *found.others, *found.hidden]) if found else [Path()]
        for file in files:
            digest.update(b'%b\0%b\0' % (name_bytes(file.as_posix()), sha256_of(root / file).encode()))
        digest.update(b'\0')  # what comes now lies elsewhere
    return digest.hexdigest()


def subfolders(block: dict[str, Any]) -> dict[str, str]:
    """The folders directly below the root in which images without ground truth lie, and what stands behind the metrics of each:
    ' DICM', or '' where all images lie in this one."""
    root = block.get('dataroot_lq')
    if not block.get('recursive') or not isinstance(root, str) or not Path(root).is_dir() or 'dataroot_gt' in block:
        return {}
    places = {subfolder_of(str(root / path), block) for path in scan_images(root, recursive=True).images}
    return {folder: f' {folder}' if len(places) > 1 else '' for folder in sorted(places) if folder}


def subfolder_of(file: str, block: dict[str, Any]) -> str:
    """The folder directly below the root in which an image lies, '' for none."""
    root, path = Path(str(block.get('dataroot_lq'))), Path(file)
    inside = path.relative_to(root).parts if path.is_relative_to(root) else ()
    return inside[0] if len(inside) > 1 else ''

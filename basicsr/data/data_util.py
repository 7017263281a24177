"""The module name of BasicSR for finding images and pairs, with the mappings that its data sets work with."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from basicsr.data.pairing import image_folder, pair_by_name, pair_lmdb
from basicsr.utils.storage import read_lmdb_keys

__all__ = [
    'paired_paths_from_folder', 'paired_paths_from_lmdb', 'paired_paths_from_meta_info_file', 'paths_from_folder',
    'paths_from_lmdb'
]


def paths_from_folder(folder: str) -> list[str]:
    """Images of a folder, in natural order. Raises `UserError` when there are none."""
    return [str(path) for path in image_folder(folder, 'folder')]


def paths_from_lmdb(folder: str) -> list[str]:
    """Keys of an LMDB database."""
    return read_lmdb_keys(folder)


def paired_paths_from_folder(folders: Sequence[str], keys: Sequence[str],
                             filename_tmpl: str = '{}') -> list[dict[str, str]]:
    """Pairs of two folders, given as (input, ground truth), as mappings `{'<key>_path': path}` with the two `keys`.

    Raises:
        UserError: naming files that have no partner.
    """
    lq, gt = folders
    return _named(pair_by_name(lq, gt, filename_tmpl), keys)


def paired_paths_from_meta_info_file(folders: Sequence[str], keys: Sequence[str], meta_info_file: str,
                                     filename_tmpl: str = '{}') -> list[dict[str, str]]:
    """The same for the ground truths that a file lists, the first word of each line."""
    lq, gt = folders
    return _named(pair_by_name(lq, gt, filename_tmpl, meta_info_file), keys)


def paired_paths_from_lmdb(folders: Sequence[str], keys: Sequence[str]) -> list[dict[str, str]]:
    """The same for two LMDB databases, whose keys stand in the place of paths."""
    lq, gt = folders
    return _named(pair_lmdb(lq, gt), keys)


def _named(pairs: Sequence[tuple[str | Path, str | Path]], keys: Sequence[str]) -> list[dict[str, str]]:
    return [{f'{keys[0]}_path': str(lq), f'{keys[1]}_path': str(gt)} for lq, gt in pairs]

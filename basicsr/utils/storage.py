"""Where image bytes come from: single files, or an LMDB database in BasicSR's format."""
from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import lmdb

from basicsr.utils.errors import UserError
from basicsr.utils.files import read_bytes, read_text
from basicsr.utils.names import name_bytes

# LMDB refuses to open a database twice in a process, so readers of the same one (lq = gt, train = val) share it
_OPEN: WeakValueDictionary[str, lmdb.Environment] = WeakValueDictionary()


def is_database(root: Any) -> bool:
    """Whether a root of images is a database, by its name."""
    return isinstance(root, str) and root.rstrip('/').endswith('.lmdb')


def full_name(root: Any, path: str) -> str:
    """What messages call an image: its path, or that of its database with the entry behind it."""
    return f"{root.rstrip('/')}/{path}" if is_database(root) else path


class FileClient:
    """BasicSR's reader of bytes.

    Args:
        backend: 'disk' or 'lmdb'.
        db_paths, client_keys: for LMDB, one path and one name per database.
    """

    def __init__(self, backend: str = 'disk', db_paths: str | list[str] | None = None,
                 client_keys: str | list[str] = 'default', **kwargs: Any):
        if backend not in ('disk', 'lmdb'):
            raise UserError(f"io_backend type '{backend}' is not supported; one of: disk, lmdb")
        self.backend = backend
        paths = [db_paths] if isinstance(db_paths, str) else db_paths or []
        keys = [client_keys] if isinstance(client_keys, str) else client_keys
        self._databases = {k: LmdbReader(p, **kwargs) for k, p in zip(keys, paths)} if backend == 'lmdb' else {}

    def get(self, filepath: str, client_key: str = 'default') -> bytes:
        """Bytes of a file, or of an LMDB entry."""
        if self.backend == 'disk':
            return read_bytes(filepath)
        return self._databases[client_key].get(str(filepath))

    def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
        """The text of a file. Raises `UserError` for databases, which hold images."""
        if self.backend != 'disk':
            raise UserError(f"'{filepath}' is read as text, which databases do not hold; use io_backend type disk")
        return read_bytes(filepath).decode(encoding)


class LmdbReader:
    """Reads entries of one database; opened lazily so that each loader worker has its own handle."""

    def __init__(self, path: str, readonly: bool = True, lock: bool = False, readahead: bool = False, **kwargs: Any):
        self.path = path
        self._open = {'readonly': readonly, 'lock': lock, 'readahead': readahead, **kwargs}
        self._env: lmdb.Environment | None = None

    def get(self, key: str) -> bytes:
        if self._env is None:
            self._env = self._environment()
        try:
            with self._env.begin(write=False) as transaction:
                value = transaction.get(name_bytes(key))
        except lmdb.Error as error:
            raise UserError(f"the entry '{key}' of the database '{self.path}' cannot be read: {error}") from error
        if value is None:
            raise UserError(f"the database '{self.path}' has no entry '{key}', although meta_info.txt lists it")
        return bytes(value)

    def _environment(self) -> lmdb.Environment:
        name = os.path.realpath(self.path)
        env = _OPEN.get(name)
        if env is None:
            try:
                env = _OPEN[name] = lmdb.open(os.fsencode(self.path), **self._open)
            except lmdb.Error as error:
                raise UserError(f"the database '{self.path}' cannot be opened: {error}") from error
        return env

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {'_env': None}


def read_lmdb_keys(path: str) -> list[str]:
    """Entry names of a BasicSR LMDB, from its meta_info.txt (`<key>.png (h,w,c) level` lines)."""
    meta = Path(path) / 'meta_info.txt'
    if meta.parent.suffix != '.lmdb' or not meta.is_file():
        raise UserError(
            f"'{path}' is not a database of this toolbox (a folder '*.lmdb' with meta_info.txt); make one with: "
            'basicsr lmdb FOLDER OUT.lmdb')
    # names may hold spaces and dots, so the line is read from its end
    lines = [line.rstrip('\r') for line in read_text(meta).split('\n')]
    names = [re.sub(r' \([\d, ]+\).*$', '', line) for line in lines if line]
    return [name.rsplit('.', 1)[0] for name in names]

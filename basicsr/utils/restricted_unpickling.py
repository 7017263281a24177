"""Files of PyTorch read without running what they may hold, and with every checksum compared."""
from __future__ import annotations

import argparse
import errno
import pickle
import re
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch

from basicsr.utils.errors import UserError, naming

_IS_FOLDER = 0x10  # among the attributes of MS-DOS, of a record of an archive
# Lightning's dictionary of hyper-parameters, in the places where its versions keep it; read as a plain dictionary
_LIGHTNING_DICTS = ('pytorch_lightning.utilities.parsing.AttributeDict',
                    'lightning_fabric.utilities.data.AttributeDict',
                    'lightning.pytorch.utilities.parsing.AttributeDict',
                    'lightning.fabric.utilities.data.AttributeDict')


def _posix_path(*parts: str) -> str:
    return str(PurePosixPath(*parts))


def _windows_path(*parts: str) -> str:
    return str(PureWindowsPath(*parts))


# paths among the hyper-parameters, in the places where Python's versions keep the classes; read as text anywhere
_PATH_CLASSES = {
    'PosixPath': _posix_path, 'PurePosixPath': _posix_path, 'WindowsPath': _windows_path,
    'PureWindowsPath': _windows_path
}
_PATHS = [(as_text, f'{module}.{name}') for module in ('pathlib', 'pathlib._local')
          for name, as_text in _PATH_CLASSES.items()]


def read_file(path: str | Path) -> Any:
    """The content of a `.pth`/`.state` file, on the CPU.

    Only tensors, numbers, strings and containers are loaded, the NumPy scalars that `.state` files of the
    Retinexformer family hold, and the namespaces and paths (as text) of Lightning's hyper-parameters. Raises
    `UserError` when the file is missing, damaged or holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"'{path}' is a folder, no file" if path.is_dir() else f"there is no file '{path}'")
    with naming(path), path.open('rb') as file:
        start = file.read(2)
        if start not in (b'PK', b'\x80\x02', b'\x80\x04'):  # zip archive, or the pickle of old PyTorch
            raise UserError(f"'{path}' is not a weights file (.pth, .safetensors)")
    if start == b'PK':
        _check_archive(path)
    safe: list[Any] = [
        np.dtype, np.ndarray, *(type(np.dtype(t)) for t in (np.float64, np.float32, np.int64, np.int32, np.bool_))
    ]
    # what makes NumPy's values again, in the places where NumPy 1 and 2 keep it
    makers: list[Any] = [np.float64(0).__reduce__()[0], np.empty(0).__reduce__()[0]]
    for make in makers:
        safe += [(make, f'numpy.{core}.multiarray.{make.__name__}') for core in ('core', '_core')]
    safe += [argparse.Namespace, *((dict, name) for name in _LIGHTNING_DICTS), *_PATHS]
    try:
        with naming(path), torch.serialization.safe_globals(safe):
            return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r'GLOBAL (\S+)', str(error))  # as torch calls a class or function of a pickle
        if named:
            raise UserError(f"'{path}' is not loaded: it holds more than weights, or is damaged"
                            f" (it asks for {named[1]}, which could run code)") from error
        raise UserError(_damaged(path)) from error
    except (RuntimeError, EOFError, LookupError, ValueError, ArithmeticError, AssertionError, AttributeError, TypeError,
            struct.error) as error:  # what the reader of old files, which has no checksums, stumbles over
        raise UserError(_damaged(path)) from error


def _check_archive(path: Path) -> None:
    """Compare every record with its checksum, which PyTorch does not. Raises `UserError`."""
    try:
        with naming(path), zipfile.ZipFile(path) as archive:
            for record in archive.infolist():
                # read as nothing by PyTorch, whose tensors are then what the memory holds
                if record.is_dir() or record.external_attr & _IS_FOLDER or not _has_its_size(record):
                    raise UserError(_damaged(path, f', {record.filename} is said to be no file of its size'))
            if not any(record.CRC for record in archive.infolist()):  # PyTorch can be told to leave them out
                return
            wrong = archive.testzip()
    except (zipfile.BadZipFile, EOFError, ValueError, zlib.error, RuntimeError
            ) as error:  # the last: zipfile's word for records that are encrypted or compressed in other ways
        raise UserError(_damaged(path)) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place before the beginning of the file
            raise
        raise UserError(_damaged(path)) from error
    if wrong:
        raise UserError(_damaged(path, f', the checksum of {wrong} is another one'))


def _has_its_size(record: zipfile.ZipInfo) -> bool:
    return record.compress_type != zipfile.ZIP_STORED or record.file_size == record.compress_size


def _damaged(path: Path, how: str = '') -> str:
    return f"'{path}' is cut off or damaged ({path.stat().st_size:,d} bytes{how}); get it again"

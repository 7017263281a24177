"""Weight files: read every form that circulates, write `.pth` and safetensors atomically. Never unpickles code."""
from __future__ import annotations

import argparse
import errno
import io
import json
import pickle
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch

from basicsr.utils.errors import UserError, naming, nearest, some
from basicsr.utils.files import atomic_write
from basicsr.utils.names import check_unicode

_IS_FOLDER = 0x10  # among the attributes of MS-DOS, of a record of an archive
_FALLBACK = ('params_ema', 'params', 'state_dict', 'model_state_dict', 'net_g')
WRAPPERS = ('net.', 'model.', 'net_g.')  # what modules around a network call it: of Lightning, of training scripts
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


@dataclass
class Weights:
    """A state dict and what else its file says.

    Attributes:
        network: the network it belongs to, `{type, arguments}`, or None.
        choice: the entry of the file that was taken.
        meta: further texts and numbers. claims: the hyper-parameters of a Lightning file.
    """
    state: dict[str, torch.Tensor]
    network: dict[str, Any] | None = None
    choice: str = ''
    meta: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)


def read_file(path: str | Path) -> Any:
    """The content of a `.pth`/`.state` file, on the CPU.

    Only tensors, numbers, strings and containers are loaded, the NumPy scalars that `.state` files of the
    Retinexformer family hold, and the namespaces and paths (as text) of Lightning's hyper-parameters. Raises
    `UserError` when the file is missing, damaged or holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no file '{path}'")
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


def load_weights(path: str | Path, key: str | None = None) -> Weights:
    """Weights from `.pth` (bare, or in an entry, see `key`), Lightning's `.ckpt`, or `.safetensors`.

    Args:
        key: entry to take; None takes the first of `params_ema`, `params`, `state_dict`, `model_state_dict` and `net_g`, then
            the only entry with weights, or the bare file. Where one of these five is asked for and missing, the next one is
            taken, and `choice` says so; any other has to be there.

    `module.` prefixes (DataParallel), `_orig_mod.` (torch.compile) and, of Lightning's files, those of `WRAPPERS` are
    stripped. In other files these may be a network's own names: whoever knows those strips them (`unwrapped`).

    Raises:
        UserError: for a file that is damaged or holds no weights, and for an entry that it has not.
    """
    path = Path(path)
    bare = key is None or key in _FALLBACK  # what any file of weights alone may stand for
    if path.suffix == '.safetensors':
        if not bare:
            raise UserError(f"'{path}' has no entry '{key}': a file of safetensors has none")
        return _load_safetensors(path)
    content = read_file(path)
    if not isinstance(content, dict):
        raise UserError(f"'{path}' holds a {type(content).__name__}, not weights")
    entries = [k for k, v in content.items() if isinstance(v, dict) and _is_state(v)]
    if not entries and _is_state(content):
        if not bare:
            raise UserError(f"'{path}' has no entry '{key}': it holds the weights of one network, without entries")
        state, choice = content, 'bare state dict'
    else:
        wanted = [key, *(_FALLBACK[1:] if bare else ())] if key else _FALLBACK
        only = entries[0] if bare and len(entries) == 1 else None
        found = next((k for k in wanted if k in entries), only)
        if found is None:
            raise UserError(f"'{path}' has no entry '{key or 'params'}'.{nearest(key or 'params', entries)}"
                            f" It has: {some(list(entries or content)) or 'nothing'}" +
                            ('; choose by --key, or param_key_g of an option file' if entries else ''))
        choice = found if key in (None, found) else f'{found} (there is no {key})'
        if key is None and found not in _FALLBACK:
            choice = f'{found}, the only one'
        state = content[found]
        if found == 'state_dict':
            marked = 'hyper_parameters' in content or 'pytorch-lightning_version' in content
            state = _of_lightning_module(state, marked)
    network = content.get('network_g') if isinstance(content.get('network_g'), dict) else None
    meta = {k: v for k, v in content.items() if isinstance(v, (str, int, float))}
    return Weights(strip_prefixes(state), network, choice, meta, _flat(content.get('hyper_parameters')))


def save_weights(path: str | Path, content: dict[str, Any]) -> None:
    """`torch.save`, atomically."""
    # through memory: a disk that fills up is then an OSError like any other, not a failure inside the zip writer
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def save_safetensors(path: str | Path, state: dict[str, torch.Tensor], network: dict[str, Any], **meta: Any) -> None:
    """Weights of one network with its `{type, arguments}` in the header."""
    data = safetensors_bytes(state, network, **meta)
    with atomic_write(path) as file:
        file.write(data)


def safetensors_bytes(state: dict[str, torch.Tensor], network: dict[str, Any], **meta: Any) -> bytes:
    """What `save_safetensors` writes."""
    from safetensors.torch import save
    return save({k: v.contiguous() for k, v in state.items()},
                {'format': 'pt', 'network_g': json.dumps(network), **{k: json.dumps(v) for k, v in meta.items()}})


def strip_prefixes(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    out = {}
    for key, value in state.items():
        for prefix in ('module.', '_orig_mod.', 'module.'):
            key = key.removeprefix(prefix)
        out[key] = value
    return out


def _of_lightning_module(state: dict[str, torch.Tensor], marked: bool) -> dict[str, torch.Tensor]:
    """The network of a LightningModule; its losses and metrics may have tensors of their own beside it."""
    state = strip_prefixes(state)
    for prefix in WRAPPERS:
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if own and (marked or len(own) == len(state)):
            return own
    return state


def unwrapped(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights without the name of the wrapper that all of them stand below; as they are where there is none."""
    prefix = next((p for p in WRAPPERS if state and all(k.startswith(p) for k in state)), '')
    return strip_prefixes({k.removeprefix(prefix): v for k, v in state.items()}) if prefix else state


def _flat(hyper_parameters: Any) -> dict[str, Any]:
    """Hyper-parameters by name: of a mapping or namespace, also one that holds another (`opt`, `args`)."""
    if isinstance(hyper_parameters, argparse.Namespace):
        hyper_parameters = vars(hyper_parameters)
    if not isinstance(hyper_parameters, dict):
        return {}
    out: dict[str, Any] = {}
    for key, value in hyper_parameters.items():
        out |= _flat(value) or {key: value}
    return out


def _load_safetensors(path: Path) -> Weights:
    from safetensors import SafetensorError, safe_open
    if not path.is_file():
        raise UserError(f"there is no file '{path}'")
    check_unicode(path, 'safetensors')
    try:
        with naming(path), safe_open(path, 'pt') as file:
            header = file.metadata() or {}
            state = {k: file.get_tensor(k) for k in file.keys()}
        meta = {k: json.loads(v) for k, v in header.items() if k != 'format'}
    except OSError as error:
        if error.errno is not None:
            raise
        raise UserError(
            f"'{path}' cannot be read: {error}") from error  # safetensors' own, without the name of the file
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"'{path}' is not a safetensors file or is damaged ({error})") from error
    return Weights(strip_prefixes(state), meta.pop('network_g', None), 'safetensors', meta)


def _is_state(mapping: dict) -> bool:
    return bool(mapping) and all(isinstance(v, torch.Tensor) for v in mapping.values())

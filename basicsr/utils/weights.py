"""Weight files: read every form that circulates, write `.pth` and safetensors atomically. Never unpickles code."""
from __future__ import annotations

import argparse
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from basicsr.utils.errors import UserError, naming, nearest, some
from basicsr.utils.files import atomic_write
from basicsr.utils.names import check_unicode
from basicsr.utils.restricted_unpickling import read_file

_FALLBACK = ('params_ema', 'params', 'state_dict', 'model_state_dict', 'net_g')
WRAPPERS = ('net.', 'model.', 'net_g.')  # what modules around a network call it: of Lightning, of training scripts


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


def load_weights(path: str | Path, key: str | None = None, preferred: str | None = None) -> Weights:
    """Weights from `.pth` (bare, or in an entry, see `key`), Lightning's `.ckpt`, or safetensors, whatever the file is called.

    Args:
        key: entry that has to be there; None takes the first of `params_ema`, `params`, `state_dict`, `model_state_dict` and
            `net_g`, then the only entry with weights, or the bare file.
        preferred: entry to take where no `key` is given. Where it is one of these five and missing, the next one is taken, and
            `choice` says so; any other has to be there.

    `module.` prefixes (DataParallel), `_orig_mod.` (torch.compile) and, of Lightning's files, those of `WRAPPERS` are
    stripped. In other files these may be a network's own names: whoever knows those strips them (`unwrapped`).

    Raises:
        UserError: for a file that is damaged or holds no weights, and for an entry that it has not.
    """
    path = Path(path)
    bare = key is None and preferred in (None, *_FALLBACK)  # what any file of weights alone may stand for
    key = key or preferred
    if path.suffix == '.safetensors' or _begins_as_safetensors(path):
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
            unusable = next((k for k in wanted if k in content and (k == key or not entries)), None)
            if unusable is not None:
                raise UserError(f"the entry '{unusable}' of '{path}' {_why_none(content[unusable])}")
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
    network = _network(content.get('network_g'))
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
    return Weights(strip_prefixes(state), _network(meta.pop('network_g', None)), 'safetensors', meta)


def _begins_as_safetensors(path: Path) -> bool:
    """Files from an address need not have a suffix: the length of a JSON header, then the header."""
    try:
        with path.open('rb') as file:
            start = file.read(9)
        length = int.from_bytes(start[:8], 'little')
        return len(start) == 9 and start[8:] == b'{' and 8 + length <= path.stat().st_size
    except OSError:  # said by whoever reads it
        return False


def _network(block: Any) -> dict[str, Any] | None:
    """`{type, arguments}`; None for anything else that stands in its place."""
    return block if isinstance(block, dict) and isinstance(block.get('type'), str) else None


def _why_none(entry: Any) -> str:
    """What keeps an entry from being weights."""
    if not isinstance(entry, dict):
        return f'is a {type(entry).__name__}, not weights'
    other = next((k for k, v in entry.items() if not isinstance(v, torch.Tensor)), None)
    return 'is empty' if not entry else f"holds '{other}', a {type(entry[other]).__name__}, which is no tensor"


def _is_state(mapping: dict) -> bool:
    return bool(mapping) and all(isinstance(v, torch.Tensor) for v in mapping.values())

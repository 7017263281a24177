"""Put weights into a network, or say precisely why they do not fit."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from basicsr.archs import build_network
from basicsr.config.base import read_options
from basicsr.utils.errors import UserError, some
from basicsr.utils.logger import get_root_logger
from basicsr.utils.places import shipped_root
from basicsr.utils.weights import unwrapped
from basicsr.weights.detection import detect


def load_into(net: nn.Module, state: dict[str, Tensor], source: str, strict: bool = True,
              trained: bool = False) -> None:
    """Load `state` into `net`.

    Args:
        source: file name for messages.
        strict: raise for keys that are missing, unknown or of another shape; else skip them with a warning.
        trained: the network is to be trained, which values that are not finite forbid; else they are told.

    Raises:
        UserError: listing the keys, and the network that the weights look like.
    """
    mine = net.state_dict()
    if not mine.keys() & state.keys():
        state = unwrapped(state)
    shapes = {k: tuple(v.shape) for k, v in mine.items()}
    misfits = [k for k, v in state.items() if k in shapes and tuple(v.shape) != shapes[k]]
    # casting would make something else of truth values, whole numbers (of quantised parameters) and complex ones; sparse ones
    # cannot be copied, and what is on the device meta has no values
    trained_ones = {k for k, _ in net.named_parameters()}

    def unlike(k: str, v: Tensor) -> bool:
        cast = mine[k].is_floating_point() and not v.is_floating_point()
        return v.layout != torch.strided or v.is_meta or (cast and (k in trained_ones or not _keeps_counts(v, mine[k])))

    wrong_type = [k for k, v in state.items() if k in mine and k not in misfits and unlike(k, v)]
    misfits += wrong_type
    try:
        result = net.load_state_dict({k: v for k, v in state.items() if k not in misfits}, strict=False)
    except RuntimeError as error:  # shapes under a renamed prefix
        raise UserError(f"'{source}' does not fit {type(net).__name__}: {error}") from error
    missing = [k for k in result.missing_keys if k not in misfits]
    _say_not_finite({k: v for k, v in state.items() if k not in wrong_type}, source, trained)
    if not (misfits or missing or result.unexpected_keys):
        return
    lines = [
        f"{k}: {'x'.join(map(str, state[k].shape))} in the file, {'x'.join(map(str, shapes[k]))} in the network"
        for k in misfits if k not in wrong_type
    ]
    types = [f'{k}: {_type(state[k])} in the file, {_type(mine[k])} in the network' for k in wrong_type]
    text = '; '.join(part for part in (
        _listed('missing in the file', missing),
        _listed('unknown to the network', result.unexpected_keys),
        _listed('of another shape', lines),
        _listed('of another type', types),
    ) if part)
    if strict:
        only_types = misfits == wrong_type and not (missing or result.unexpected_keys)
        hint = '' if only_types else _whose(state, mine)
        raise UserError(f"'{source}' does not fit {type(net).__name__}: {text}.{hint}")
    get_root_logger().warning(f"'{source}': skipped what does not fit {type(net).__name__}: {text}")


def _keeps_counts(counts: Tensor, own: Tensor) -> bool:
    """Whether whole numbers are the same ones in the network's type, as those that published files count something by."""
    whole = not counts.is_complex() and counts.dtype is not torch.bool
    return whole and torch.equal(counts.to(own.dtype).to(counts.dtype), counts)


def _say_not_finite(state: dict[str, Tensor], source: str, trained: bool) -> None:
    wrong = [k for k, v in state.items() if v.is_floating_point() and not torch.isfinite(v.float()).all()]
    if wrong:
        text = f"'{source}': {_listed('hold values that are not finite', wrong)}"
        if trained:
            raise UserError(f'{text}; no training begins with these')
        get_root_logger().warning(text)


def _type(tensor: Tensor) -> str:
    kind = ' without values (device meta)' if tensor.is_meta else ''
    if tensor.layout != torch.strided:
        kind = f" {str(tensor.layout).removeprefix('torch.')}"
    return str(tensor.dtype).removeprefix('torch.') + kind


def _whose(state: dict[str, Tensor], mine: dict[str, Tensor]) -> str:
    """' The weights look like X.': what they are of, and how that differs from the network with the weights `mine`."""
    found, here = detect(state), detect(mine) or {}
    if found is None:
        return ''
    said = f' The weights look like {_spell(found)}'
    others = [f'{k}: {v}, here {here[k]}' for k, v in found.items() if k in here and here[k] != v]
    if here.get('type') == found['type'] and others:
        said += f", with other arguments than here ({some(others, sep='; ')})"
    if not _has_shapes(found, state):
        return f'{said}, in a revision that is not known here.'
    return f'{said}{_options_of(found, state, other=here.get("type") != found["type"])}.'


def _has_shapes(network: dict[str, Any], state: dict[str, Tensor]) -> bool:
    """Whether these are the weights of the network, by names and shapes."""
    try:
        with torch.device('meta'):
            net = build_network(network)
    except Exception:  # of others, which need not be able to be built so
        return False
    wanted = {k: v.shape for k, v in net.state_dict().items()}
    return any(wanted == {k: v.shape for k, v in own.items()} for own in (state, unwrapped(state)))


def _options_of(network: dict[str, Any], state: dict[str, Tensor], other: bool) -> str:
    """', as in Options/X.yml': an option file with a network of these weights, else for `other` networks the nearest."""
    found = []
    for file in sorted((shipped_root() / 'Options').glob('*.yml')):
        options = read_options(file)[0].get('network_g')
        if isinstance(options, dict) and options.get('type') == network['type']:
            found.append((sum(options.get(k) == v for k, v in network.items()), file.name, options))
    found.sort(key=lambda row: -row[0])
    fitting = next((name for _, name, options in found if _has_shapes(options, state)), None)
    if fitting:
        return f', as in Options/{fitting}'
    return f'; with other arguments, Options/{found[0][1]} is of that network' if found and other else ''


def _listed(what: str, keys: list[str]) -> str:
    return f'{len(keys)} keys {what}: {some(keys)}' if keys else ''


def _spell(options: dict) -> str:
    arguments = ', '.join(f'{k}: {v}' for k, v in options.items() if k != 'type')
    return f"{options['type']} ({arguments})"

"""Put weights into a network, or say precisely why they do not fit."""
from __future__ import annotations

from torch import Tensor, nn

from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger
from basicsr.weights.detection import detect


def load_into(net: nn.Module, state: dict[str, Tensor], source: str, strict: bool = True) -> None:
    """Load `state` into `net`.

    Args:
        source: file name for messages.
        strict: raise for keys that are missing, unknown or of another shape; else skip them with a warning.

    Raises:
        UserError: listing the keys, and the network that the weights look like.
    """
    mine = net.state_dict()
    shapes = {k: tuple(v.shape) for k, v in mine.items()}
    misfits = [k for k, v in state.items() if k in shapes and tuple(v.shape) != shapes[k]]
    try:
        result = net.load_state_dict({k: v for k, v in state.items() if k not in misfits}, strict=False)
    except RuntimeError as error:  # shapes under a renamed prefix
        raise UserError(f"'{source}' does not fit {type(net).__name__}: {error}") from error
    missing = [k for k in result.missing_keys if k not in misfits]
    if not (misfits or missing or result.unexpected_keys):
        return
    lines = [
        f"{k}: {'x'.join(map(str, state[k].shape))} in the file, {'x'.join(map(str, shapes[k]))} in the network"
        for k in misfits
    ]
    text = '; '.join(part for part in (
        _listed('missing in the file', missing),
        _listed('unknown to the network', result.unexpected_keys),
        _listed('of another shape', lines),
    ) if part)
    if strict:
        looks_like = detect(state)
        hint = f' The weights look like {_spell(looks_like)}.' if looks_like else ''
        raise UserError(f"'{source}' does not fit {type(net).__name__}: {text}.{hint}")
    get_root_logger().warning(f"'{source}': skipped what does not fit {type(net).__name__}: {text}")


def _listed(what: str, keys: list[str], limit: int = 8) -> str:
    if not keys:
        return ''
    more = f' and {len(keys) - limit} more' if len(keys) > limit else ''
    return f"{len(keys)} keys {what}: {', '.join(keys[:limit])}{more}"


def _spell(options: dict) -> str:
    arguments = ', '.join(f'{k}: {v}' for k, v in options.items() if k != 'type')
    return f"{options['type']} ({arguments})"

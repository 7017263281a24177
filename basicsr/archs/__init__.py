"""Networks: `<name>_arch.py` holds one family each. Nothing is imported until a network is built."""
from __future__ import annotations

import inspect
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from basicsr.archs.detection import detect
from basicsr.registry import ARCH_REGISTRY, build
from basicsr.utils.errors import UserError

if TYPE_CHECKING:
    from torch import nn

__all__ = ['build_network', 'detect', 'input_channels']

_INPUT_CHANNELS = ('in_channels', 'inp_channels', 'num_in_ch')  # as published networks call the argument


def build_network(opt: dict[str, Any]) -> nn.Module:
    """The network of an option block `{type: NAME, **arguments}`.

    Raises `UserError` for an unknown name and for arguments that the constructor refuses.
    """
    try:
        return build(ARCH_REGISTRY, deepcopy(dict(opt)))
    except (TypeError, ValueError) as error:
        raise UserError(f"network '{opt['type']}' cannot be built: {error}") from error


def input_channels(opt: dict[str, Any]) -> int | None:
    """Channels of the images that the network of an option block takes; None where no argument tells."""
    parameters = inspect.signature(ARCH_REGISTRY.get(opt['type'])).parameters
    name = next((n for n in _INPUT_CHANNELS if n in parameters), None)
    return None if name is None else opt.get(name, parameters[name].default)

"""Networks: `<name>_arch.py` holds one family each. Nothing is imported until a network is built."""
from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from basicsr.archs.description import describe, input_channels
from basicsr.registry import ARCH_REGISTRY, build
from basicsr.utils.errors import UserError

if TYPE_CHECKING:
    from torch import nn

__all__ = ['build_network', 'describe', 'input_channels']


def build_network(opt: dict[str, Any]) -> nn.Module:
    """The network of an option block `{type: NAME, **arguments}`.

    Raises `UserError` for an unknown name and for arguments that the constructor refuses.
    """
    try:
        return build(ARCH_REGISTRY, deepcopy(dict(opt)))
    except (TypeError, ValueError) as error:
        raise UserError(f"network '{opt['type']}' cannot be built: {error}", block=opt) from error

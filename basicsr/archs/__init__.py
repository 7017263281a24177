"""Networks: `<name>_arch.py` holds one family each. Nothing is imported until a network is built."""
from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from basicsr.archs.description import describe, input_channels
from basicsr.config.blocks import checked_component
from basicsr.registry import ARCH_REGISTRY, build
from basicsr.utils.errors import UserError

if TYPE_CHECKING:
    from torch import nn

__all__ = ['build_network', 'describe', 'input_channels']

# what constructors raise where arguments do not go together: on purpose, or because a list is too short or PyTorch takes none
_REFUSALS = (TypeError, ValueError, LookupError, ArithmeticError, AssertionError, RuntimeError)


def build_network(opt: dict[str, Any]) -> nn.Module:
    """The network of an option block `{type: NAME, **arguments}`.

    Wherever the block comes from, its arguments are checked as those of an option file are.

    Raises `UserError` for an unknown name and for arguments that the checks or the constructor refuse.
    """
    ARCH_REGISTRY.get(opt['type'])  # what goes wrong in its import is another matter
    checked, mistakes = checked_component(ARCH_REGISTRY, deepcopy(dict(opt)))
    if mistakes:
        raise UserError(f"network '{opt['type']}' cannot be built: {'; '.join(mistakes)}", block=opt)
    try:
        return build(ARCH_REGISTRY, checked)
    except _REFUSALS as error:
        said = str(error) if isinstance(error, (TypeError, ValueError)) else f'{type(error).__name__}: {error}'
        raise UserError(f"network '{opt['type']}' cannot be built: {said}", block=opt) from error

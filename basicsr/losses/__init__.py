"""Training losses, found in `<name>_loss.py`. `build_loss({type, **arguments})` makes one."""
from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from basicsr.registry import LOSS_REGISTRY, build
from basicsr.utils.errors import UserError

if TYPE_CHECKING:
    from torch import nn

__all__ = ['build_loss']


def build_loss(opt: dict[str, Any]) -> nn.Module:
    """Raises `UserError` for an unknown name or arguments that the constructor refuses."""
    try:
        return build(LOSS_REGISTRY, deepcopy(dict(opt)))
    except (TypeError, ValueError) as error:
        raise UserError(f"loss '{opt['type']}' cannot be built: {error}", block=opt) from error


def __getattr__(name: str) -> Any:
    """BasicSR's package holds its losses, too: each is imported when it is asked for."""
    if name in LOSS_REGISTRY.index():
        return LOSS_REGISTRY.get(name)
    if name in ('g_path_regularize', 'gradient_penalty_loss', 'r1_penalty'):
        from basicsr.losses import gan_loss
        return getattr(gan_loss, name)
    raise AttributeError(f"module 'basicsr.losses' has no attribute '{name}'")

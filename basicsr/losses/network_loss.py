"""Losses that need the network that is trained: they compare what it has beside its result."""
from __future__ import annotations

from typing import Annotated, Any

import torch.nn.functional as F
from annotated_types import MinLen
from torch import Tensor, nn

from basicsr.losses.mixed_loss import MixedLoss
from basicsr.utils.errors import UserError
from basicsr.utils.registry import LOSS_REGISTRY
from basicsr.utils.values import NonNegative


class NetworkLoss(nn.Module):
    """Base. It stands in `train.losses` and is called once after each pass, with the network and both images.

    Args:
        terms: losses of what is compared, as in `MixedLoss`; None is `L1Loss` alone.
        loss_weight: factor of their sum.
    """

    of_network = True

    def __init__(self, terms: Annotated[dict[str, dict[str, Any]], MinLen(1)]
                 | Annotated[list[dict[str, Any]], MinLen(1)] | None = None, loss_weight: NonNegative = 1.0):
        super().__init__()
        self.terms, self.loss_weight = MixedLoss([{'type': 'L1Loss'}] if terms is None else terms), loss_weight

    def compared(self, prefix: str, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {prefix + name: self.loss_weight * value for name, value in self.terms(pred, target).items()}


@LOSS_REGISTRY.register()
class HVILoss(NetworkLoss):
    """Losses in the colour space HVI of a network that has one (CIDNet). Logged as `l_hvi_<term>`.

    The exponent k of the space learns from both images: but for perceptual terms, the target has a gradient as well.
    """

    def forward(self, net: Any, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) in [0, 1]. Raises `UserError` for a network without such a colour space."""
        space: Any = getattr(net, 'trans', None)
        if not hasattr(space, 'density_k'):
            raise UserError(f'HVILoss: {type(net).__name__} has no colour space HVI; take it out of train.losses')
        return self.compared('hvi_', space(pred), space(target))


@LOSS_REGISTRY.register()
class SideOutputLoss(NetworkLoss):
    """Losses of the small image that a network makes halfway (DarkIR). Logged as `l_side_<term>`.

    The image is enlarged to the size of the ground truth, each pixel a square; what the network has padded is cut off.
    """

    def forward(self, net: Any, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Target (B, C, H, W). Raises `UserError` for a network whose pass in training has left no `side_output`."""
        side = getattr(net, 'side_output', None)
        if side is None:
            raise UserError(f'SideOutputLoss: {type(net).__name__} has no side output; take it out of train.losses'
                            ' (a network has none under DataParallel: use torchrun)')
        factor = net.description.multiple
        enlarged = F.interpolate(side.float(), scale_factor=factor, mode='nearest')
        return self.compared('side_', enlarged[..., :target.shape[-2], :target.shape[-1]], target)

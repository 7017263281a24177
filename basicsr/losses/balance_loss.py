"""The loss that keeps the experts of a mixture equally busy."""
from __future__ import annotations

from torch import Tensor, nn

from basicsr.utils.errors import UserError
from basicsr.utils.registry import LOSS_REGISTRY
from basicsr.utils.values import NonNegative


@LOSS_REGISTRY.register()
class MoEBalanceLoss(nn.Module):
    """The balance loss that a network of mixtures of experts leaves in `auxiliary_loss` at each training pass.

    It stands in `train.losses`, beside at least one loss that compares images.

    Args:
        loss_weight: factor of the result.
    """

    of_network = True  # called once after each pass, with the network before the images
    of_whole_batch = True

    def __init__(self, loss_weight: NonNegative = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, net: nn.Module, *images: Tensor) -> Tensor:
        """The images are not looked at. Raises `UserError` for a network that has no balance loss."""
        value = getattr(net, 'auxiliary_loss', None)
        if value is None:
            raise UserError(f'MoEBalanceLoss: {type(net).__name__} has no balance loss; take it out of train.losses'
                            ' (a network of mixtures of experts has none under DataParallel: use torchrun)')
        return self.loss_weight * value

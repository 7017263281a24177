"""The module name of BasicSR for its losses, which stand one kind in a file here; as functions, they take weights."""
from torch import Tensor

from basicsr.losses.loss_util import weighted_loss
from basicsr.losses.perceptual_loss import PerceptualLoss
from basicsr.losses.pixel_loss import CharbonnierLoss, L1Loss, MSELoss, PSNRLoss, WeightedTVLoss

__all__ = [
    'CharbonnierLoss', 'L1Loss', 'MSELoss', 'PSNRLoss', 'PerceptualLoss', 'WeightedTVLoss', 'charbonnier_loss',
    'l1_loss', 'mse_loss'
]


@weighted_loss
def l1_loss(pred: Tensor, target: Tensor) -> Tensor:
    return (pred - target).abs()


@weighted_loss
def mse_loss(pred: Tensor, target: Tensor) -> Tensor:
    return (pred - target).square()


@weighted_loss
def charbonnier_loss(pred: Tensor, target: Tensor, eps: float = 1e-12) -> Tensor:
    return ((pred - target).square() + eps).sqrt()

"""The module name of earlier versions of BasicSR, and of the Restormer family, for all losses."""
from basicsr.losses.basic_loss import (
    CharbonnierLoss,
    L1Loss,
    MSELoss,
    PerceptualLoss,
    PSNRLoss,
    WeightedTVLoss,
    charbonnier_loss,
    l1_loss,
    mse_loss,
)
from basicsr.losses.gan_loss import (
    GANLoss,
    MultiScaleGANLoss,
    g_path_regularize,
    gradient_penalty_loss,
    r1_penalty,
)

__all__ = [
    'CharbonnierLoss', 'GANLoss', 'L1Loss', 'MSELoss', 'MultiScaleGANLoss', 'PSNRLoss', 'PerceptualLoss',
    'WeightedTVLoss', 'charbonnier_loss', 'g_path_regularize', 'gradient_penalty_loss', 'l1_loss', 'mse_loss',
    'r1_penalty'
]

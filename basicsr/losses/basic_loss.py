"""The module name of BasicSR for its losses, which stand one kind in a file here."""
from basicsr.losses.perceptual_loss import PerceptualLoss
from basicsr.losses.pixel_loss import CharbonnierLoss, L1Loss, MSELoss, WeightedTVLoss

__all__ = ['CharbonnierLoss', 'L1Loss', 'MSELoss', 'PerceptualLoss', 'WeightedTVLoss']

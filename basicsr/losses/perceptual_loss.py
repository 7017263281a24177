"""Losses on features of a classification network."""
from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import MinLen
from torch import Tensor, nn

from basicsr.losses.loss_util import full_precision
from basicsr.losses.vgg import VGGFeatures
from basicsr.utils.registry import LOSS_REGISTRY
from basicsr.utils.values import FilePath, NonNegative

_CRITERIA = {'l1': F.l1_loss, 'l2': F.mse_loss, 'fro': lambda a, b: torch.linalg.vector_norm(a - b)}


@LOSS_REGISTRY.register()
class PerceptualLoss(nn.Module):
    """Distance of VGG features and of their Gram matrices (Johnson et al. 2016), with BasicSR's arguments.

    Args:
        layer_weights: factor of each layer by name, convI_J (before the ReLU), reluI_J or poolI; None is {conv5_4: 1}.
        vgg_type: 'vgg19' or 'vgg16'.
        use_input_norm: normalise inputs, RGB in [0, 1], by ImageNet's mean and standard deviation.
        range_norm: inputs are in [-1, 1].
        perceptual_weight, style_weight: factors of the two results; 0 leaves one out.
        criterion: 'l1', 'l2' (mean squared error) or 'fro' (Frobenius norm of the difference).
        weights: weight file; None finds torchvision's in `pretrained_weights/` or torch's cache, or downloads it.
    """

    def __init__(
        self,
        layer_weights: Annotated[dict[str, NonNegative], MinLen(1)] | None = None,
        vgg_type: Literal['vgg16', 'vgg19'] = 'vgg19',
        use_input_norm: bool = True,
        range_norm: bool = False,
        perceptual_weight: NonNegative = 1.0,
        style_weight: NonNegative = 0.0,
        criterion: Literal['l1', 'l2', 'fro'] = 'l1',
        weights: FilePath | None = None,
    ):
        super().__init__()
        if criterion not in _CRITERIA:
            raise ValueError(f"criterion '{criterion}' is not supported; one of: {', '.join(_CRITERIA)}")
        self.layer_weights = {'conv5_4': 1.0} if layer_weights is None else dict(layer_weights)
        self.perceptual_weight, self.style_weight = perceptual_weight, style_weight
        self.criterion = _CRITERIA[criterion]
        self.of_whole_batch = criterion == 'fro'  # one norm of all images
        self.vgg = VGGFeatures(self.layer_weights, vgg_type, use_input_norm, range_norm, weights)

    @full_precision
    def forward(self, pred: Tensor, target: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(B, 3, H, W) each; returns (perceptual, style), None for one whose weight is 0."""
        features = self.vgg(pred)
        with torch.no_grad():
            wanted = self.vgg(target)
        percep = style = None
        if self.perceptual_weight > 0:
            percep = self.perceptual_weight * sum(w * self.criterion(features[k], wanted[k])
                                                  for k, w in self.layer_weights.items())
        if self.style_weight > 0:
            style = self.style_weight * sum(w * self.criterion(_gram(features[k]), _gram(wanted[k]))
                                            for k, w in self.layer_weights.items())
        return percep, style


def _gram(features: Tensor) -> Tensor:
    """Inner products of channels, (B, C, C), divided by the number of values C H W."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])

"""Losses that are sums of others."""
from __future__ import annotations

from typing import Annotated, Any

from annotated_types import MinLen
from torch import Tensor, nn

from basicsr.losses import build_loss
from basicsr.losses.loss_util import named_values, no_image_loss, number_names, short_name
from basicsr.utils.registry import LOSS_REGISTRY

# recipe of the all-in-one networks (ImprovedLoRaGateRestormer)
_ALL_IN_ONE = {
    'charbonnier': {
        'type': 'CharbonnierLoss',
        'form': 'restormer',
        'eps': 1e-3,
    },
    'perceptual': {
        'type': 'PerceptualLoss',
        'layer_weights': {'relu1_1': 1 / 32, 'relu2_1': 1 / 16, 'relu3_1': 1 / 8, 'relu4_1': 1 / 4, 'relu5_1': 1},
        'perceptual_weight': 0.1,
    },
    'edge': {
        'type': 'EdgeLoss',
        'loss_weight': 0.05,
    },
}


@LOSS_REGISTRY.register()
class MixedLoss(nn.Module):
    """A sum of losses, each with its own weight and its own line in the log.

    Args:
        terms: {name: {type, ...}}, or a list of {type, ...} named by their classes; each block says its weight as that
            loss does (`loss_weight`, `perceptual_weight`). None is the recipe of the all-in-one networks: Charbonnier
            (eps 1e-3) + 0.1 perceptual (VGG19, relu1_1 ... relu5_1, weights 1/32, 1/16, 1/8, 1/4, 1) + 0.05 edge.
    """

    def __init__(self, terms: Annotated[dict[str, dict[str, Any]], MinLen(1)]
                 | Annotated[list[dict[str, Any]], MinLen(1)] | None = None):
        super().__init__()
        terms = _ALL_IN_ONE if terms is None else terms
        pairs = terms.items() if isinstance(terms, dict) else [(short_name(t['type']), t) for t in terms]
        if not pairs:
            raise ValueError('terms is empty')
        self.names = [name for name, _ in pairs]
        self.losses = nn.ModuleList(build_loss(block) for _, block in pairs)
        for name, loss in zip(self.names, self.losses):
            if no_image_loss(loss):
                raise ValueError(f"term '{name}' ({type(loss).__name__}) {no_image_loss(loss)}")

    def forward(self, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Name to weighted value; the loss is their sum. A perceptual term `x` has its style part as `x_style`."""
        return number_names(pair for name, loss in zip(self.names, self.losses)
                            for pair in named_values(name, loss(pred, target)))

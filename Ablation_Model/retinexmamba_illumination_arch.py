"""RetinexMamba without its illumination estimator."""
from __future__ import annotations

from typing import Any

from torch import Tensor

from basicsr.archs.retinexmamba_arch import RetinexMamba, Stage
from basicsr.utils.registry import ARCH_REGISTRY


class PlainStage(Stage):
    """The plain image goes in, and its own embedding stands where the illumination features stood."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        del self.estimator

    def forward(self, img: Tensor) -> Tensor:
        return self.Restorer(img, self.Restorer.embedding(img))


@ARCH_REGISTRY.register()
class RetinexMambaWithoutEstimator(RetinexMamba):
    """RetinexMamba on the plain image: attention takes its queries from the image, not from illumination features."""

    stage_type = PlainStage

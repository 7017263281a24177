"""RetinexMamba without one or both of its two blocks, and with Retinexformer's attention in place of IFA.

With IFA and SS2D a block is t = SS2D(y) + x, y = IFA(x, S), followed by the feed-forward.
"""
from __future__ import annotations

from torch import Tensor, nn

from basicsr.archs.layers.guided_attention import GuidedAttention
from basicsr.archs.layers.ss2d import SS2D
from basicsr.archs.retinexmamba.illumination_fusion import IFA
from basicsr.archs.retinexmamba_arch import IFSSM, RetinexMamba
from basicsr.utils.registry import ARCH_REGISTRY


class AttentionAlone(IFSSM):
    """t = IFA(x, S) + x"""

    def mixers(self, dim: int, heads: int, d_state: int) -> list[nn.Module]:
        return [IFA(dim, heads)]

    def mix(self, mixers: list[nn.Module], x: Tensor, illumination: Tensor) -> Tensor:
        return x + mixers[0](x, illumination)


class ScanAlone(IFSSM):
    """t = SS2D(x) + x"""

    def mixers(self, dim: int, heads: int, d_state: int) -> list[nn.Module]:
        return [SS2D(dim, d_state)]

    def mix(self, mixers: list[nn.Module], x: Tensor, illumination: Tensor) -> Tensor:
        return x + mixers[0](x)


class FeedForwardAlone(IFSSM):
    """t = x"""

    def mixers(self, dim: int, heads: int, d_state: int) -> list[nn.Module]:
        return []

    def mix(self, mixers: list[nn.Module], x: Tensor, illumination: Tensor) -> Tensor:
        return x


class GuidedScan(IFSSM):
    """t = SS2D(IG-MSA(x, S)) + x"""

    def mixers(self, dim: int, heads: int, d_state: int) -> list[nn.Module]:
        return [GuidedAttention(dim, heads), SS2D(dim, d_state)]


@ARCH_REGISTRY.register()
class RetinexMambaWithoutSS2D(RetinexMamba):
    """RetinexMamba whose blocks have no scan: 3,093,321 parameters with the official options."""

    level_type = AttentionAlone


@ARCH_REGISTRY.register()
class RetinexMambaWithoutIFA(RetinexMamba):
    """RetinexMamba whose blocks have no attention: 2,767,683 parameters with the official options.

    Nothing reads the illumination features; the convolutions that shrink them get no gradient.
    """

    level_type = ScanAlone


@ARCH_REGISTRY.register()
class RetinexMambaFFN(RetinexMamba):
    """RetinexMamba with neither: a U-Net of feed-forward blocks, 1,272,003 parameters with the official options.

    Nothing reads the illumination features; the convolutions that shrink them get no gradient.
    """

    level_type = FeedForwardAlone


@ARCH_REGISTRY.register()
class RetinexMambaIGMSA(RetinexMamba):
    """RetinexMamba with the attention of Retinexformer: 3,101,381 parameters with the official options.

    Without the scan this is `RetinexFormer` itself.
    """

    level_type = GuidedScan

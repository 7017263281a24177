"""RetinexMamba with fewer scan directions, and with the state sizes of its decoder halved as intended."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from basicsr.archs.layers.ss2d import SS2D
from basicsr.archs.retinexmamba.illumination_fusion import IFA
from basicsr.archs.retinexmamba_arch import IFSSM, Restorer, RetinexMamba, Stage
from basicsr.ops.selective_scan import selective_scan
from basicsr.ops.ss2d.traversal import traversals
from basicsr.utils.registry import ARCH_REGISTRY


class FewDirections(SS2D):
    """SS2D that reads the image in some of the four orders only.

    The fused operator reads in all four. Here each order becomes a sequence, and all go through one sequence scan, a
    group of channels each: it costs permuted copies of the image, but no directions that are then thrown away.
    """

    orders: tuple[int, ...]  # as in `traversals`

    def traverse(self, u: Tensor) -> Tensor:
        return self.whole(u)

    def scan(self, u: Tensor, x_dbl: Tensor) -> Tensor:
        b, h, w, e = u.shape
        order = traversals(h, w, u.device)[list(self.orders)]
        rows = torch.stack([x_dbl[:, :, :, k].flatten(1, 2)[:, pixels] for k, pixels in enumerate(order)], dim=1)
        low, B, C = rows.transpose(2, 3).split([self.dt_rank, self.d_state, self.d_state], dim=2)  # (B, K, n, L)
        sequences = u.flatten(1, 2)[:, order].transpose(2, 3).flatten(1, 2)  # (B, K E, L)
        steps = (self.dt_projs_weight @ low).flatten(1, 2)
        y = selective_scan(sequences, steps, self.rates(), B, C, self.Ds, self.dt_projs_bias.flatten())
        back = order.argsort(dim=1)
        y = y.unflatten(1, (len(order), e))
        return sum(y[:, k, :, pixels] for k, pixels in enumerate(back)).transpose(1, 2).view(b, h, w, e)


class RowsSS2D(FewDirections):
    """One direction: row by row."""

    orders, directions = (0, ), 1


class BothWaysSS2D(FewDirections):
    """Two directions: row by row, and the reverse (Vision Mamba)."""

    orders, directions = (0, 2), 2


class OneDirection(IFSSM):

    def mixers(self, dim: int, heads: int, d_state: int) -> list[nn.Module]:
        return [IFA(dim, heads), RowsSS2D(dim, d_state)]


class TwoDirections(IFSSM):

    def mixers(self, dim: int, heads: int, d_state: int) -> list[nn.Module]:
        return [IFA(dim, heads), BothWaysSS2D(dim, d_state)]


@ARCH_REGISTRY.register()
class RetinexMambaOneDirection(RetinexMamba):
    """RetinexMamba that scans row by row only."""

    level_type = OneDirection


@ARCH_REGISTRY.register()
class RetinexMambaTwoDirections(RetinexMamba):
    """RetinexMamba that scans row by row and back."""

    level_type = TwoDirections


class HalvingRestorer(Restorer):

    def decoder_state(self, d_state: int) -> int:
        return d_state // 2


class HalvingStage(Stage):

    restorer = HalvingRestorer


@ARCH_REGISTRY.register()
class RetinexMambaHalvedState(RetinexMamba):
    """RetinexMamba whose decoder levels have the state sizes of the encoder levels beside them: N, 2N, 4N | 2N, N.

    The published network has 4N and 2N there, because it halves the state size after a level is built.
    """

    stage_type = HalvingStage

# ruff: noqa
import torch
from torch import nn

from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import MODEL_REGISTRY


@MODEL_REGISTRY.register()
class LooseParametersModel(SRModel):
    """Trains what no attribute net_* holds, and reads options of its own."""

    def init_training_settings(self):
        self.netD = self.model_to_device(nn.Conv2d(3, 1, 3))
        self.nets = {'a': self.model_to_device(nn.Conv2d(3, 1, 3))}
        self.scale_of_all = nn.Parameter(torch.zeros(3))
        self.weight = self.opt.get('x_weight', 1)
        super().init_training_settings()

    def setup_optimizers(self):
        super().setup_optimizers()
        trained = [*self.netD.parameters(), *self.nets['a'].parameters(), self.scale_of_all]
        self.optimizer_x = torch.optim.Adam(trained, lr=1e-2)
        self.optimizers.append(self.optimizer_x)

    def optimize_parameters(self, current_iter):
        super().optimize_parameters(current_iter)
        self.optimizer_x.zero_grad()
        loss = self.netD(self.gt).square().mean() + self.nets['a'](self.gt).square().mean()
        loss = self.weight * (loss + (self.scale_of_all - 1).square().mean())
        loss.backward()
        self.optimizer_x.step()

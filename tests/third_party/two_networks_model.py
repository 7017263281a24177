# ruff: noqa
import torch
from copy import deepcopy
from torch import nn

from basicsr.losses.gan_loss import GANLoss
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import MODEL_REGISTRY


@MODEL_REGISTRY.register()
class TwoNetworksModel(SRModel):
    """A generator, its average, a discriminator with an average of its own, and an optimizer for each."""

    def init_training_settings(self):
        self.net_d = self.model_to_device(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 3)))
        self.net_d_ema = deepcopy(self.net_d).eval()
        self.cri_gan = GANLoss('hinge', loss_weight=0.1)
        super().init_training_settings()

    def setup_optimizers(self):
        super().setup_optimizers()
        self.optimizer_d = self.get_optimizer('AdamW', self.net_d.parameters(), lr=1e-2)
        self.optimizers.append(self.optimizer_d)

    def optimize_parameters(self, current_iter):
        self.optimizer_g.zero_grad()
        self.output = self.net_g(self.lq)
        l_pix = self.cri_pix(self.output, self.gt)
        l_gan = self.cri_gan(self.net_d(self.output), True)
        (l_pix + l_gan).backward()
        self.optimizer_g.step()
        self.optimizer_d.zero_grad()
        l_d = self.cri_gan(self.net_d(self.gt), True, is_disc=True) + self.cri_gan(self.net_d(self.output.detach()),
                                                                                   False, is_disc=True)
        l_d.backward()
        self.optimizer_d.step()
        self.log_dict = self.reduce_loss_dict({'l_pix': l_pix, 'l_g_gan': l_gan, 'l_d': l_d})
        if self.ema_decay > 0:
            self.model_ema(self.ema_decay)
        for mine, theirs in zip(self.net_d_ema.parameters(), self.net_d.parameters()):
            mine.data.lerp_(theirs.data, 0.1)

    def save(self, epoch, current_iter):
        self.save_network(self.net_d, 'net_d', current_iter)
        super().save(epoch, current_iter)

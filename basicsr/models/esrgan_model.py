"""The model of ESRGAN: a discriminator that says which of two images is the more real."""
from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from basicsr.models.srgan_model import SRGANModel
from basicsr.utils.registry import MODEL_REGISTRY


@MODEL_REGISTRY.register()
class ESRGANModel(SRGANModel):
    """`SRGANModel` whose judgements are relative to the mean judgement of the other kind (Wang et al. 2018)."""

    def generator_loss(self) -> Tensor:
        with torch.no_grad():
            real = self.judge(self.gt)
        fake = self.judge(self.output)
        return (self.cri_gan(real - fake.mean(), False, is_disc=False) +
                self.cri_gan(fake - real.mean(), True, is_disc=False)) / 2

    def discriminator_losses(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        with torch.no_grad():
            fake = self.judge(self.output)
        real = self.judge(self.gt)
        yield 'real', self.cri_gan(real - fake.mean(), True, is_disc=True) * 0.5, real
        fake, real = self.judge(self.output), real.detach()
        yield 'fake', self.cri_gan(fake - real.mean(), False, is_disc=True) * 0.5, fake

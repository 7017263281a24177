"""The model for restoration networks that are trained against a discriminator."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from basicsr.archs import build_network
from basicsr.engine.optimizer import can_mask
from basicsr.losses import build_loss
from basicsr.losses.loss_util import number_names
from basicsr.models.sr_model import SRModel
from basicsr.models.training_step import Report
from basicsr.utils.errors import UserError
from basicsr.utils.registry import MODEL_REGISTRY
from basicsr.utils.seed import undrawn


@MODEL_REGISTRY.register()
class SRGANModel(SRModel):
    """BasicSR's `SRGANModel`: beside `SRModel` a discriminator `net_d`, its `optimizer_d` and the loss `cri_gan`.

    The generator is trained in every `net_d_iters`-th iteration, from iteration `net_d_init_iters` + 1 on.

    Options: `network_d`, `path.pretrain_network_d`, and of `train` `optim_d`, `gan_opt`, `net_d_iters`, `net_d_init_iters`.
    """

    replayable = False  # two steps, of which one is left out in some iterations

    def init_training_settings(self) -> None:
        train, path = self.opt['train'], self.opt['path']
        if train.get('accumulate', 1) > 1:
            raise UserError(f'train.accumulate: {type(self).__name__} trains on whole batches')
        self.net_d = self.model_to_device(build_network(self.opt['network_d']))
        self.print_network(self.net_d)
        if path.get('pretrain_network_d'):
            self.load_network(self.net_d, path['pretrain_network_d'], path.get('strict_load_d', True),
                              path.get('param_key_d', 'params'))
        self.net_d.train()
        self.cri_gan = build_loss(train['gan_opt']).to(self.device)
        self.cri_ldl = build_loss(train['ldl_opt']).to(self.device) if train.get('ldl_opt') else None  # of subclasses
        self.net_d_iters, self.net_d_init_iters = train.get('net_d_iters', 1), train.get('net_d_init_iters', 0)
        self._try_discriminator()
        super().init_training_settings()

    def _try_discriminator(self) -> None:
        """Raise `UserError` where it refuses patches of the size and channels that training gives it."""
        size = self.opt['datasets'].get('train', {}).get('gt_size')
        channels = self.opt['network_g'].get('num_out_ch', self.opt['network_g'].get('out_channels', 3))
        if not size:
            return
        with undrawn(), torch.no_grad():
            net = self.get_bare_model(self.net_d).eval()
            try:
                net(torch.zeros(1, channels, size, size, device=self.device))
            except (ValueError, RuntimeError) as error:
                raise UserError(
                    f'network_d: {error} (training patches have {channels} channels and sides of gt_size'
                    f' {size})', block=self.opt['network_d']) from error
            net.train()

    def setup_optimizers(self) -> None:
        super().setup_optimizers()
        options = dict(self.opt['train']['optim_d'])
        self.optimizer_d = self.get_optimizer(options.pop('type'), self.net_d.parameters(), **options)
        self.optimizers.append(self.optimizer_d)

    def optimize_parameters(self, current_iter: int) -> None:
        """One step of the generator, except where it waits, and one of the discriminator."""
        self._iteration = current_iter
        due = current_iter % self.net_d_iters == 0 and current_iter > self.net_d_init_iters
        with self.cast_weights():
            with self.precision.autocast():
                self.output = self.net_g(self.lq, *self.guides)
            losses = self._generator_gradients() if due else {}
        self.output = self.output.detach()
        reports = [self._step(self.optimizer_g, self.net_g, losses)] if due else []
        reports.append(self._step(self.optimizer_d, self.net_d, self._discriminator_gradients()))
        names = tuple(name for report in reports for name in report.names)
        self._report = reports[-1]._replace(names=names, values=torch.cat([report.values for report in reports]))
        if self.ema_decay > 0:
            self.model_ema(self.ema_decay)

    def _generator_gradients(self) -> dict[str, Tensor]:
        self.optimizer_g.zero_grad(set_to_none=True)
        self.net_d.requires_grad_(False)
        losses = number_names([
            *self.compute_losses(self.output, self.gt).items(), *self._network_losses(self.output, self.gt),
            ('l_g_gan', self.generator_loss())
        ])
        losses = {{'l_pix': 'l_g_pix', 'l_percep': 'l_g_percep', 'l_style': 'l_g_style'}.get(k, k): v
                  for k, v in losses.items()}  # as BasicSR logs them
        total: Any = sum(losses.values())
        self.precision.backward(total)
        self.net_d.requires_grad_(True)
        return losses

    def _discriminator_gradients(self) -> dict[str, Tensor]:
        self.optimizer_d.zero_grad(set_to_none=True)
        found: dict[str, Tensor] = OrderedDict()
        for name, loss, judged in self.discriminator_losses():
            self.precision.backward(loss)
            found[f'l_d_{name}'] = loss.detach()
            found[f'out_d_{name}'] = judged.detach().float().mean()
        return found

    def _step(self, optimizer: torch.optim.Optimizer, net: torch.nn.Module, losses: dict[str, Tensor]) -> Report:
        """Update a network, unless something is not finite."""
        report = self._finished_gradients(optimizer, net, losses, self.output)
        self._look_at(report)
        if not can_mask(optimizer):
            self.watch.drain()
        self._masked_update(optimizer, report.skip)
        return report

    def judge(self, images: Tensor) -> Tensor:
        """What the discriminator says, float32."""
        with self.precision.autocast():
            return self.net_d(images).float()

    def generator_loss(self) -> Tensor:
        """How far the discriminator is from taking the output for real."""
        return self.cri_gan(self.judge(self.output), True, is_disc=False)

    def discriminator_losses(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Name, loss and judgement, of real images and then of the output. Gradients are taken after each."""
        for name, images, is_real in (('real', self.gt, True), ('fake', self.output, False)):
            judged = self.judge(images)
            yield name, self.cri_gan(judged, is_real, is_disc=True), judged

    def save(self, epoch: int, current_iter: int) -> None:
        self.save_network(self.net_d, 'net_d', current_iter)
        super().save(epoch, current_iter)

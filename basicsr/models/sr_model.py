"""The model for networks that map a degraded image to a restored one and are trained by comparison losses."""
from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from basicsr.archs import build_network
from basicsr.archs.description import describe
from basicsr.config.training import NO_LOSS
from basicsr.engine.casting import CastWeights
from basicsr.engine.graphs import image_recorder, step_recorder
from basicsr.engine.precision import Precision
from basicsr.losses import build_loss
from basicsr.losses.loss_util import is_our_loss, named_values, no_image_loss, number_names, short_name
from basicsr.models.training_step import StepModel
from basicsr.ops.prepare import prepare
from basicsr.utils.errors import UserError
from basicsr.utils.img import pad_to_multiple
from basicsr.utils.logger import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY
from basicsr.utils.replay import Replayed
from basicsr.utils.seed import undrawn
from basicsr.weights.semantic_prior import equip


@MODEL_REGISTRY.register()
class SRModel(StepModel):
    """BasicSR's `SRModel`: `net_g`, its average `net_g_ema`, `optimizer_g`, and any number of losses.

    `replayable` says that `step` of this very class does nothing but tensor operations, which CUDA graphs replay; a
    subclass says so for itself.
    """

    replayable = True

    def __init__(self, opt: dict[str, Any]):
        super().__init__(opt)
        self.precision = Precision(opt.get('train', {}).get('amp'), self.device)
        self.net_g = self.model_to_device(build_network(opt['network_g']))
        self.print_network(self.net_g)
        path = opt['path']
        if path.get('pretrain_network_g'):
            self.load_network(self.net_g, path['pretrain_network_g'], path.get('strict_load_g', True),
                              path.get('param_key_g', 'params'))
        prepare(self.get_bare_model(self.net_g), self.device, self.precision.dtype, self.is_train)
        whole = self.net_g is self.get_bare_model(self.net_g) and not opt.get('train', {}).get('compile')
        self.cast_weights = CastWeights(self.net_g, self.precision.dtype if whole else None, self.device.type)
        self.tested = Replayed(self._restore, image_recorder(opt, self.device, self.net_g), 'validation', warmup=1,
                               limit=2, evict=True)
        if self.is_train:
            self.init_training_settings()
            if self.optimizers:
                self.record_steps(step_recorder(opt, self.device, self.net_g, self.optimizers[0], type(self)))

    def init_training_settings(self) -> None:
        """Losses, average, optimizer, schedule."""
        self.net_g.train()
        train = self.opt['train']
        self.ema_decay = train.get('ema_decay', 0)
        if self.ema_decay > 0:
            self.net_g_ema = equip(build_network(self.opt['network_g'])).to(self.device).eval().requires_grad_(False)
            self.model_ema(0)
        self.cri_pix, self.cri_perceptual = (self._image_loss(key) for key in ('pixel_opt', 'perceptual_opt'))
        more = [(self._loss_name(o), build_loss(o).to(self.device)) for o in train.get('losses') or []]
        self.cri_net = [pair for pair in more if getattr(pair[1], 'of_network', False)]
        self.cri_more = [pair for pair in more if pair not in self.cri_net]
        for _, loss in self.cri_more:
            if no_image_loss(loss):
                raise UserError(f'train.losses: {type(loss).__name__} {no_image_loss(loss)}')
        if not self.image_losses() and not train.get('gan_opt'):  # which a model with a discriminator reads
            raise UserError(f'train: {NO_LOSS}')
        if train.get('accumulate', 1) > 1:
            self._prepare_parts()
        self.setup_optimizers()
        self.setup_schedulers()

    def _image_loss(self, key: str) -> nn.Module | None:
        """The loss of a block of `train` that is no list. Raises `UserError` for one that compares no images."""
        if not self.opt['train'].get(key):
            return None
        loss = build_loss(self.opt['train'][key]).to(self.device)
        if no_image_loss(loss):
            raise UserError(f'train.{key}: {type(loss).__name__} {no_image_loss(loss)}', block=self.opt['train'][key])
        return loss

    def _prepare_parts(self) -> None:
        """Each part of a batch counts by its share of the images, as means over images do. Sums are not divided."""
        modules = [loss for _, loss in (*self.image_losses(), *self.cri_net) if isinstance(loss, nn.Module)]
        losses = [part for module in modules for part in module.modules()]
        for loss in losses:
            if getattr(loss, 'reduction', None) == 'sum':
                loss.register_forward_hook(lambda module, inputs, value: value / self.share)
        whole = sorted({type(loss).__name__ for loss in losses if getattr(loss, 'of_whole_batch', False)})
        if whole:
            raise UserError(
                f"train.accumulate: {', '.join(whole)} {'looks' if len(whole) == 1 else 'look'} at a batch as a"
                ' whole; in parts, the gradients would not be those of the whole')
        for name, compare in self.image_losses():
            self._try_parts(name, compare)

    def _try_parts(self, name: str, loss: Callable) -> None:
        """Raise `UserError` where two images in parts give another value than together; ours say so of themselves."""
        if is_our_loss(loss):
            return
        noise = torch.Generator().manual_seed(0)
        channels = self.opt['network_g'].get('out_channels', 3)
        pred, gt = (torch.rand(2, channels, 64, 64, generator=noise).to(self.device) for _ in range(2))
        pred[1] = pred[1] * 0.1  # images that are unlike each other
        with undrawn(), torch.no_grad():
            values = []
            for part, self.share in ((slice(0, 2), 1.), (slice(0, 1), 0.5), (slice(1, 2), 0.5)):
                named = dict(named_values(name, loss(pred[part], gt[part]), 'l_'))
                values.append(float(sum(v for v in named.values() if v is not None)))
            self.share = 1.
        if not math.isclose(values[0], (values[1] + values[2]) / 2, rel_tol=1e-3, abs_tol=1e-6):
            raise UserError(
                f"train.accumulate: of two images together {type(loss).__name__} is {values[0]:.4g}, and in parts"
                f' {(values[1] + values[2]) / 2:.4g}; the gradients would be others')

    def setup_optimizers(self) -> None:
        options = dict(self.opt['train']['optim_g'])
        frozen = [k for k, p in self.net_g.named_parameters() if not p.requires_grad]
        if frozen:
            get_root_logger().warning(f'{len(frozen)} parameters are not trained: {", ".join(frozen[:8])} ...')
        trained = [p for p in self.net_g.parameters() if p.requires_grad]
        self.optimizer_g = self.get_optimizer(options.pop('type'), trained, **options)
        self.optimizers.append(self.optimizer_g)

    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch: `lq`, `gt` where there is one, float32 (B, C, H, W), and `sem`, which the network is given too."""
        self.lq = data['lq'].to(self.device, non_blocking=True)
        self.gt = data['gt'].to(self.device, non_blocking=True) if 'gt' in data else None
        self.guides = (data['sem'].to(self.device, non_blocking=True), ) if 'sem' in data else ()
        self.paths = list(data.get('lq_path', []))

    def compute_losses(self, preds: Tensor | list[Tensor], gt: Tensor) -> dict[str, Tensor]:
        """Every loss by its name in the log; a network that returns several images is compared with each."""
        losses: dict[str, Tensor] = OrderedDict()
        for pred in preds if isinstance(preds, (list, tuple)) else [preds]:
            for name, value in number_names(self._loss_values(pred.float(), gt)).items():
                losses[name] = losses[name] + value if name in losses else value
        return losses

    def _loss_values(self, pred: Tensor, gt: Tensor) -> Iterator[tuple[str, Tensor | None]]:
        """Name in the log and value of every loss; a loss that returns a mapping is logged term by term."""
        for name, loss in self.image_losses():
            yield from named_values(name, loss(pred, gt), 'l_')

    def image_losses(self) -> list[tuple[str, Callable]]:
        """(name in the log, loss) of all that compare images: BasicSR's two, which a subclass may set, then the others."""
        own = [('l_pix', self.cri_pix), ('l_percep', self.cri_perceptual)]
        return [(name, loss) for name, loss in (*own, *self.cri_more) if loss is not None]

    def _network_losses(self, preds: Tensor | list[Tensor], gt: Tensor) -> Iterator[tuple[str, Tensor | None]]:
        """Losses that need the network: its colour space, or what its last pass has left, e.g. the balance of experts."""
        pred = preds[-1] if isinstance(preds, (list, tuple)) else preds
        for name, loss in self.cri_net:
            yield from named_values(name, loss(self.get_bare_model(self.net_g), pred.float(), gt), 'l_')

    def test(self) -> None:
        """`self.output` for `self.lq`, by the average where there is one."""
        net = self._tested_net()
        was_training = net.training
        net.eval()
        with torch.no_grad():
            try:
                self.output = self.tested(self.lq, *self.guides)
            except torch.OutOfMemoryError:
                if not (self.replayed and self.replayed.recordings):
                    raise
                self.output = None
            if self.output is None and self.replayed:  # the next step is recorded again
                self.optimizer_g.zero_grad(set_to_none=True)
                self.replayed.clear()
                self.output = self.tested(self.lq, *self.guides)
        net.train(was_training and net is self.net_g)

    def _tested_net(self) -> nn.Module:
        return getattr(self, 'net_g_ema', None) or self.net_g

    def _restore(self, *inputs: Tensor) -> Tensor:
        with self.precision.autocast():
            output = self._tested_net()(*inputs)
        return (output[-1] if isinstance(output, (list, tuple)) else output).float()

    @contextmanager
    def validating(self) -> Iterator[None]:
        self.watch.drain()
        try:
            yield
        finally:
            self.tested.clear()  # training needs the memory more than the next validation needs the recording

    def padded_test(self) -> None:
        """`test()` on the input padded to `val.window_size`, or to what the network says of itself; the result is cropped."""
        net = describe(self.get_bare_model(self.net_g))
        window = self.opt['val']['window_size'] or net.multiple
        h, w = self.lq.shape[-2:]
        original, guides = self.lq, self.guides
        if window > 1:
            self.lq, *self.guides = (pad_to_multiple(t, window, net.padding) for t in (original, *guides))
        self.test()
        scale = max(self.output.shape[-1] // self.lq.shape[-1], 1)  # what the network does, whatever the options say
        self.lq, self.guides = original, guides
        self.output = self.output[..., :h * scale, :w * scale]

    def get_current_visuals(self) -> dict[str, Tensor]:
        out = OrderedDict(lq=self.lq.detach().cpu(), result=self.output.detach().cpu())
        if getattr(self, 'gt', None) is not None:
            out['gt'] = self.gt.detach().cpu()
        return out

    def save(self, epoch: int, current_iter: int) -> None:
        """Weights and training state; -1 writes `latest`."""
        self.watch.drain()
        if hasattr(self, 'net_g_ema'):
            self.save_network([self.net_g, self.net_g_ema], 'net_g', current_iter, ['params', 'params_ema'])
        else:
            self.save_network(self.net_g, 'net_g', current_iter)
        self.save_training_state(epoch, current_iter)

    def extra_state(self) -> dict[str, Any]:
        return {'amp_scaler': self.precision.scaler.state_dict()}

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        super().resume_training(resume_state)
        if self.replayed:
            self.replayed.clear()  # they know the moments that were there before
        if resume_state.get('amp_scaler') and self.precision.scaler.is_enabled():
            self.precision.scaler.load_state_dict(resume_state['amp_scaler'])

    @staticmethod
    def _loss_name(options: dict[str, Any]) -> str:
        return 'l_' + short_name(options['type'])

"""The model of the Restormer family: `SRModel` with mixup and progressive patches."""
from __future__ import annotations

import bisect
import random
from itertools import accumulate

import torch

from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import MODEL_REGISTRY


@MODEL_REGISTRY.register()
class ImageCleanModel(SRModel):
    """Adds, between loading and training on a batch:

    - progressive patches: `datasets.train.{mini_batch_sizes, gt_sizes, iters}` take a random part of the batch and one
      random window of it, stage by stage; `iters` are lengths, the last stage goes on for ever;
    - mixup: `train.mixing_augs`.
    """

    replayable = True  # both come before the step

    def init_training_settings(self) -> None:
        super().init_training_settings()
        self.mixing = dict(self.opt['train'].get('mixing_augs') or {})
        data = self.opt['datasets']['train']
        self.stage_ends = list(accumulate(data.get('iters') or []))
        self.stages = list(zip(data.get('mini_batch_sizes') or [], data.get('gt_sizes') or []))

    def optimize_parameters(self, current_iter: int) -> None:
        if self.stages:
            self._shrink(*self.stages[min(bisect.bisect_left(self.stage_ends, current_iter), len(self.stages) - 1)])
        if self.mixing.get('mixup'):
            self._mixup(self.mixing.get('mixup_beta', 1.2), self.mixing.get('use_identity', False))
        super().optimize_parameters(current_iter)

    def _shrink(self, batch_size: int, gt_size: int) -> None:
        """Keep `batch_size` images per loader share and a common window of `gt_size` ground-truth pixels."""
        loaded = self.opt['datasets']['train']['batch_size_per_gpu']
        keep = round(batch_size * len(self.lq) / loaded)
        if keep < len(self.lq):
            chosen = random.sample(range(len(self.lq)), keep)
            index = _without_waiting(torch.tensor(chosen), self.lq.device)
            self.lq, self.gt, *self.guides = (t[index] for t in (self.lq, self.gt, *self.guides))
            self.paths = [self.paths[i] for i in chosen] if self.paths else []
        scale = self.opt.get('scale', 1)
        size = gt_size // scale
        if size < self.lq.shape[-1] or size < self.lq.shape[-2]:
            top, left = (random.randint(0, max(side - size, 0)) for side in self.lq.shape[-2:])
            self.lq, *self.guides = (t[..., top:top + size, left:left + size] for t in (self.lq, *self.guides))
            self.gt = self.gt[..., top * scale:top * scale + gt_size, left * scale:left * scale + gt_size]

    def _mixup(self, beta: float, use_identity: bool) -> None:
        """x <- w x + (1 - w) x[order] for both images and guides, w ~ Beta(beta, beta), one w and one order per batch."""
        if use_identity and random.randint(0, 1):
            return
        weight = torch.distributions.Beta(beta, beta).sample().item()
        order = _without_waiting(torch.randperm(len(self.lq)), self.lq.device)
        self.lq, self.gt, *self.guides = (weight * t + (1 - weight) * t[order]
                                          for t in (self.lq, self.gt, *self.guides))


def _without_waiting(index: torch.Tensor, device: torch.device) -> torch.Tensor:
    """On the device, from memory that a GPU reads by itself."""
    return (index.pin_memory() if device.type == 'cuda' else index).to(device, non_blocking=True)

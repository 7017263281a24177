"""Adversarial losses for models with a discriminator, which call them themselves."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.utils.registry import LOSS_REGISTRY
from basicsr.utils.values import Finite, NonNegative

_TYPES = ('vanilla', 'lsgan', 'wgan', 'wgan_softplus', 'hinge')


@LOSS_REGISTRY.register()
class GANLoss(nn.Module):
    """Compares a discriminator's output with real or fake.

    Args:
        gan_type: vanilla (cross entropy with logits), lsgan (squared error), wgan (mean), wgan_softplus, or hinge.
        real_label_val, fake_label_val: what vanilla and lsgan compare with.
        loss_weight: factor for generators; discriminators are trained without.
    """

    of_discriminator = True  # called by models that have one, not with two images

    def __init__(self, gan_type: Literal['vanilla', 'lsgan', 'wgan', 'wgan_softplus', 'hinge'],
                 real_label_val: Finite = 1.0, fake_label_val: Finite = 0.0, loss_weight: NonNegative = 1.0):
        super().__init__()
        if gan_type not in _TYPES:
            raise ValueError(f"gan_type '{gan_type}' is not supported; one of: {', '.join(_TYPES)}")
        self.gan_type, self.loss_weight = gan_type, loss_weight
        self.real_label_val, self.fake_label_val = real_label_val, fake_label_val

    def forward(self, input: Tensor, target_is_real: bool, is_disc: bool = False) -> Tensor:
        """`input`: a prediction of any shape. `is_disc`: whether the discriminator is trained."""
        sign = -1 if target_is_real else 1
        if self.gan_type in ('vanilla', 'lsgan'):
            target = torch.full_like(input, self.real_label_val if target_is_real else self.fake_label_val)
            compare = F.binary_cross_entropy_with_logits if self.gan_type == 'vanilla' else F.mse_loss
            loss = compare(input, target)
        elif self.gan_type == 'hinge' and is_disc:
            loss = F.relu(1 + sign * input).mean()
        elif self.gan_type == 'wgan_softplus':
            loss = F.softplus(sign * input).mean()
        else:
            loss = sign * input.mean()
        return loss if is_disc else loss * self.loss_weight


@LOSS_REGISTRY.register()
class MultiScaleGANLoss(GANLoss):
    """The mean of `GANLoss` over several predictions; of one that is a list of features, the last entry counts."""

    def forward(self, input: Tensor | Sequence[Any], target_is_real: bool, is_disc: bool = False) -> Tensor:
        if isinstance(input, Tensor):
            return super().forward(input, target_is_real, is_disc)
        last = [pred[-1] if isinstance(pred, (list, tuple)) else pred for pred in input]
        return torch.stack([super(MultiScaleGANLoss, self).forward(pred, target_is_real, is_disc)
                            for pred in last]).mean()


def r1_penalty(real_pred: Tensor, real_img: Tensor) -> Tensor:
    """Mean squared norm of the gradient of a discriminator's output on real images (Mescheder et al. 2018)."""
    grad, = torch.autograd.grad(real_pred.sum(), real_img, create_graph=True)
    return grad.square().flatten(1).sum(1).mean()


def g_path_regularize(fake_img: Tensor, latents: Tensor, mean_path_length: Tensor,
                      decay: float = 0.01) -> tuple[Tensor, Tensor, Tensor]:
    """How far a generator's path lengths are from their running mean (StyleGAN2, Karras et al. 2020).

    Args:
        fake_img: (B, C, H, W) made from `latents` (B, layers, features).
        mean_path_length: scalar of the calls before, 0 at first.

    Returns:
        Penalty, mean of the lengths (detached), and the new running mean (detached).
    """
    noise = torch.randn_like(fake_img) / (fake_img.shape[2] * fake_img.shape[3])**0.5
    grad, = torch.autograd.grad((fake_img * noise).sum(), latents, create_graph=True)
    lengths = grad.square().sum(2).mean(1).sqrt()
    mean = mean_path_length + decay * (lengths.mean() - mean_path_length)
    return (lengths - mean).square().mean(), lengths.detach().mean(), mean.detach()


def gradient_penalty_loss(discriminator: nn.Module, real_data: Tensor, fake_data: Tensor,
                          weight: Tensor | None = None) -> Tensor:
    """How far the gradient's norm is from 1 between real and fake images (WGAN-GP, Gulrajani et al. 2017).

    `weight`: per pixel, e.g. a mask; the result is divided by its mean.
    """
    share = torch.rand(len(real_data), 1, 1, 1, dtype=real_data.dtype, device=real_data.device)
    between = (share * real_data + (1 - share) * fake_data).detach().requires_grad_()
    grad, = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    grad = grad if weight is None else grad * weight
    penalty = (grad.norm(2, dim=1) - 1).square().mean()
    return penalty if weight is None else penalty / weight.mean()

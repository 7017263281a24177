"""Helpers of the losses. `weight_reduce_loss` and `weighted_loss` have the names and behaviour of BasicSR's."""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.utils.imports import is_ours
from basicsr.utils.precision import at_least_float32


def weight_reduce_loss(loss: Tensor, weight: Tensor | None = None, reduction: str = 'mean') -> Tensor:
    """Apply element weights and reduce: 'none', 'sum', or 'mean' (over the sum of weights where they are given)."""
    if weight is not None:
        loss = loss * weight
    if reduction == 'none':
        return loss
    if weight is None or reduction == 'sum':
        return loss.mean() if reduction == 'mean' else loss.sum()
    return loss.sum() / weight.expand_as(loss).sum()


def reduce_loss(loss: Tensor, reduction: str) -> Tensor:
    """The loss as it is ('none'), its mean or its sum."""
    return weight_reduce_loss(loss, None, reduction)


def weighted_loss(loss_func: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorator: an element-wise loss `f(pred, target, **kwargs)` also takes `weight` and `reduction`."""

    @functools.wraps(loss_func)
    def wrapper(pred: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = 'mean',
                **kwargs) -> Tensor:
        return weight_reduce_loss(loss_func(pred, target, **kwargs), weight, reduction)

    return wrapper


def full_precision(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a method `f(self, pred, target)`: at least float32 inside, also under autocast."""

    @functools.wraps(method)
    def wrapper(self: Any, pred: Tensor, target: Tensor, **kwargs: Any) -> Any:
        dtype = at_least_float32(pred.dtype)
        with torch.autocast(pred.device.type, enabled=False):
            return method(self, pred.to(dtype), target.to(dtype), **kwargs)

    return wrapper


def is_our_loss(loss: Any) -> bool:
    """Whether a loss and all losses in it are of this package and PyTorch, and so hold to what they say of themselves."""
    modules = {type(part).__module__ for part in loss.modules()} if isinstance(loss, nn.Module) else {''}
    return all(is_ours(module) or module.partition('.')[0] == 'torch' for module in modules)


def no_image_loss(loss: Any) -> str:
    """Why it cannot be called with two images alone, '' where it can."""
    for kind, place in (('of_network', 'goes into train.losses'), ('of_discriminator',
                                                                   'is for models with a discriminator')):
        if getattr(loss, kind, False):
            return f'compares no images by themselves; it {place}'
    return ''


def short_name(kind: str) -> str:
    """What a loss class is called in the log: 'EdgeLoss' -> 'edge'."""
    return kind.removesuffix('Loss').lower()


def named_values(name: str, value: Any, prefix: str = '') -> Iterator[tuple[str, Tensor | None]]:
    """(name, value) of what the loss `name` returned: a tensor, a pair (perceptual, style), or a mapping of terms.

    `prefix` goes before the names that a mapping brings.
    """
    if isinstance(value, Mapping):
        yield from ((prefix + key, term) for key, term in value.items())
    elif isinstance(value, tuple):
        style = 'l_style' if name == 'l_percep' else f'{name}_style'  # BasicSR's name
        yield from zip((name, style), value, strict=True)
    else:
        yield name, value


def number_names(pairs: Iterable[tuple[str, Tensor | None]]) -> dict[str, Tensor]:
    """The values that are there by name; further ones of the same name become `<name>_2`, `<name>_3` ..."""
    out: dict[str, Tensor] = {}
    for name, value in pairs:
        if value is None:
            continue
        free, count = name, 1
        while free in out:
            count += 1
            free = f'{name}_{count}'
        out[free] = value
    return out


def get_local_weights(residual: Tensor, ksize: int) -> Tensor:
    """Variance of (B, 1, H, W) in the window of an odd side `ksize` around each pixel; borders are reflected."""
    padded = F.pad(residual, (ksize // 2, ) * 4, mode='reflect')
    windows = padded.unfold(2, ksize, 1).unfold(3, ksize, 1)
    return windows.var(dim=(-1, -2), unbiased=True)


def get_refined_artifact_map(img_gt: Tensor, img_output: Tensor, img_ema: Tensor, ksize: int) -> Tensor:
    """Where a GAN's output has artifacts rather than details, (B, 1, H, W) (LDL, Liang et al. 2022).

    The variance of the output's residual around a pixel, times the fifth root of its variance in the image; 0 where the
    average model's residual is larger. Images are (B, C, H, W).
    """
    residual, of_average = ((img_gt - x).abs().sum(1, keepdim=True) for x in (img_output, img_ema))
    weight = residual.var(dim=(-1, -2, -3), keepdim=True)**0.2 * get_local_weights(residual, ksize)
    return torch.where(residual < of_average, torch.zeros_like(weight), weight)

"""Learned perceptual image patch similarity (Zhang et al. 2018), version 0.1. Lower is better.

Backbones are torchvision's, the heads come with the package `lpips` (extra `metrics`), of which nothing else is used.
"""
from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from basicsr.losses.imagenet import ImageNetFeatures
from basicsr.losses.vgg import VGGFeatures
from basicsr.metrics.protocol import check_size, prepared_pair
from basicsr.utils.errors import UserError
from basicsr.utils.registry import METRIC_REGISTRY
from basicsr.utils.values import AxisOrder, Natural
from basicsr.utils.weights import load_weights

_LAYERS = {
    'alex': ('relu1', 'relu2', 'relu3', 'relu4', 'relu5'),
    'vgg': ('relu1_2', 'relu2_2', 'relu3_3', 'relu4_3', 'relu5_3'),
}
# AlexNet as torchvision has it (Krizhevsky 2014), and the channels, kernel, stride and padding of its convolutions
_ALEXNET = ['conv1', 'relu1', 'pool1', 'conv2', 'relu2', 'pool2', 'conv3', 'relu3', 'conv4', 'relu4', 'conv5', 'relu5']
_CONVOLUTIONS = {
    'conv1': (64, 11, 4, 2), 'conv2': (192, 5, 1, 2), 'conv3': (384, 3, 1, 1), 'conv4': (256, 3, 1, 1),
    'conv5': (256, 3, 1, 1)
}
_LEAST = (32, 32)


@METRIC_REGISTRY.register()
def calculate_lpips(img: np.ndarray, img2: np.ndarray, crop_border: Natural = 0, input_order: AxisOrder = 'HWC',
                    net: Literal['alex', 'vgg'] = 'alex', weights: str | None = None, device: str | None = None,
                    **kwargs) -> float:
    """LPIPS distance; 0 for equal images.

    Args:
        img, img2: result and ground truth, BGR or grey, values in [0, 255], uint8 or float.
        crop_border: pixels cut off at each side before comparing.
        input_order: 'HWC' or 'CHW'.
        net: backbone, AlexNet or VGG16.
        weights: file with the backbone's ImageNet weights; None finds torchvision's in `pretrained_weights/` or
            torch's cache, or downloads it.
        device: where the backbone runs, default the CPU; validation says where the model is.

    Raises:
        ValueError: for images of different shapes, or smaller than 32x32.
        UserError: without the weights of the backbone or the heads.
    """
    a, b = prepared_pair(img, img2, crop_border, input_order, False, None, 'lpips')
    check_size(a, _LEAST, 'LPIPS')
    device = device or 'cpu'
    network = _network(net, weights, device)
    # float32 in full: TF32, which convolutions use by default, changes the third digit
    with torch.inference_mode(), torch.autocast(torch.device(device).type, enabled=False), \
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return network(*(_tensor(x).to(device) for x in (a, b))).item()


calculate_lpips.better = 'lower'
calculate_lpips.least_size = lambda opt: _LEAST
calculate_lpips.describe = lambda opt: f"{opt.get('net', 'alex')}, version 0.1"


class LPIPS(nn.Module):
    """The distance as a network; arguments as `calculate_lpips`."""

    def __init__(self, net: Literal['alex', 'vgg'] = 'alex', weights: str | Path | None = None):
        super().__init__()
        if net not in _LAYERS:
            raise ValueError(f"net '{net}' is not supported; 'alex' or 'vgg'")
        heads = load_weights(_head_file(net)).state
        for i in range(len(_LAYERS[net])):
            self.register_buffer(f'head{i}', heads[f'lin{i}.model.1.weight'])
        self.layers = _LAYERS[net]
        self.backbone: ImageNetFeatures
        if net == 'vgg':
            self.backbone = VGGFeatures(self.layers, 'vgg16', weights=weights)
        else:
            self.backbone = ImageNetFeatures('alexnet', _ALEXNET, _alexnet(), self.layers, weights=weights)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [0, 1] each, to (B, ).

        The published shift and scale of values in [-1, 1] are ImageNet's normalisation of values in [0, 1].
        """
        ours, theirs = self.backbone(a), self.backbone(b)
        total = a.new_zeros(len(a))
        for i, layer in enumerate(self.layers):
            difference = (_unit(ours[layer]) - _unit(theirs[layer]))**2
            total = total + (difference * getattr(self, f'head{i}')).sum(1).mean((1, 2))
        return total


def _unit(features: Tensor) -> Tensor:
    """Each pixel's features divided by their length."""
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + 1e-10)


@cache
def _network(net: Literal['alex', 'vgg'], weights: str | None, device: str) -> LPIPS:
    return LPIPS(net, weights).to(device)


def _tensor(img: np.ndarray) -> Tensor:
    """BGR or grey (H, W, C) in [0, 255] to RGB (1, 3, H, W) in [0, 1]."""
    rgb = np.ascontiguousarray(img[..., ::-1].transpose(2, 0, 1), np.float32) / 255
    return torch.from_numpy(rgb)[None].expand(-1, 3, -1, -1)


def _alexnet() -> Iterable[nn.Module]:
    channels = 3
    for name in _ALEXNET:
        if name in _CONVOLUTIONS:
            yield nn.Conv2d(channels, *_CONVOLUTIONS[name])
            channels = _CONVOLUTIONS[name][0]
        else:
            yield nn.ReLU() if name.startswith('relu') else nn.MaxPool2d(3, 2)


def _head_file(net: str) -> Path:
    spec = find_spec('lpips')  # does not import it
    file = Path(*(spec.submodule_search_locations or ())[:1], 'weights', 'v0.1', f'{net}.pth') if spec else None
    if file is None or not file.is_file():
        raise UserError(f"calculate_lpips reads 'weights/v0.1/{net}.pth' of the package lpips, which is not installed:"
                        ' pip install "retinexmamba[metrics]", or pip install lpips')
    return file

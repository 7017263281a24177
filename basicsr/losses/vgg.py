"""Features of the VGG networks (Simonyan and Zisserman 2015) with ImageNet weights, for perceptual losses."""
from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import nn

from basicsr.losses.imagenet import ImageNetFeatures
from basicsr.utils.errors import nearest

# convolutions of each block
_BLOCKS = {'vgg16': (2, 2, 3, 3, 3), 'vgg19': (2, 2, 4, 4, 4)}
_CHANNELS = (64, 128, 256, 512, 512)


def layer_names(vgg_type: str) -> list[str]:
    """Names in order: conv1_1, relu1_1, conv1_2, relu1_2, pool1, conv2_1, ... The position is torchvision's index."""
    names = []
    for block, count in enumerate(_BLOCKS[vgg_type], start=1):
        for i in range(1, count + 1):
            names += [f'conv{block}_{i}', f'relu{block}_{i}']
        names.append(f'pool{block}')
    return names


class VGGFeatures(ImageNetFeatures):
    """Named activations of VGG16 or VGG19; frozen. Only the layers up to the last one asked for are built.

    Args:
        layers: names as in `layer_names`; 'convI_J' is taken before the ReLU.
        vgg_type: 'vgg16' or 'vgg19'.
        use_input_norm, range_norm, weights: as `ImageNetFeatures`.

    Raises:
        ValueError: for an unknown network or layer.
        UserError: when there are no weights, or they do not fit. There is no random network.
    """

    def __init__(self, layers: Iterable[str], vgg_type: str = 'vgg19', use_input_norm: bool = True,
                 range_norm: bool = False, weights: str | Path | None = None):
        if vgg_type not in _BLOCKS:
            raise ValueError(f"vgg_type '{vgg_type}' is not supported; one of: {', '.join(_BLOCKS)}")
        names, layers = layer_names(vgg_type), set(layers)
        for name in layers.difference(names):
            raise ValueError(f"{vgg_type} has no layer '{name}'.{nearest(name, names)} Layers: {', '.join(names)}")
        if not layers:
            raise ValueError('no layer is named')
        names = names[:max(map(names.index, layers)) + 1]
        super().__init__(vgg_type, names, _modules(names), layers, use_input_norm, range_norm, weights)


def _modules(names: list[str]) -> Iterable[nn.Module]:
    channels = 3
    for name in names:
        if name.startswith('conv'):
            width = _CHANNELS[int(name[4]) - 1]
            yield nn.Conv2d(channels, width, 3, padding=1)
            channels = width
        else:
            yield nn.ReLU() if name.startswith('relu') else nn.MaxPool2d(2)

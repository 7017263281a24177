"""Features of the VGG networks (Simonyan and Zisserman 2015) with ImageNet weights, for perceptual losses."""
from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from basicsr.config.load import project_root
from basicsr.utils.errors import UserError, nearest
from basicsr.utils.logger import get_root_logger
from basicsr.utils.weights import load_weights

# convolutions of each block, and the weights that torchvision publishes
_BLOCKS = {'vgg16': (2, 2, 3, 3, 3), 'vgg19': (2, 2, 4, 4, 4)}
URLS = {
    'vgg16': 'https://download.pytorch.org/models/vgg16-397923af.pth',
    'vgg19': 'https://download.pytorch.org/models/vgg19-dcbb9e9d.pth',
}
_CHANNELS = (64, 128, 256, 512, 512)


def layer_names(vgg_type: str) -> list[str]:
    """Names in order: conv1_1, relu1_1, conv1_2, relu1_2, pool1, conv2_1, ... The position is torchvision's index."""
    names = []
    for block, count in enumerate(_BLOCKS[vgg_type], start=1):
        for i in range(1, count + 1):
            names += [f'conv{block}_{i}', f'relu{block}_{i}']
        names.append(f'pool{block}')
    return names


class VGGFeatures(nn.Module):
    """Named activations of VGG16 or VGG19; frozen. Only the layers up to the last one asked for are built.

    Args:
        layers: names as in `layer_names`; 'convI_J' is taken before the ReLU.
        vgg_type: 'vgg16' or 'vgg19'.
        use_input_norm: subtract ImageNet's mean and divide by its standard deviation; inputs are RGB in [0, 1].
        range_norm: inputs are in [-1, 1] and are brought to [0, 1] first.
        weights: file in torchvision's layout, whole or its `features` alone; None finds or downloads torchvision's.

    Raises:
        ValueError: for an unknown network or layer.
        UserError: when there are no weights, or they do not fit. There is no random network.
    """

    def __init__(self, layers: Iterable[str], vgg_type: str = 'vgg19', use_input_norm: bool = True,
                 range_norm: bool = False, weights: str | Path | None = None):  # yapf: disable
        super().__init__()
        if vgg_type not in _BLOCKS:
            raise ValueError(f"vgg_type '{vgg_type}' is not supported; one of: {', '.join(_BLOCKS)}")
        names, self.layers = layer_names(vgg_type), set(layers)
        for name in self.layers.difference(names):
            raise ValueError(f"{vgg_type} has no layer '{name}'.{nearest(name, names)} Layers: {', '.join(names)}")
        if not self.layers:
            raise ValueError('no layer is named')
        self.names = names[:max(map(names.index, self.layers)) + 1]
        file = Path(weights).expanduser() if weights else find_weights(vgg_type)
        with torch.device('meta'):  # memory comes with the file, so nothing can stay at its initial values
            self.features = nn.Sequential(*_modules(self.names))
        self._load(file, vgg_type)
        self.range_norm, self.use_input_norm = range_norm, use_input_norm
        self.register_buffer('mean', torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) to the activations by name."""
        if self.range_norm:
            x = (x + 1) / 2
        if self.use_input_norm:
            x = (x - self.mean) / self.std
        out = {}
        for name, module in zip(self.names, self.features):
            x = module(x)
            if name in self.layers:
                out[name] = x
        return out

    def _load(self, file: Path, vgg_type: str) -> None:
        given = {k.removeprefix('features.'): v for k, v in load_weights(file).state.items()}
        state = {}
        for key, empty in self.features.state_dict().items():
            if key not in given or given[key].shape != empty.shape:
                problem = 'is missing' if key not in given else f'is {tuple(given[key].shape)}'
                raise UserError(f"'{file}' does not hold the weights of {vgg_type}: features.{key} {problem}")
            state[key] = given[key].float()
        self.features.load_state_dict(state, assign=True)


def find_weights(vgg_type: str) -> Path:
    """torchvision's weight file: in `pretrained_weights/`, BasicSR's folder, torch's cache, or downloaded into that.

    Raises:
        UserError: when it is nowhere and cannot be downloaded; the sentence says what to do.
    """
    url = URLS[vgg_type]
    name = url.rpartition('/')[2]
    root, cache = project_root(), Path(torch.hub.get_dir()) / 'checkpoints'
    for folder in (root / 'pretrained_weights', root / 'experiments' / 'pretrained_models', cache):
        if (folder / name).is_file():
            return folder / name
    get_root_logger().info(f"Downloading {url} to '{cache}'")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        sha256 = name.partition('-')[2].removesuffix('.pth')
        torch.hub.download_url_to_file(url, str(cache / name), hash_prefix=sha256, progress=sys.stderr.isatty())
    except (OSError,
            RuntimeError) as error:  # no network, no permission; RuntimeError: the file is not what was published
        raise UserError(f"the perceptual loss needs the ImageNet weights of {vgg_type}, and they cannot be downloaded"
                        f" ({str(error).strip('<>')}): get {url} and put it into '{root / 'pretrained_weights'}' or"
                        f" '{cache}', or name a file in the option 'weights'") from error
    return cache / name


def _modules(names: list[str]) -> Iterable[nn.Module]:
    channels = 3
    for name in names:
        if name.startswith('conv'):
            width = _CHANNELS[int(name[4]) - 1]
            yield nn.Conv2d(channels, width, 3, padding=1)
            channels = width
        else:
            yield nn.ReLU() if name.startswith('relu') else nn.MaxPool2d(2)

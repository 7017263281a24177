"""Features of networks trained on ImageNet, with the weights that torchvision publishes; frozen, never random."""
from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from basicsr.utils.download import published_file
from basicsr.utils.errors import UserError
from basicsr.utils.places import project_root
from basicsr.utils.weights import load_weights

URLS = {
    'alexnet': 'https://download.pytorch.org/models/alexnet-owt-7be5be79.pth',
    'vgg16': 'https://download.pytorch.org/models/vgg16-397923af.pth',
    'vgg19': 'https://download.pytorch.org/models/vgg19-dcbb9e9d.pth',
}


class ImageNetFeatures(nn.Module):
    """Named activations of a network's `features`.

    Args:
        network: a name in `URLS`.
        names, modules: the layers in torchvision's order; `modules` is walked once, to build them without memory.
        layers: names of the activations that are wanted.
        use_input_norm: subtract ImageNet's mean and divide by its standard deviation; inputs are RGB in [0, 1].
        range_norm: inputs are in [-1, 1] and are brought to [0, 1] first.
        weights: file in torchvision's layout, whole or its `features` alone; None finds or downloads torchvision's.

    Raises:
        UserError: when there are no weights, or they do not fit.
    """
    mean: Tensor
    std: Tensor

    def __init__(self, network: str, names: list[str], modules: Iterable[nn.Module], layers: Iterable[str],
                 use_input_norm: bool = True, range_norm: bool = False, weights: str | Path | None = None):
        super().__init__()
        self.names, self.layers = names, set(layers)
        file = Path(weights).expanduser() if weights else find_weights(network)
        with torch.device('meta'):  # memory comes with the file, so nothing can stay at its initial values
            self.features = nn.Sequential(*modules)
        self._load(file, network)
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

    def _load(self, file: Path, network: str) -> None:
        given = {k.removeprefix('features.'): v for k, v in load_weights(file).state.items()}
        state = {}
        for key, empty in self.features.state_dict().items():
            if key not in given or given[key].shape != empty.shape:
                problem = 'is missing' if key not in given else f'is {tuple(given[key].shape)}'
                raise UserError(f"'{file}' does not hold the weights of {network}: features.{key} {problem}")
            state[key] = given[key].float()
        self.features.load_state_dict(state, assign=True)


def find_weights(network: str) -> Path:
    """torchvision's weight file: in `pretrained_weights/`, BasicSR's folder, torch's cache, or downloaded into that.

    Raises:
        UserError: when it is nowhere and cannot be downloaded; the sentence says what to do.
    """
    root = project_root()
    return published_file(URLS[network], (root / 'pretrained_weights', root / 'experiments' / 'pretrained_models'),
                          f'the ImageNet weights of {network} are', "name a file in the option 'weights'")

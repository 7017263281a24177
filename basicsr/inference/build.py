"""From a weight file, and perhaps an option file, to what restores images."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basicsr.archs import describe, input_channels
from basicsr.archs.knobs import turn
from basicsr.inference.restorer import ImageRestorer
from basicsr.utils.machine import choose_device
from basicsr.utils.pretrained import WeightFile
from basicsr.weights.network import load_described


def build_restorer(weights: str | Path | WeightFile, opt: dict[str, Any] | None = None, key: str | None = None,
                   device: str = 'auto', knobs: Mapping[str, float] | None = None, **settings: Any) -> ImageRestorer:
    """The network of a weight file as an option file says it runs, or as the weights say.

    Args:
        weights: as `load_described` takes them.
        opt: checked options: `network_g`, `path.param_key_g`, `num_gpu`, `val.window_size`.
        key: entry that the file has to have, default what the options say.
        device: 'auto' as the options say, else a GPU where there is one.
        knobs: the network's own, by name, see `archs.knobs.turn`.
        settings: further ones of `ImageRestorer`.
    """
    window = 0
    if opt is None:
        net, network = load_described(weights, key=key)
    else:
        net, network = load_described(weights, opt['network_g'], key, opt['path'].get('param_key_g'))
        device = 'cpu' if opt['num_gpu'] == 0 and device == 'auto' else device
        window = opt['val']['window_size']
    turn(net, knobs or {})
    channels = describe(net).channels
    return ImageRestorer(net, choose_device(device), multiple=window or None,
                         channels=input_channels(network) if isinstance(channels, str) else channels, network=network,
                         **settings)

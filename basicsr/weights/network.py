"""From a weight file to the network it belongs to."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from basicsr.archs import build_network, describe
from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger
from basicsr.utils.weights import Weights, load_weights
from basicsr.weights.detection import complete, detect, disagreements
from basicsr.weights.fitting import load_into
from basicsr.weights.semantic_prior import equip


def load_network(weights: str | Path, network: dict[str, Any] | None = None, key: str | None = None) -> nn.Module:
    """The network of a weight file; see `load_described`."""
    return load_described(weights, network, key)[0]


def load_described(weights: str | Path, network: dict[str, Any] | None = None,
                   key: str | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a weight file, and its options `{type, **arguments}`.

    Args:
        network: `{type, **arguments}`; None takes what the file says about itself, or recognises the weights.
        key: entry of the file, default `params_ema` where present.

    Raises:
        UserError: when the network cannot be told, or the weights do not fit.
    """
    loaded = load_weights(weights, key)
    options = network
    source = 'the options' if loaded.network else 'the options, as the file does not say it'
    if options is None:
        options, source = loaded.network, 'the weight file'
    if options is None:
        options, source = _recognised(weights, loaded), 'the shapes of the weights'
        source += ''.join(f'; {name} has the same, take it by its option file with --opt'
                          for name in describe(options['type']).variants)
    get_root_logger().info(f"{options['type']} from '{weights}' (entry: {loaded.choice}; network by {source})")
    net = equip(build_network(options))
    load_into(net, loaded.state, str(weights))
    return net, options


def _recognised(weights: str | Path, loaded: Weights) -> dict[str, Any]:
    """The options of the network that has weights of these shapes."""
    found = detect(loaded.state)
    if found is None:
        raise UserError(f"'{weights}' does not say which network it belongs to; give the option file with --opt")
    for line in disagreements(found, loaded.claims):
        get_root_logger().warning(f"'{weights}' contradicts itself, its shapes decide: {line}")
    return complete(found, loaded.claims)

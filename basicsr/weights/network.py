"""From a weight file to the network it belongs to."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from basicsr.archs import build_network, describe
from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger
from basicsr.utils.pretrained import WeightFile, locate
from basicsr.utils.weights import Weights, load_weights
from basicsr.weights.detection import complete, detect, disagreements
from basicsr.weights.fitting import load_into
from basicsr.weights.foreign import recognised
from basicsr.weights.hub_folder import CONFIG, options_beside, refuse_guesses
from basicsr.weights.semantic_prior import equip


def load_network(weights: str | Path | WeightFile, network: dict[str, Any] | None = None,
                 key: str | None = None) -> nn.Module:
    """The network of a weight file; see `load_described`."""
    return load_described(weights, network, key)[0]


def load_described(weights: str | Path | WeightFile, network: dict[str, Any] | None = None, key: str | None = None,
                   preferred: str | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a weight file, and its options `{type, **arguments}`.

    Args:
        weights: a file, or anything else that `locate` finds: a name, an address, a folder of the hub.
        network: `{type, **arguments}`; None takes what the table of its name, the file or the `config.json` beside it says, or
            recognises the weights.
        key, preferred: entry of the file that has to be there, and one that options prefer; default `params_ema` where present.

    Raises:
        UserError: when there are no such weights, the network cannot be told, or the weights do not fit.

    A network that neither the file nor this toolbox knows is spandrel's, where that is installed, see `weights.foreign`.
    """
    found = locate(weights)
    file = found.path
    loaded = load_weights(file, key, preferred)
    told = _told(found, loaded) if network is None else (
        '', network, 'the options' if loaded.network else 'the options, as the file does not say it')
    if told is None:
        net, options = recognised(loaded.state, file)
        get_root_logger().info(f"{options['type']} from '{file}' (entry: {loaded.choice}; network by spandrel)")
        return net, options
    place, options, source = told
    get_root_logger().info(f"{options['type']} from '{file}' (entry: {loaded.choice}; network by {source})")
    net = equip(_built(options, place))
    load_into(net, loaded.state, str(file))
    return net, options


def _told(found: WeightFile, loaded: Weights) -> tuple[str, dict[str, Any], str] | None:
    """Where the network of a weight file is written, its options, and by what they are known; None where they are not."""
    file = found.path
    if found.network is not None:
        return found.title, found.network, 'the table of published weights'
    options = options_beside(file, loaded)
    if options is not None:
        return f"'{file.with_name(CONFIG)}'", options, 'its config.json'
    if loaded.network is not None:
        return f"network_g in '{file}'", loaded.network, 'the weight file'
    detected = detect(loaded.state)
    if detected is None:
        return None
    options, source = _completed(file, loaded, detected), 'the shapes of the weights'
    source += ''.join(f'; {name} has the same, take it by its option file with --opt'
                      for name in describe(options['type']).variants)
    return f"'{file}'", options, source


def _built(options: dict[str, Any], place: str) -> nn.Module:
    try:
        return build_network(options)
    except UserError as error:
        if not place:
            raise
        raise UserError(f'{place}: {error}') from error


def _completed(weights: Path, loaded: Weights, found: dict[str, Any]) -> dict[str, Any]:
    """The options that shapes tell, with what the file claims of the others."""
    refuse_guesses(weights, found, loaded.claims)
    for line in disagreements(found, loaded.claims):
        get_root_logger().warning(f"'{weights}' contradicts itself, its shapes decide: {line}")
    return complete(found, loaded.claims)

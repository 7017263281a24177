"""Folders as `PyTorchModelHubMixin` lays them out: constructor arguments in `config.json`, weights in `model.safetensors`."""
from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from torch import nn

from basicsr.archs import describe
from basicsr.config.signatures import signature_of
from basicsr.registry import ARCH_REGISTRY
from basicsr.utils.errors import UserError, some
from basicsr.utils.files import atomic_write, read_text, write_json
from basicsr.utils.weights import Weights, save_safetensors
from basicsr.weights.detection import detect, guessed

WRITTEN = WEIGHTS, CONFIG, CARD = 'model.safetensors', 'config.json', 'README.md'


def options_beside(file: Path, loaded: Weights) -> dict[str, Any] | None:
    """The options `{type, **arguments}` that the `config.json` beside a `model.safetensors` gives; None where there is none.

    The file of weights, or else its shapes, say which network it is, and the arguments that the config leaves out. Of several
    networks with the same weights it is the first that takes every argument.

    Raises:
        UserError: when the config is damaged, or no network with these weights takes its arguments.
    """
    config = file.with_name(CONFIG)
    if file.name != WEIGHTS or not config.is_file():
        return None
    try:
        given = json.loads(read_text(config))
    except ValueError as error:
        raise UserError(f"'{config}' is no JSON: {error}") from error
    if not isinstance(given, dict):
        raise UserError(f"'{config}' must hold the arguments of a network by name, not a {type(given).__name__}")
    network = loaded.network or detect(loaded.state)
    if network is None:
        raise UserError(f"'{file}' belongs to no network that is known here; name it by an option file with --opt")
    if loaded.network is None:
        refuse_guesses(file, network, given)
    for name in (network['type'], *describe(network['type']).variants):
        taken = signature_of(ARCH_REGISTRY, name)
        if taken.open or given.keys() <= taken.fields.keys():
            return network | {'type': name} | given
    unknown = [key for key in given if key not in signature_of(ARCH_REGISTRY, network['type']).fields]
    raise UserError(
        f"'{config}' has arguments that {network['type']} does not take: {some(unknown)}; correct it, or name the"
        ' network by an option file with --opt')


def refuse_guesses(file: Path, found: dict[str, Any], told: dict[str, Any]) -> None:
    """Raise `UserError` where the network that `detect` has found would be built with arguments that nothing tells."""
    names = guessed(found, told)
    if names:
        raise UserError(
            f"'{file}': no shape of {found['type']}'s weights shows {', '.join(names)}, which cannot be the default"
            ' here; name it by an option file with --opt')


def save_pretrained(folder: str | Path, net: nn.Module, network: dict[str, Any], card: str = '') -> None:
    """Write a network as such a folder, which this toolbox and `PyTorchModelHubMixin` read.

    Args:
        network: `{type, **arguments}`; what it leaves out is written with its default.
        card: text of `README.md`, '' for none.
    """
    folder = Path(folder)
    # of the class, whose source may say less
    parameters = inspect.signature(ARCH_REGISTRY.get(network['type'])).parameters.values()
    arguments = {p.name: p.default for p in parameters if p.default is not p.empty} | network
    written = {k: v for k, v in arguments.items() if k != 'type' and _is_json(v)}
    save_safetensors(folder / WEIGHTS, net.state_dict(), network)
    write_json(folder / CONFIG, written)
    if card:
        with atomic_write(folder / CARD, 'w') as file:
            file.write(card)


def _is_json(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_json, value))
    return value is None or isinstance(value, (bool, int, float, str))

"""Which network do these weights belong to? Every network that describes itself is asked."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from basicsr.archs.description import describe
from basicsr.registry import ARCH_REGISTRY
from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger
from basicsr.utils.weights import unwrapped


def detect(state_dict: dict[str, Any]) -> dict[str, Any] | None:
    """`{type, **constructor arguments}` of the network that has these keys, or None when none knows them.

    Imports every file of networks. One that cannot be imported is named in the log and not asked.

    Args:
        state_dict: values need a `shape` only, so tensors on any device or meta tensors do. All of them may stand below
            the name of a wrapper, see `unwrapped`.
    """
    inner = unwrapped(state_dict)
    return _detect(state_dict) or (_detect(inner) if inner.keys() != state_dict.keys() else None)


def _detect(state_dict: dict[str, Any]) -> dict[str, Any] | None:
    shapes = {key: tuple(value.shape) for key, value in state_dict.items()}
    for name, network in described_networks():
        try:
            found = network.description.recognise(shapes)
        except Exception as error:  # a rule of others
            get_root_logger().warning(
                f'{name} cannot say whether it knows the weights: {type(error).__name__}: {error}')
            continue
        if found is not None:
            return {'type': name, **found}
    return None


def described_networks() -> Iterator[tuple[str, type[Any]]]:
    """Names and classes of networks with a rule of their own. Variants that inherit one would answer for their parent."""
    for name in ARCH_REGISTRY.keys():
        try:
            network = ARCH_REGISTRY.get(name)
        except UserError as error:
            get_root_logger().warning(f'{name} is not asked whether it knows the weights: {error}')
            continue
        if 'description' in vars(network) and describe(network).recognise is not None:
            yield name, network


def disagreements(found: dict[str, Any], claims: dict[str, Any]) -> list[str]:
    """'dim: 32 claimed, 48 by the shapes' for each hyper-parameter that the shapes refute.

    Args:
        found: what `detect` returned. claims: hyper-parameters of a checkpoint, in the spelling of the network's family.
    """
    description = describe(found['type'])
    return [
        f'{claim}: {claims[claim]} claimed, {found.get(argument)} by the shapes'
        for claim, argument in description.claims.items()
        if claim in claims and not description.agrees(argument, claims[claim], found)
    ]


def guessed(found: dict[str, Any], told: dict[str, Any]) -> list[str]:
    """Arguments of what `detect` returned that are placeholders, and that nothing else tells.

    Args:
        told: arguments that are known otherwise.
    """
    return [name for name in describe(found['type']).guesses if name in found and name not in told]


def complete(found: dict[str, Any], claims: dict[str, Any]) -> dict[str, Any]:
    """What `detect` returned with the arguments that no shape shows, where the checkpoint's hyper-parameters tell them."""
    return found | {k: claims[k] for k in describe(found['type']).untold if k in claims}

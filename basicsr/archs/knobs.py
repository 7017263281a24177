"""The numbers of networks that can be turned without other weights, see `Knob`."""
from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from basicsr.archs.description import Knob, describe
from basicsr.registry import ARCH_REGISTRY
from basicsr.utils.errors import UserError, nearest


def declared() -> dict[str, list[Knob]]:
    """The knobs of all registered networks by name; imports them all."""
    found: dict[str, list[Knob]] = {}
    for name in ARCH_REGISTRY.keys():
        for knob, what in describe(name).knobs.items():
            found.setdefault(knob, []).append(what)
    return found


def check(name: str, value: float, knobs: list[Knob]) -> None:
    """Raises `UserError` for a value that is in the range of none of them."""
    if not any(knob.least <= value <= knob.most for knob in knobs):
        ranges = ' or '.join(dict.fromkeys(f'from {knob.least:g} to {knob.most:g}' for knob in knobs))
        raise UserError(f'--{name} is a number {ranges}, not {value!r}')


def turn(net: nn.Module, values: Mapping[str, float]) -> None:
    """Set knobs of a built network. Raises `UserError` for one that it does not have, and for values out of range."""
    knobs = describe(net).knobs
    for name, value in values.items():
        if name not in knobs:
            has = f'its knobs are {", ".join(knobs)}' if knobs else 'it has none'
            raise UserError(f"{type(net).__name__} has no knob '{name}'; {has}.{nearest(name, knobs)}".rstrip('.'))
        check(name, value, [knobs[name]])
        place, _, attribute = knobs[name].attribute.rpartition('.')
        setattr(net.get_submodule(place), attribute, value)

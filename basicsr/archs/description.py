"""What is to be known of a network beside its arguments: each says it once, as the attribute `description` of its class."""
from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from basicsr.registry import ARCH_REGISTRY

Shapes = dict[str, tuple[int, ...]]  # of the tensors of a state dict, by name
_USUAL = ('in_channels', 'inp_channels', 'num_in_ch')  # as published networks call the channels of their images


def equal(argument: str, claimed: Any, found: dict[str, Any]) -> bool:
    """Whether what is claimed of an argument is what was found; a list and a tuple of the same numbers are the same."""
    return found.get(argument) == (list(claimed) if isinstance(claimed, tuple) else claimed)


@dataclass(frozen=True)
class Knob:
    """A number of a built network that can be turned without other weights: `basicsr enhance --NAME VALUE`.

    Attributes:
        attribute: of the built network, such as 'trans.gain'. least, most: its range. meaning: for people.
    """
    attribute: str
    least: float
    most: float
    meaning: str


@dataclass(frozen=True)
class Description:
    """What the toolbox asks of a network. Subclasses inherit it with the class.

    Attributes:
        multiple: the network pads the sides of its images to multiples of this, and crops its result. Where arguments
            change it, this is the value for the defaults, and each network carries its own (see `describe`).
        padding: with what: 'reflect' or 'zeros', see `pad_to_multiple`.
        channels: the constructor argument that holds the channels of the images, or their number; None: not known.
        tiling: '' where tiles answer as the whole image does, but for their borders; else why they do not, as a part
            of a sentence; None: not known.
        shares: layers that look at all pixels ask `layers/whole_image.py`, so that tiles can be answered as parts of one
            image. All but what `tiling` says. Without it and with any `tiling` but '', tiles get the low frequencies of
            the image at a reduced size.
        strips: it works through an image in strips by itself, so that tiles are taken only where an image does not fit
            into memory.
        guide: channels of a map of the image's size that the network is given as second argument, 0 without.
        knobs: by the names that their authors gave them. They are no arguments of the constructor.
        recognise: from the shapes of a state dict to constructor arguments, None where they are another network's. It
            is asked about the weights of all networks and may answer for its own only.
        variants: registered networks that use the same weights in another way, which no file tells apart.
        untold: arguments that no shape shows, and that the hyper-parameters of a checkpoint may tell.
        guesses: those of them that `recognise` can only give a placeholder for, where the weights are not of the default.
        claims: hyper-parameters, as checkpoints of this family spell them, to the arguments they are about.
        agrees: whether an argument, a hyper-parameter's claim about it and the recognised arguments go together.
    """
    multiple: int = 4
    padding: Literal['reflect', 'zeros'] = 'reflect'
    channels: str | int | None = 3
    tiling: str | None = None
    shares: bool = False
    strips: bool = False
    guide: int = 0
    knobs: Mapping[str, Knob] = field(default_factory=dict)
    recognise: Callable[[Shapes], dict[str, Any] | None] | None = None
    variants: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    guesses: tuple[str, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)
    agrees: Callable[[str, Any, dict[str, Any]], bool] = equal


def describe(network: Any) -> Description:
    """The description of a network: of its registered name, of its class, or, most exactly, of the built network itself.

    One that says nothing is given images whose sides are multiples of 4, and its channels are looked for under the usual
    names. Raises `UserError` for an unknown name.
    """
    network = ARCH_REGISTRY.get(network) if isinstance(network, str) else network
    found = getattr(network, 'description', None)
    if isinstance(found, Description):
        return found
    arguments = _arguments(network if inspect.isclass(network) or inspect.isfunction(network) else type(network))
    return Description(channels=next((name for name in _USUAL if name in arguments), None))


def input_channels(opt: Mapping[str, Any]) -> int | None:
    """Channels of the images that the network of an option block takes; None where nothing tells."""
    network = ARCH_REGISTRY.get(opt['type'])
    channels = describe(network).channels
    if not isinstance(channels, str):
        return channels
    arguments = _arguments(network)
    return opt.get(channels, arguments[channels].default if channels in arguments else None)


def _arguments(network: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(network).parameters

"""Networks of others that this toolbox has not: spandrel knows some forty families by their weights."""
from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from basicsr.archs.description import Description
from basicsr.utils.errors import UserError

INSTALL = "pip install 'retinexmamba[foreign]'"


class ForeignNetwork(nn.Module):
    """A network as spandrel builds it. Images of any size in [0, 1] go in; it cannot be trained, nor exported.

    Attributes:
        title: of its family, such as 'SwinIR'.
    """

    def __init__(self, found: Any):
        from spandrel import ModelTiling
        super().__init__()
        self.net: nn.Module = found.model.requires_grad_(False)
        self.title = str(found.architecture.name)
        self._call = found  # pads as the network needs it
        whole = found.tiling is ModelTiling.DISCOURAGED
        self.description = Description(multiple=1, channels=found.input_channels,
                                       tiling='it looks at the whole image' if whole else None, strips=found.tiling
                                       is ModelTiling.INTERNAL)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to the same, or to one that is larger by the network's scale."""
        return self._call(image)


def recognised(state: Mapping[str, Tensor], file: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network of these weights, and `{type}`. Raises `UserError` where spandrel is missing or does not know them."""
    unknown = f"'{file}' does not say which network it belongs to; give the option file with --opt"
    if find_spec('spandrel') is None:
        raise UserError(f'{unknown}. Networks of others are recognised with: {INSTALL}')
    from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError, canonicalize_state_dict
    try:
        found = ModelLoader('cpu').load_from_state_dict(canonicalize_state_dict(dict(state)))
    except UnsupportedModelError:
        raise UserError(f'{unknown}. It is none of the networks that spandrel recognises, either') from None
    except Exception as error:  # whatever one of its families stumbles over
        why = str(error).partition('\n')[0]
        raise UserError(f"'{file}' does not fit the network that spandrel takes it for: {why}") from error
    if not isinstance(found, ImageModelDescriptor):
        raise UserError(f"'{file}' is of {found.architecture.name}, which needs a mask beside the image")
    return ForeignNetwork(found).eval(), {'type': found.architecture.name}


def check_own(net: nn.Module, file: str | Path, what: str) -> None:
    """Raise `UserError` where `what` is done to networks of this toolbox alone."""
    if isinstance(net, ForeignNetwork):
        raise UserError(f"'{file}' is of {net.title}, by spandrel; networks of this toolbox alone {what}")

"""Modules that leave values of their last pass in attributes, for losses to read."""
from __future__ import annotations

from typing import Any

from torch import nn


class Transient(nn.Module):
    """A module whose attributes `transient` are values of its last pass: copies hold None there, not the pass's graph."""

    transient: tuple[str, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | dict.fromkeys(self.transient)

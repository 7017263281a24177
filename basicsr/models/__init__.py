"""Models: a network with its losses, optimizer, validation and files (`<name>_model.py`), in BasicSR's contract."""
from __future__ import annotations

from typing import Any

from basicsr.registry import MODEL_REGISTRY

__all__ = ['build_model']


def build_model(opt: dict[str, Any]) -> Any:
    """`MODEL_REGISTRY[opt['model_type']](opt)`."""
    return MODEL_REGISTRY.get(opt['model_type'])(opt)


create_model = build_model  # its name in the Restormer family

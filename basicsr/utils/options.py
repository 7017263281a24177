"""The module name of BasicSR for reading option files without checking them."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from basicsr.config import dict2str
from basicsr.config.yaml_reader import parse_value, read_yaml

__all__ = ['dict2str', 'yaml_load']


def yaml_load(f: str | Path) -> Any:
    """What a YAML file, or YAML text, holds. Raises `UserError` for a file that cannot be read."""
    return read_yaml(f)[0] if Path(f).is_file() else parse_value(str(f))

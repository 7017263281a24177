"""Where the project's own files are: in a checkout, or inside an installed package."""
from __future__ import annotations

from pathlib import Path

from basicsr.utils.imports import PACKAGE


def project_root() -> Path:
    """The checkout when running from one (or an editable install), else the working directory."""
    root = PACKAGE.parent
    return root if (root / 'pyproject.toml').is_file() else Path.cwd()


def shipped_root() -> Path:
    """The folder with `Options/`, `Ablation_Model/`, `data/demo/` and `pretrained_weights/` as they come with the project."""
    inside = PACKAGE / 'shipped'  # setup.py puts them there
    return inside if inside.is_dir() else PACKAGE.parent

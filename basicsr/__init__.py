"""RetinexMamba toolbox. Importing this package loads nothing heavy: neither torch nor OpenCV.

    from basicsr import Restorer
    bright = Restorer.from_pretrained('retinexmamba_tiny')(image)
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from basicsr.utils.absent import tell_absent_modules

if TYPE_CHECKING:
    from basicsr.inference.api import Restorer as Restorer

__version__ = '0.2.0'

tell_absent_modules()


def __getattr__(name: str) -> object:
    if name == 'Restorer':
        from basicsr.inference.api import Restorer
        return Restorer
    raise AttributeError(f"module 'basicsr' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*globals(), 'Restorer']

"""Datasets (`<name>_dataset.py`), their sampling and loading."""
from __future__ import annotations

import inspect
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from basicsr.registry import DATASET_REGISTRY
from basicsr.utils.errors import UserError
from basicsr.utils.imports import is_ours

if TYPE_CHECKING:
    from basicsr.data.loader import Samples

__all__ = ['build_dataloader', 'build_dataset']


def build_dataset(dataset_opt: dict[str, Any]) -> Samples:
    """The dataset of an option block. Keys that only the loader reads are left out.

    Raises `UserError`, naming the block, when files are missing or do not pair, or the constructor refuses arguments.
    """
    where = f"datasets.{dataset_opt.get('block', dataset_opt.get('phase', ''))}"
    try:
        return construct(dataset_opt)
    except UserError as error:
        error.args, error.block = (f'{where}: {error}', ), dataset_opt
        raise
    except ValueError as error:
        raise UserError(f"{where}: dataset '{dataset_opt['type']}' cannot be built: {error}",
                        block=dataset_opt) from error


def construct(dataset_opt: dict[str, Any]) -> Samples:
    """`build_dataset`, with the constructor's own errors."""
    opt = deepcopy(dict(dataset_opt))
    factory = DATASET_REGISTRY.get(opt['type'])
    parameters = inspect.signature(factory).parameters
    subclass = getattr(factory.__init__, 'accepts_opt', False) and not is_ours(factory.__module__)
    if list(parameters) == ['opt'] or subclass:  # a BasicSR dataset reads the whole block
        return factory(opt)
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        opt = {k: v for k, v in opt.items() if k in parameters}
    return factory(**opt)


create_dataset = build_dataset  # its name in the Restormer family


def __getattr__(name: str) -> Any:
    if name in ('build_dataloader', 'create_dataloader'):  # the second in the Restormer family
        from basicsr.data.loader import build_dataloader
        return build_dataloader
    raise AttributeError(f"module 'basicsr.data' has no attribute '{name}'")

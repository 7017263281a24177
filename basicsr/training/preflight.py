"""What is tried before a run touches its folders, so that mistakes show at once and not after days of training."""
from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from basicsr.archs import input_channels
from basicsr.config import LoadedOptions
from basicsr.config.report import raise_mistakes
from basicsr.data import build_dataset
from basicsr.data.loader import ImageLoader
from basicsr.data.resident_loader import ResidentLoader
from basicsr.losses import build_loss
from basicsr.utils.errors import UserError


def check_stages(stages: Sequence[LoadedOptions]) -> None:
    """Build the data sets (files are looked up, not read) and the losses of all stages once, and let go of them.

    Raises `UserError` with the mistakes of all stages. A single run finds its own when it builds them anyway.
    """
    if len(stages) < 2:
        return
    seen, mistakes = [], []
    for stage in stages:
        for build, block in _parts(stage.opt):
            if block in seen:
                continue
            seen.append(block)
            try:
                with stage.naming_places():
                    build(block)
            except UserError as error:
                mistakes.append(f"stage '{stage.opt['name']}': {error}")
    raise_mistakes(str(stages[0].file), mistakes)


def check_channels(opt: dict[str, Any], loaders: Sequence[ImageLoader | ResidentLoader]) -> None:
    """Read one sample of each data set. Raises `UserError` when the network does not take as many channels."""
    wanted = input_channels(opt['network_g'])
    for loader in loaders:
        sample = loader.dataset[0]
        if wanted is None or not isinstance(sample, dict) or 'lq' not in sample:  # unknown, or a file to be named later
            continue
        given = len(sample['lq'])
        if given != wanted:
            raise UserError(
                f"datasets.{loader.dataset.opt['block']}: images have {given} channels ('{sample['lq_path']}'),"
                f" but network_g ({opt['network_g']['type']}) takes {wanted}")


def check_loggers(opt: dict[str, Any]) -> None:
    """Raise `UserError` where a logger that is asked for is not installed."""
    logs = opt['logger']
    if not logs['use_tb_logger']:
        return
    wanted = {'tensorboard': 'logger.use_tb_logger'}
    if (logs.get('wandb') or {}).get('project'):
        wanted['wandb'] = 'logger.wandb'
    for package, option in wanted.items():
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{option} is set, but {package} is not installed: pip install {package}")


def _parts(opt: dict[str, Any]) -> Iterator[tuple[Callable[[dict[str, Any]], Any], dict[str, Any]]]:
    """(function, block) of everything that is built from files."""
    for block in opt['datasets'].values():
        yield build_dataset, block
    train = opt['train']
    for block in (train.get('pixel_opt'), train.get('perceptual_opt'), *(train.get('losses') or [])):
        if block:
            yield build_loss, block

"""What BasicSR keeps beside its logger and what programs of its own kind print with; reached by `basicsr.utils.logger`."""
from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from basicsr.training import message_logger
from basicsr.utils.machine import environment
from basicsr.utils.misc import AvgTimer

__all__ = ['AvgTimer', 'MessageLogger', 'get_env_info', 'init_tb_logger', 'init_wandb_logger']


class MessageLogger(message_logger.MessageLogger):
    """As in training. `opt` need not say its `rank`; `start_iter` is the first iteration, 1 for a new run."""

    def __init__(self, opt: dict[str, Any], start_iter: int = 1, tb_logger: Any = None):
        super().__init__({'rank': 0, **opt}, max(start_iter - 1, 0), tb_logger)

    def reset_start_time(self) -> None:
        """Leave out of the remaining time what came before."""
        self.start_time = time.time()


def get_env_info() -> str:
    """Versions, GPU and processor."""
    return environment()


def init_tb_logger(log_dir: str | Path) -> Any:
    """A TensorBoard writer."""
    return message_logger.init_tb_logger(log_dir)


def init_wandb_logger(opt: dict[str, Any]) -> None:
    """Mirror TensorBoard to Weights & Biases, by `logger.wandb` of the options."""
    message_logger.init_wandb(opt)

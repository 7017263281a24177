"""The logger `basicsr`: console and file on rank 0, errors only on the others."""
from __future__ import annotations

import logging
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from tqdm import tqdm

_set_up: set[str] = set()
_FORMAT = '%(asctime)s %(levelname)s: %(message)s'


class _Backlog(logging.Handler):
    """Keeps what is logged before the log file is opened."""

    def __init__(self):
        super().__init__()
        self.records: deque[logging.LogRecord] = deque(maxlen=1000)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class _BarFriendly(logging.StreamHandler):
    """Writes above a progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=sys.stderr):
            super().emit(record)


def get_root_logger(logger_name: str = 'basicsr', log_level: int = logging.INFO,
                    log_file: str | Path | None = None) -> logging.Logger:
    """The logger of that name, set up on first use; `log_file` adds a file (rank 0 only), which
    also gets what was logged before."""
    logger = logging.getLogger(logger_name)
    rank = _rank()
    if logger_name not in _set_up:  # not: without handlers, an application may have added its own
        _set_up.add(logger_name)
        handler = _BarFriendly()
        handler.setFormatter(logging.Formatter(_FORMAT))
        handler.setLevel(log_level if rank == 0 else logging.ERROR)
        logger.addHandler(handler)
        logger.addHandler(_Backlog())
        logger.propagate = False
        logger.setLevel(logging.DEBUG)  # the file gets everything, the console what its own level lets through
    if log_file is not None and rank == 0:
        file_handler = logging.FileHandler(log_file, 'a', encoding='utf-8', errors='backslashreplace')
        file_handler.setFormatter(logging.Formatter(_FORMAT))
        close_log_file(logger_name)
        for backlog in [h for h in logger.handlers if isinstance(h, _Backlog)]:
            for record in backlog.records:
                file_handler.emit(record)
            logger.removeHandler(backlog)
        logger.addHandler(file_handler)
    return logger


def close_log_file(logger_name: str = 'basicsr') -> None:
    """The end of a run: what is logged from here on is kept for the file of the next one."""
    logger = logging.getLogger(logger_name)
    for handler in [h for h in logger.handlers if isinstance(h, logging.FileHandler)]:
        logger.removeHandler(handler)
        handler.close()
    if not any(isinstance(h, _Backlog) for h in logger.handlers):
        logger.addHandler(_Backlog())


def timestamp() -> str:
    return time.strftime('%Y%m%d_%H%M%S')


def _rank() -> int:
    if 'torch' not in sys.modules:  # logging must not be the reason to load torch
        return 0
    from basicsr.utils.dist import get_dist_info
    return get_dist_info()[0]


def __getattr__(name: str) -> Any:
    """BasicSR's module also holds the messages of training, which stand above this one here: they are a door's."""
    if name not in ('AvgTimer', 'MessageLogger', 'get_env_info', 'init_tb_logger', 'init_wandb_logger'):
        raise AttributeError(f"module 'basicsr.utils.logger' has no attribute '{name}'")
    import basicsr.utils
    return getattr(basicsr.utils, name)

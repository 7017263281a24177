"""The logger `basicsr`: console and file on rank 0, errors only on the others."""
from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from tqdm import tqdm

_FORMAT = '%(asctime)s %(levelname)s: %(message)s'


class _BarFriendly(logging.StreamHandler):
    """Writes above a progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=sys.stderr):
            super().emit(record)


def get_root_logger(logger_name: str = 'basicsr', log_level: int = logging.INFO,
                    log_file: str | Path | None = None) -> logging.Logger:  # yapf: disable
    """The logger of that name, set up on first use; `log_file` adds a file once (rank 0 only)."""
    logger = logging.getLogger(logger_name)
    rank = _rank()
    if not logger.handlers:
        handler = _BarFriendly()
        handler.setFormatter(logging.Formatter(_FORMAT))
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(log_level if rank == 0 else logging.ERROR)
    if log_file is not None and rank == 0:
        file_handler = logging.FileHandler(log_file, 'a', encoding='utf-8')
        file_handler.setFormatter(logging.Formatter(_FORMAT))
        logger.addHandler(file_handler)
    return logger


def timestamp() -> str:
    return time.strftime('%Y%m%d_%H%M%S')


def _rank() -> int:
    if 'torch' not in sys.modules:  # logging must not be the reason to load torch
        return 0
    from basicsr.utils.dist import get_dist_info
    return get_dist_info()[0]

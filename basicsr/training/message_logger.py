"""Training messages: BasicSR's line in the log, a bar on a terminal, TensorBoard and wandb where they are switched on."""
from __future__ import annotations

import datetime
import importlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger


class MessageLogger:
    """Formats the training line: `[name..][epoch:  0, iter:     100, lr:(2.000e-04,)] [eta: 0:01:02, ...] l_pix: ...`.

    Args:
        opt: options of the run. start_iter: iterations done before this start (a resume).
        tb_logger: a TensorBoard `SummaryWriter` or None.
    """

    def __init__(self, opt: dict[str, Any], start_iter: int = 0, tb_logger: Any = None):
        self.name, self.total = opt['name'], opt['train']['total_iter']
        self.tb_logger, self.logger = tb_logger, get_root_logger()
        self.start_iter, self.start_time = start_iter, time.time()
        self.bar = tqdm(total=self.total, initial=start_iter, unit='it', desc=self.name[:20], dynamic_ncols=True,
                        disable=opt['rank'] != 0 or not sys.stderr.isatty())

    def advance(self) -> None:
        """One more iteration on the bar; the losses on it are those of the last message."""
        if not self.bar.disable:
            self.bar.update()

    def __call__(self, message: dict[str, Any]) -> None:
        """`message`: epoch, iter, lrs, time, data_time, and loss values by name."""
        values = {k: v for k, v in message.items() if k not in ('epoch', 'iter', 'lrs', 'time', 'data_time')}
        if not self.bar.disable:
            self.bar.set_postfix({k: f'{v:.3g}' for k, v in values.items()}, refresh=False)
        iteration = message['iter']
        done = iteration - self.start_iter
        left = (time.time() - self.start_time) / max(done, 1) * (self.total - iteration)
        line = f'[{self.name[:5]}..][epoch:{message["epoch"]:3d}, iter:{iteration:8,d}, lr:('
        line += ''.join(f'{v:.3e},' for v in message['lrs']) + ')] '
        line += f'[eta: {datetime.timedelta(seconds=int(left))}, '
        line += f'time (data): {message["time"]:.3f} ({message["data_time"]:.3f})] '
        line += ''.join(f'{k}: {v:.4e} ' for k, v in values.items())
        self.logger.info(line)
        if self.tb_logger is not None:
            for key, value in values.items():
                self.tb_logger.add_scalar(f'losses/{key}' if key.startswith('l_') else key, value, iteration)
            self.tb_logger.add_scalar('lr', message['lrs'][0], iteration)

    def close(self) -> None:
        self.bar.close()


def tensorboard() -> Any:
    """PyTorch's module for it, whose import may fail where versions of packages do not go together."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    return importlib.import_module('torch.utils.tensorboard')


def init_tb_logger(log_dir: str | Path, start_iter: int = 0) -> Any:
    """A TensorBoard writer below `log_dir`; after a resume, what lies beyond `start_iter` is replaced."""
    return tensorboard().SummaryWriter(log_dir=str(log_dir), purge_step=start_iter + 1 if start_iter else None)


@contextmanager
def wandb_run(opt: dict[str, Any]) -> Iterator[None]:
    """A run at Weights & Biases where the options want one, finished when this is left. Raises `UserError` where it fails."""
    logs = opt['logger']
    if not logs['use_tb_logger'] or not (logs.get('wandb') or {}).get('project'):
        yield
        return
    try:
        run = init_wandb(opt)
    except Exception as error:  # a service may fail in any way
        raise UserError(f"logger.wandb: {' '.join(str(error).split())} (or WANDB_MODE=offline in the environment, or"
                        ' logger.wandb.project=null)') from error
    try:
        yield
    finally:
        run.finish()


def init_wandb(opt: dict[str, Any]) -> Any:
    """Mirror TensorBoard to Weights & Biases, returns the run; `logger.wandb.resume_id` continues an earlier run."""
    import wandb
    options = opt['logger']['wandb']
    resume_id = options.get('resume_id')
    return wandb.init(id=resume_id, resume='allow' if resume_id else None, name=opt['name'], config=opt,
                      project=options['project'], sync_tensorboard=True)

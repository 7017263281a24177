"""The training loop. It owns the position in the run, the best values, early stopping, and what a resume needs of them."""
from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from addict import Dict

from basicsr.data.loader import ImageLoader
from basicsr.data.resident_loader import ResidentLoader
from basicsr.data.samplers import EnlargedSampler
from basicsr.engine.best import BestMetrics
from basicsr.engine.checkpoint import read_state
from basicsr.engine.nonfinite import NotFinite
from basicsr.evaluation.validation import log_results
from basicsr.models.validation import measure_model, validates_itself
from basicsr.training.best_weights import save_best
from basicsr.training.curves import Table, plot
from basicsr.training.early_stop import Callback, EarlyStop, Stop
from basicsr.training.message_logger import MessageLogger, init_tb_logger
from basicsr.training.position import order_of, resumed_at
from basicsr.utils.dist import barrier, largest
from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger
from basicsr.utils.stopping import Interrupted, signals_wait, spell, wish

_OVER = 1000  # a number that no signal has
_ROLLBACKS = 3  # to one state


class Paused(Exception):
    """The run is to go on later: `train.time_limit` is over, or a signal asked for it.

    Attributes:
        signal: its number, None where the time is over.
    """

    def __init__(self, signal: int | None = None):
        super().__init__()
        self.signal = signal


class Trainer:
    """Runs a model over its data for `train.total_iter` iterations.

    Args:
        opt: frozen options.
        model: anything with BasicSR's model contract (`feed_data`, `optimize_parameters`, `validation`, `save`, ...).
        train_loader, sampler: training batches and the order they come in.
        val_loaders: one per validation set.
        resume_state: content of a `.state` file, or None.
        callbacks: told the results of every validation; they may end the run.
        started: when the time of `train.time_limit` began, by `time.monotonic`; default now.
    """

    def __init__(self, opt: Dict, model: Any, train_loader: ImageLoader | ResidentLoader, sampler: EnlargedSampler,
                 val_loaders: list[ImageLoader], resume_state: dict[str, Any] | None = None,
                 callbacks: Sequence[Callback] = (), started: float | None = None):
        self.opt, self.model = opt, model
        self.loader, self.sampler, self.val_loaders = train_loader, sampler, val_loaders
        self.order = order_of(train_loader, sampler)
        self.total = opt['train']['total_iter']
        self.warmup = opt['train'].get('warmup_iter', -1)
        self.time_limit = opt['train'].get('time_limit')
        self.started = time.monotonic() if started is None else started
        self.iteration, self.epoch, self.batches_done = 0, 0, 0
        logs, val = opt['logger'], opt['val']
        self.print_freq, self.save_freq = logs['print_freq'], logs['save_checkpoint_freq']
        self.val_freq = val.get('val_freq') if val_loaders else None
        self.best = BestMetrics(val['metrics'], val.get('best_metric'))
        self.early_stop = EarlyStop(opt) if opt['train'].get('early_stop') else None
        self.callbacks = [*callbacks, *([self.early_stop] if self.early_stop else [])]
        self._reported: dict[str, dict[str, float]] = {}
        if resume_state:
            self.load_state_dict(resume_state)
            self.model.resume_training(resume_state)
        if hasattr(model, 'attach'):  # a model of BasicSR's contract that is none of ours keeps its own best
            model.attach(self)
        self.saved = self.iteration  # of the newest state
        self.rolled_back: Counter[int] = Counter()  # to which state how often
        # a state is written before the validation of its iteration, which is therefore done again
        self.validates_first = bool(resume_state and self.val_freq and self.iteration % self.val_freq == 0)
        self.is_master = opt['rank'] == 0
        self.folder = Path(opt['path']['experiments_root'])
        self.losses = Table(self.folder / 'losses.csv', self.iteration) if self.is_master else None
        self.metrics = Table(self.folder / 'metrics.csv', self.iteration -
                             self.validates_first) if self.is_master else None
        tb_wanted = self.is_master and logs['use_tb_logger']
        self.tb_logger = init_tb_logger(opt['path']['tb_logger'], self.iteration) if tb_wanted else None
        self.message = MessageLogger(opt, self.iteration, self.tb_logger)

    def run(self) -> bool:
        """Train to the end, or until a callback stops: every epoch, batch by batch, then save and validate once more.

        Returns whether the run has ended: False when `train.time_limit` interrupted it. A signal that would end the
        process ends it after the iteration, with the exit code that it would have had, and the state saved.
        """
        get_root_logger().info(f'Start training from epoch: {self.epoch}, iter: {self.iteration}')
        try:
            try:
                # several processes may hear of one Ctrl-C from the terminal and from their launcher
                with signals_wait(insist=not self.opt['dist']):
                    self._train()
            except Paused as reason:
                why = f'{self.time_limit:g} minutes are over' if reason.signal is None else spell(reason.signal)
                get_root_logger().info(f'Training pauses at iteration {self.iteration} of {self.total}: {why};'
                                       ' --auto_resume goes on from here')
                self._plot()
                if reason.signal is not None:
                    sys.exit(128 + reason.signal)
                return False
            except Stop as reason:
                get_root_logger().info(f'Training stops at iteration {self.iteration}: {reason}')
                self._save_end()
                self.model.save(epoch=-1, current_iter=-1)
            self._plot()
            return True
        finally:
            self.message.close()
            if self.tb_logger is not None:
                self.tb_logger.close()
            if isinstance(self.loader, ImageLoader):
                self.loader.close()

    def _train(self) -> None:
        if self.validates_first:
            self._validate()
        if self.opt['train'].get('nonfinite') == 'rollback' and largest(not self._state_file().is_file()):
            self.model.save_training_state(self.epoch,
                                           self.iteration)  # where to go back to before there is another one
        while self.iteration < self.total:
            self.sampler.set_epoch(self.epoch, self.batches_done * self.loader.batch_size)
            with closing(iter(self.loader)) as batches:  # its workers end with the epoch, however that ends
                self._run_epoch(batches)
            self.epoch, self.batches_done = self.epoch + 1, 0
        if self.val_loaders and self.total % (self.val_freq or self.total + 1):
            self._validate()
        self.model.save(epoch=-1, current_iter=-1)

    def _run_epoch(self, batches: Iterator[Any]) -> None:
        waiting_since = time.time()
        for batch in batches:
            data_time = time.time() - waiting_since
            self.iteration += 1
            self.batches_done += 1
            try:
                self.model.update_learning_rate(self.iteration, warmup_iter=self.warmup)
                self.model.feed_data(batch)
                self.model.optimize_parameters(self.iteration)
                self._log(time.time() - waiting_since, data_time)
                pause = self._pause()
                if pause or self.iteration % self.save_freq == 0:
                    self._save()
                elif self.iteration >= self.total:
                    self._save_end()
                if pause:  # a validation that is due comes first when the run goes on
                    raise pause
                if self.val_freq and self.iteration % self.val_freq == 0:
                    self._validate()
            except NotFinite as reason:
                self._roll_back(reason)
            if self.iteration >= self.total:
                break
            waiting_since = time.time()

    def _roll_back(self, reason: NotFinite) -> None:
        """Go back to the newest state, and on with the samples that would have come next. On every process at once."""
        if self.opt['train'].get('nonfinite') != 'rollback':
            raise reason
        self.rolled_back[self.saved] += 1
        if self.rolled_back[self.saved] > _ROLLBACKS:
            raise UserError(f'{reason}. The run has gone back to iteration {self.saved} {_ROLLBACKS} times before')
        file = self._state_file()
        get_root_logger().warning(f"{reason}. The run goes back to '{file}', and on with other samples")
        state = read_state(file)
        self.model.forget_steps()
        self.model.load_resumed_networks(file, state)
        self.model.resume_training(state)
        self.iteration = state['iter']
        for table in filter(None, (self.losses, self.metrics)):
            table.keep(self.iteration)

    def _state_file(self) -> Path:
        return Path(self.opt['path']['training_states']) / f'{self.saved}.state'

    def _pause(self) -> Paused | None:
        """Why to pause here, the same on every process: a signal that one of them got, or the clock of one of them."""
        if self.iteration >= self.total:
            return None
        over = self.time_limit is not None and time.monotonic() - self.started > 60 * self.time_limit
        asked = largest(max(_OVER * over, (wish() or 0)))
        return Paused(None if asked == _OVER else asked) if asked else None

    def _log(self, iter_time: float, data_time: float) -> None:
        self.message.advance()
        if self.iteration % self.print_freq and self.iteration != self.total:
            return
        log = self.model.get_current_log()  # not at every iteration: a GPU would have to end it first
        rates = self.model.get_current_learning_rate()
        self.message({
            'epoch': self.epoch, 'iter': self.iteration, 'lrs': rates, 'time': iter_time, 'data_time': data_time, **log
        })
        if self.losses is not None:
            self.losses.add(self.iteration, {'lr': rates[0], **log})

    def _save(self) -> None:
        get_root_logger().info('Saving models and training states.')
        self.model.save(self.epoch, self.iteration)
        self.saved = self.iteration

    def _save_end(self) -> None:
        """The training state where a run ends: by it a later start knows that it has ended, or goes on for longer."""
        if self.iteration % self.save_freq:
            self.model.save_training_state(self.epoch, self.iteration)
            self.saved = self.iteration

    def _validate(self) -> None:
        save_img = self.opt['val']['save_img']
        values: dict[str, float] = {}
        self._reported = {}
        for loader in self.val_loaders:
            name = loader.dataset.opt['name']
            try:
                found = measure_model(self.model, loader, self.iteration, self.tb_logger, save_img)
            except Interrupted as signal:  # the validation comes first when the run goes on
                if self.saved != self.iteration:
                    self._save()
                raise Paused(signal.number) from None
            for metric, value in found.means.items():
                if metric not in self._reported.get(name, {}):  # by a model that validates itself
                    # a mean of the images that went well is not to be compared with that of all
                    self.report(name, metric, math.nan if found.not_finite else value, self.iteration)
            if not validates_itself(self.model):
                log_results(name, found, self.opt['val']['metrics'], self.iteration, self.tb_logger,
                            self.best.table.get(name))
            values |= {f'{name}/{k}': found.means.get(k, value) for k, value in self._reported.get(name, {}).items()}
            values |= {f'{name}/{task}/{k}': v for task, means in found.tasks.items() for k, v in means.items()}
            self._reported.setdefault(name, {})
        if self.metrics is not None and values:
            self.metrics.add(self.iteration, values)
            self._plot()
        barrier()
        for callback in self.callbacks:
            callback.on_validation(self.iteration, self._reported)

    def report(self, dataset: str, metric: str, value: float, iteration: int) -> None:
        """Take the value of a metric on a validation set; weights that are better than all before are written."""
        self._reported.setdefault(dataset, {})[metric] = value
        if self.best.report(dataset, metric, value, iteration) and self.is_master:
            save_best(self.model, self.opt, dataset, metric, self.best.table[dataset][metric])

    def _plot(self) -> None:
        if self.losses is not None and self.metrics is not None:
            plot(self.losses, self.metrics, self.folder / 'curves.png', self.opt['name'])

    def state_dict(self) -> dict[str, Any]:
        """What training states hold of the run beside the model's own."""
        position = {'epoch': self.epoch, 'batches_done': self.batches_done, **self.order._asdict()}
        stop = {'early_stop': self.early_stop.state} if self.early_stop else {}
        return {
            'epoch': self.epoch, 'iter': self.iteration, 'run_state': position | stop, 'best': self.best.table,
            'options': self.opt.to_dict()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a training state, of this toolbox or of BasicSR, which knows no more than `epoch` and `iter`."""
        self.iteration, (self.epoch, self.batches_done) = state['iter'], resumed_at(state, self.order)
        self.best.table = state.get('best') or {}
        stop = (state.get('run_state') or {}).get('early_stop')
        if self.early_stop and stop:
            self.early_stop.state = dict(stop)

"""One training run, from its options to its last weights."""
from __future__ import annotations

import gc
from collections.abc import Sequence

from basicsr.config import LoadedOptions
from basicsr.data.build import build_train_data, build_val_data
from basicsr.models import build_model
from basicsr.training.changed_options import differences, forget_other_best, in_force
from basicsr.training.early_stop import Callback
from basicsr.training.launch import open_log, run_folders, start_run
from basicsr.training.message_logger import wandb_run
from basicsr.training.position import order_of, other_order
from basicsr.training.preflight import (
    check_channels,
    check_loggers,
    check_patch,
    check_training_data,
    check_validation,
)
from basicsr.training.resume import check_fits, find_resume_state, is_own, later_states, set_aside
from basicsr.training.trainer import Trainer
from basicsr.utils.dist import barrier
from basicsr.utils.freed_memory import freed_memory_is_kept
from basicsr.utils.logger import close_log_file, get_root_logger


def train(loaded: LoadedOptions, launcher: str, callbacks: Sequence[Callback] = (), later: Sequence[LoadedOptions] = (),
          started: float | None = None) -> bool:
    """Train a run. `callbacks` learn the results of validations and may end it.

    `later`: the stages that follow; what an earlier start left of them is archived. `started`: when the time of
    `train.time_limit` began, by `time.monotonic`, default now. Returns False when the run was
    interrupted by `train.time_limit` and is to be resumed.
    """
    gc.collect()  # the model of the stage before, which its trainer knows and which knows its trainer, leaves the GPU
    opt = start_run(loaded, launcher)
    resume = find_resume_state(opt)
    with loaded.naming_places():
        train_loader, sampler = build_train_data(opt)
        val_loaders = build_val_data(opt)
        check_channels(opt, [train_loader, *val_loaders])
        model = build_model(opt)
        check_validation(opt, model, val_loaders)
        sizes = check_training_data(opt['datasets']['train'], train_loader.dataset.dataset)
        check_patch(model, train_loader, sizes)
    changes: list[str] = []
    if resume:
        model.load_resumed_networks(resume.file, resume.state)  # first: another network says more than other moments do
        check_fits(opt, resume, model)
        changes = [
            *differences(opt, resume, model), *other_order(resume.state, order_of(train_loader, sampler)),
            *forget_other_best(opt, resume)
        ]
        opt = in_force(opt, resume, model)
    check_loggers(opt)
    # last, so that a start that fails leaves earlier runs as they are
    goes_on = resume is not None and is_own(opt, resume)
    with run_folders(opt, resuming=goes_on, later=later, online=wandb_run(opt)):
        open_log(opt, loaded)
        if resume and goes_on and opt['rank'] == 0:
            set_aside(resume.damaged, 'damaged')
            set_aside(later_states(opt, resume), 'later')
        for change in changes:
            get_root_logger().warning(change)
        trainer = Trainer(opt, model, train_loader, sampler, val_loaders, resume.state if resume else None, callbacks,
                          started)
        with freed_memory_is_kept(model.device.type):
            ended = trainer.run()
        close_log_file()
        barrier()  # the next stage reads what this one wrote
    return ended

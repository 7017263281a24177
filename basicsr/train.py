"""Train a network from an option file: python basicsr/train.py --opt Options/RetinexMamba_LOL_v1.yml"""
from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
if sys.path and Path(sys.path[0] or '.').resolve() == ROOT / 'basicsr':
    sys.path[0] = str(ROOT)  # started as a script: import this checkout, whatever else is installed

from basicsr.config.command_line import parse_command_line
from basicsr.utils.errors import run_main

if TYPE_CHECKING:
    from basicsr.config import LoadedOptions
    from basicsr.engine.early_stop import Callback


def train_pipeline(root_path: str | Path | None = None, argv: list[str] | None = None) -> None:
    """Read the command line, check the options, train: one run, or the stages of the option file one after the other.

    Args:
        root_path: folder of `experiments/` and `tb_logger/`, default the checkout or working directory.
        argv: arguments, default those of the process.
    """
    started = time.monotonic()
    args = parse_command_line(__doc__, argv)
    from basicsr.config import load_stages
    stages = load_stages(args.opt, args.overrides, is_train=True, root=Path(root_path) if root_path else None,
                         debug=args.debug, auto_resume=args.auto_resume)
    # everything above takes no torch, so that mistakes in the options are reported at once
    from basicsr.engine.launch import unfinished
    from basicsr.engine.preflight import check_stages
    from basicsr.utils.dist import shutdown
    stages = unfinished(stages)
    check_stages(stages)
    for i, loaded in enumerate(stages):
        if not train(loaded, args.launcher, later=stages[i + 1:], started=started):
            break
    shutdown()


def train(loaded: LoadedOptions, launcher: str, callbacks: Sequence[Callback] = (), later: Sequence[LoadedOptions] = (),
          started: float | None = None) -> bool:
    """One run, from its options to its last weights. `callbacks` learn the results of validations and may end it.

    `later`: the stages that follow; what an earlier start left of them is archived. `started`: when the time of
    `train.time_limit` began, by `time.monotonic`, default now. Returns False when the run was
    interrupted by `train.time_limit` and is to be resumed.
    """
    from basicsr.data.build import build_train_data, build_val_data
    from basicsr.engine.launch import make_folders, open_log, start_run
    from basicsr.engine.preflight import check_channels
    from basicsr.engine.trainer import Trainer, find_resume_state
    from basicsr.models import build_model
    from basicsr.utils.dist import barrier
    from basicsr.utils.logger import close_log_file
    opt = start_run(loaded, launcher)
    resume = find_resume_state(opt)
    train_loader, sampler = build_train_data(opt)
    val_loaders = build_val_data(opt)
    check_channels(opt, [train_loader, *val_loaders])
    model = build_model(opt)
    if resume:
        model.load_resumed_networks(*resume)
    # last, so that a start that fails leaves earlier runs as they are
    make_folders(opt, resuming=resume is not None, later=later)
    open_log(opt, loaded)
    trainer = Trainer(opt, model, train_loader, sampler, val_loaders, resume[1] if resume else None, callbacks, started)
    ended = trainer.run()
    close_log_file()
    barrier()  # the next stage reads what this one wrote
    return ended


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: train_pipeline(argv=argv))


if __name__ == '__main__':
    sys.exit(main())

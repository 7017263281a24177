"""Train a network from an option file: python basicsr/train.py --opt Options/RetinexMamba_LOL_v1.yml"""
from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if sys.path and Path(sys.path[0] or '.').resolve() == ROOT / 'basicsr':
    sys.path[0] = str(ROOT)  # started as a script: import this checkout, whatever else is installed

from basicsr.config.command_line import check_key, parse_command_line
from basicsr.utils.errors import run_main, run_program


def train_pipeline(root_path: str | Path | None = None, argv: list[str] | None = None) -> None:
    """Read the command line, check the options, train: one run, or the stages of the option file one after the other.

    Args:
        root_path: folder of `experiments/` and `tb_logger/`, default the checkout or working directory.
        argv: arguments. Default: those of the process, which then is a program of its own, as BasicSR's projects are: a
            mistake ends it with a sentence and exit code 2.
    """
    run_program(lambda given: run(root_path, given), argv)


def run(root_path: str | Path | None, argv: list[str]) -> None:
    """`train_pipeline` for callers that handle mistakes themselves."""
    started = time.monotonic()
    args = parse_command_line(__doc__, argv)
    from basicsr.config import load_stages
    stages = load_stages(args.opt, args.overrides, is_train=True, root=Path(root_path) if root_path else None,
                         debug=args.debug, auto_resume=args.auto_resume)
    # everything above takes no torch, so that mistakes in the options are reported at once
    from basicsr.engine.checkpoint import Finished
    check_key(stages[0].opt['path'], args.key)
    from basicsr.training.launch import unfinished
    from basicsr.training.preflight import check_stages
    from basicsr.training.run import train
    from basicsr.utils.dist import shutdown
    try:
        stages = unfinished(stages)
        check_stages(stages)
        for i, loaded in enumerate(stages):
            if not train(loaded, args.launcher, later=stages[i + 1:], started=started):
                break
    except Finished as reason:
        sys.stderr.write(f'{reason}\n')
    shutdown()


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(None, sys.argv[1:] if argv is None else argv))


if __name__ == '__main__':
    sys.exit(main())

"""Train every variant of a study with several seeds and put the results into one table: ablate STUDY.yml --seeds 3"""
from __future__ import annotations

import argparse
from pathlib import Path

from basicsr.utils.errors import UserError, run_main


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('study', metavar='YAML', help='study file, e.g. Ablation_Model/retinexmamba.yml')
    parser.add_argument('--seeds', type=int, default=1, help='runs of each variant: manual_seed and those after it')
    parser.add_argument('--total_iter', type=int, help='iterations of each run; schedules shrink in proportion')
    parser.add_argument('--gpus', default='auto',
                        help="'0,2': one run on each at a time; 'cpu', or 'cpu,cpu' for two; auto: GPUs that are free")
    parser.add_argument('--root', metavar='DIR', help='folder of experiments/ and results/, default the checkout')
    parser.add_argument('--report_only', action='store_true', help='train nothing, write the tables from what is there')
    args = parser.parse_args(argv)
    for name in ('seeds', 'total_iter'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f'--{name} must be at least 1, not {getattr(args, name)}')
    return args


def run(argv: list[str] | None) -> int:
    args = parse(argv)
    from basicsr.ablation.study import read_study
    from basicsr.config import project_root
    root = Path(args.root).resolve() if args.root else project_root()
    study = read_study(args.study, args.seeds, args.total_iter, root)

    # everything above takes no torch, so that mistakes are reported at once
    from basicsr.ablation.conduct import conduct
    return conduct(study, args.gpus, args.report_only)


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(argv))

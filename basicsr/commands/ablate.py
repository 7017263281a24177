"""Train every variant of a study with several seeds and put the results into one table: ablate STUDY.yml --seeds 3"""
from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from basicsr.utils.errors import UserError, run_main


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('study', metavar='YAML', help='study file, e.g. Ablation_Model/retinexmamba.yml')
    parser.add_argument('--seeds', type=int, default=1, help='runs of each variant: manual_seed and those after it')
    parser.add_argument('--total_iter', type=int, help='iterations of each run; schedules shrink in proportion')
    parser.add_argument('--gpus', default='auto',
                        help="'0,2': one run on each at a time; 'cpu'; auto: those that are free")
    parser.add_argument('--root', metavar='DIR', help='folder of experiments/ and results/, default the checkout')
    parser.add_argument('--report_only', action='store_true', help='train nothing, write the tables from what is there')
    args = parser.parse_args(argv)
    for name in ('seeds', 'total_iter'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f'--{name} must be at least 1, not {getattr(args, name)}')
    return args


def run(argv: list[str] | None) -> int:
    args = parse(argv)
    from basicsr.commands.ablation_study import read_study
    from basicsr.config import project_root
    study = read_study(args.study, args.seeds, args.total_iter,
                       Path(args.root).resolve() if args.root else project_root())

    # everything above takes no torch, so that mistakes are reported at once
    from basicsr.commands.ablation_runs import choose_gpus, run_all
    gpus = choose_gpus(args.gpus)
    os.environ['CUDA_VISIBLE_DEVICES'] = gpus[0]  # of this process, which measures time at the end
    _build_networks(study)
    failures = {} if args.report_only else run_all(study.runs, gpus)

    from basicsr.commands.ablation_report import collect, show, write
    report = collect(study, _costs(study), failures)
    files = write(report, study.results)
    print(show(report))
    print('written: ' + ', '.join(map(str, files)))
    for row in report['variants']:
        for seed, reason in row['failed'].items():
            print(f"FAILED: {row['name']}, seed {seed}: {reason}")
    return 1 if failures else 0


def _build_networks(study) -> None:
    """Find arguments that a network refuses before anything is trained."""
    from basicsr.archs import build_network
    from basicsr.weights.semantic_prior import equip
    mistakes = []
    for variant, runs in study.by_variant().items():
        try:
            equip(build_network(runs[0].opt['network_g']))
        except UserError as error:
            mistakes.append(f"variant '{variant}': {error}")
    if mistakes:
        raise UserError('\n  '.join(['nothing was started:', *mistakes]))


def _costs(study) -> dict[str, dict]:
    """Costs by variant, one after the other now that nothing else runs. Measured once and kept in `costs.json`."""
    from basicsr.commands.ablation_costs import measure_costs
    from basicsr.utils.files import atomic_write
    file = study.results / 'costs.json'
    costs = json.loads(file.read_text(encoding='utf-8')) if file.is_file() else {}
    for variant, runs in study.by_variant().items():
        trained = [run for run in runs if run.weights.is_file()]
        if trained and variant not in costs:
            print(f'  measure {variant}', flush=True)
            costs[variant] = measure_costs(trained[0].opt, trained[0].weights)
            with atomic_write(file, 'w') as out:
                json.dump(costs, out, indent=2)
    return costs


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(argv))

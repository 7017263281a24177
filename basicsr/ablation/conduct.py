"""A study from its runs to its tables."""
from __future__ import annotations

import json
import os

from basicsr.ablation.costs import measure_costs
from basicsr.ablation.report import collect, show, write
from basicsr.ablation.runs import choose_gpus, run_all
from basicsr.ablation.study import OTHERWISE, Study
from basicsr.archs import build_network
from basicsr.data.build import build_val_data
from basicsr.registry import MODEL_REGISTRY
from basicsr.training.preflight import check_training_data, check_validation
from basicsr.utils.errors import UserError
from basicsr.utils.files import kept, write_json
from basicsr.utils.ownership import owned
from basicsr.weights.semantic_prior import equip


def conduct(study: Study, gpus: str, report_only: bool = False) -> int:
    """Train and evaluate what is left to do, measure costs, write the tables. Returns 1 when runs failed, else 0.

    `gpus`: see `choose_gpus`. `report_only`: train nothing. Raises `UserError` where another process is at the study.
    """
    chosen = choose_gpus(gpus)
    os.environ['CUDA_VISIBLE_DEVICES'] = chosen[0]  # of this process, which measures time at the end
    _check(study)
    with owned(study.results, archive=False, otherwise=OTHERWISE), kept(study.results):
        failures = {} if report_only else run_all(study.runs, chosen)
        report = collect(study, _costs(study), failures)
        files = write(report, study.results)
    print(show(report))
    print('written: ' + ', '.join(map(str, files)))
    for row in report['variants']:
        for seed, reason in row['failed'].items():
            print(f"FAILED: {row['name']}, seed {seed}: {reason}")
    return 1 if failures else 0


def _check(study: Study) -> None:
    """Find arguments that a network refuses, and images that cannot be used or measured, before anything is trained."""
    mistakes: list[str] = []
    seen = []
    for variant, runs in study.by_variant().items():
        opt = runs[0].opt
        try:
            equip(build_network(opt['network_g']))
            validation = [opt[key] for key in ('model_type', 'scale', 'datasets', 'val')]
            if validation not in seen:
                seen.append(validation)
                check_validation(opt, MODEL_REGISTRY.get(opt['model_type']), build_val_data(opt))
                check_training_data(opt['datasets']['train'])
        except UserError as error:
            mistakes.append(f"variant '{variant}': {error}")
    if mistakes:
        raise UserError('\n  '.join(['nothing was started:', *mistakes]))


def _costs(study: Study) -> dict[str, dict]:
    """Costs by variant, one after the other now that nothing else runs. Measured once and kept in `costs.json`."""
    file = study.results / 'costs.json'
    costs = json.loads(file.read_text(encoding='utf-8')) if file.is_file() else {}
    for variant, runs in study.by_variant().items():
        trained = [run for run in runs if run.weights.is_file()]
        if trained and variant not in costs:
            print(f'  measure {variant}', flush=True)
            costs[variant] = measure_costs(trained[0].opt, trained[0].weights)
            write_json(file, costs)
    return costs

"""What short trainings of `Ablation_Model/photos_recipe.yml` came to: the table of docs/recipes.md.

Held-out pairs of LOL-v1 plain and with GT-mean, and the photographs of benchmarks/photos.py.

    basicsr ablate Ablation_Model/photos_recipe.yml --seeds 2 --gpus cpu,cpu
    python benchmarks/recipes.py --measure    # every run that has ended
    python benchmarks/recipes.py              # the table of what was measured
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from common import ROOT
from photos import STOPS, by_weights, darkened, photographs, psnr

from basicsr.ablation.study import read_study
from basicsr.data import build_dataset
from basicsr.evaluation.data_sets import DataSet
from basicsr.evaluation.evaluate import Restored, evaluate, measure_all
from basicsr.evaluation.restoring import by_restorer
from basicsr.inference.build import build_restorer
from basicsr.metrics.gt_mean import match_mean
from basicsr.utils.files import write_json

STUDY, FOUND = ROOT / 'Ablation_Model' / 'photos_recipe.yml', ROOT / 'benchmarks' / 'results' / 'recipes.json'
METRICS = {
    name: {'type': f'calculate_{name}', 'protocol': 'retinexformer'} for name in ('psnr', 'ssim')
}  # yapf: disable


def of_run(weights: Path, block: dict[str, Any], key: str) -> dict[str, float]:
    """`block`: the data set with the held-out pairs. `key`: entry of the weights."""
    restorer = build_restorer(weights, key=key, device='cpu')
    data = DataSet(build_dataset(block), block)
    scaled: list[float] = []

    def watch(seen: Restored) -> None:
        assert seen.images.gt is not None
        result = match_mean(seen.images.result, seen.images.gt)
        scaled.append(measure_all(result, seen.images.gt, METRICS, restorer.device, seen.file)['psnr'])

    plain = evaluate(by_restorer(restorer), data.loader(), METRICS, device=restorer.device, watch=watch).means
    found = {'psnr': plain['psnr'], 'gt_mean': fmean(scaled), 'ssim': plain['ssim']}
    method, pictures = by_weights(str(weights), 1.), photographs().values()
    for stops in STOPS:
        dark = [darkened(img, stops) for img in pictures]
        results = [psnr(method(one), img) for one, img in zip(dark, pictures)]
        before = [psnr(one, img) if stops else 0. for one, img in zip(dark, pictures)]
        found[f'-{stops}' if stops else 'kept'] = fmean(results) - fmean(before)
    return found


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: the mean of the seeds, and PSNR of each."""
    head = '| recipe | PSNR | of each seed | GT-mean | SSIM | kept | at -1 stop | -2 | -3 | -4 |'
    lines = [head, '|---' * 10 + '|']
    for name in dict.fromkeys(row['recipe'] for row in rows):
        own = [row for row in rows if row['recipe'] == name]
        mean = {key: fmean(row[key] for row in own) for key in own[0] if key not in ('recipe', 'seed')}
        each = ', '.join(f"{row['psnr']:.2f}" for row in own)
        cells = [f"{mean['psnr']:.2f}", each, f"{mean['gt_mean']:.2f}", f"{mean['ssim']:.3f}"]
        cells += [f"{mean[key]:.1f}" for key in ('kept', '-1', '-2', '-3', '-4')]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def measure_ended(known: list[dict[str, Any]], seeds: int) -> None:
    """Add a row for every run that has ended and has none, and store it."""
    for run in read_study(STUDY, seeds, None, ROOT).runs:  # which writes the base of the study to results/
        if not run.metrics.is_file() or any((row['recipe'], row['seed']) == (run.variant, run.seed) for row in known):
            continue
        block, key = {**run.opt['datasets']['val']}, run.opt['path']['param_key_g']
        known.append({'recipe': run.variant, 'seed': run.seed, **of_run(run.weights, block, key)})
        write_json(FOUND, {'rows': known})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--measure', action='store_true', help='the runs of the study that have ended, first')
    parser.add_argument('--seeds', type=int, default=2)
    args = parser.parse_args()
    known = json.loads(FOUND.read_text())['rows'] if FOUND.is_file() else []
    if args.measure:
        measure_ended(known, args.seeds)
    print('\n'.join(table(known)))


if __name__ == '__main__':
    main()

"""Measure the weights of a finished run and ship them: publish_weights.py experiments/RUN --name NAME ...

Writes `pretrained_weights/NAME.safetensors`, its entry in the manifest, METRICS.md beside it, and its card below `cards/`.
Which weights of the run are shipped is never decided by the images that they are measured on.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from basicsr.config import load_options, load_stages
from basicsr.config.base import read_options
from basicsr.data import build_dataset
from basicsr.evaluation.data_sets import DataSet
from basicsr.inference.build import build_restorer
from basicsr.metrics.tasks import mean
from basicsr.publishing.candidates import check_held_out, choose, measure_both
from basicsr.publishing.finished_run import (
    distinct,
    effective_changes,
    find_candidates,
    option_file,
)
from basicsr.publishing.model_card import cards
from basicsr.publishing.shipped_weights import README_PROTOCOL, measured
from basicsr.utils.errors import UserError, nearest, run_main
from basicsr.utils.files import atomic_write
from basicsr.utils.pretrained import LIMIT, read_manifest
from basicsr.utils.weights import safetensors_bytes


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('run', metavar='RUN', help='folder of a finished run, experiments/<name>')
    parser.add_argument('--name', required=True, help='what the weights are called from now on')
    sentences = {
        'data': 'what they were trained on',
        'machine': 'what trained them',
        'licence': 'what may be done with them',
        'selection': 'how these weights of the run were chosen',
        'use': 'what they are for',
        'limits': 'what they do badly',
    }
    for flag, text in sentences.items():
        parser.add_argument(f'--{flag}', required=True, help=f'a sentence: {text}')
    parser.add_argument('--paper', nargs=4, metavar=('PSNR', 'SSIM', 'PARAMETERS', 'NETWORK'),
                        help='what a paper claims, and for which network of how many parameters')
    parser.add_argument('--ship', choices=['best-ema', 'best', 'last-ema', 'last'],
                        help='default: the best on the held-out images, their average where there is one')
    parser.add_argument('--dataset', default='test', metavar='KEY',
                        help='test set: a block below datasets; default test')
    parser.add_argument('--to', default=ROOT / 'pretrained_weights', type=Path, metavar='DIR',
                        help='the folder of weights; README.md and Options/ are beside it')
    parser.add_argument('--default', action='store_true', help='enhance takes these when it is given none')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1')
    parser.add_argument('overrides', nargs='*', metavar='path=value', help='e.g. datasets.test.dataroot_lq=...')
    return parser.parse_intermixed_args(argv)


def run(args: argparse.Namespace) -> None:
    # whatever can fail does so before the measuring
    manifest, paper = read_manifest(args.to), _paper(args.paper)
    if not re.fullmatch(r'[A-Za-z0-9][A-Za-z0-9_-]*', args.name):
        raise UserError(f"--name '{args.name}' must consist of letters, digits, '_' and '-'")
    source = option_file(Path(args.run))
    opt = load_options(source, args.overrides, is_train=False).opt
    options = _published_options(source, args.to.parent)
    if args.dataset not in opt['datasets']:
        raise UserError(f"--dataset: '{source}' has no data set '{args.dataset}'."
                        f"{nearest(args.dataset, opt['datasets'])} It has: {', '.join(opt['datasets'])}")
    block = opt['datasets'][args.dataset]
    candidates = find_candidates(Path(args.run))
    entry = choose(args.ship, candidates)
    check_held_out(Path(args.run), opt, args.dataset)
    shipped = candidates[entry]
    data = safetensors_bytes(shipped.state, shipped.network, name=args.name, licence=args.licence)
    if len(data) >= LIMIT:
        raise UserError(f"the weights take {len(data):,d} bytes; what comes with the project stays below {LIMIT:,d}")
    dataset, metrics, per_image = build_dataset(block), {}, {}
    for label, candidate in distinct(candidates, entry).items():
        restorer = build_restorer(candidate.file, opt, candidate.key, args.device)
        rows = measure_both(restorer, DataSet(dataset, block), label)
        means = {kind: _rounded(mean(row[kind] for row in rows.values())) for kind in ('plain', 'GT-mean')}
        metrics[label] = {'iterations': candidate.iterations, **means}
        print(f'{label}, {candidate.iterations} iterations, {len(rows)} images of {block["name"]}:',
              *(f'{kind} {means[kind][f"psnr {README_PROTOCOL}"]:.2f} dB' for kind in means))
        if label == entry:
            per_image = _rounded({name: row['plain'][f'psnr {README_PROTOCOL}'] for name, row in rows.items()})
            parameters = sum(p.numel() for p in restorer.net.parameters())
    manifest['weights'][args.name] = {
        'file': f'{args.name}.safetensors',
        'sha256': hashlib.sha256(data).hexdigest(),
        'bytes': len(data),
        'network': shipped.network,
        'parameters': parameters,
        'options': options,
        'changes': effective_changes(Path(args.run), source),
        'data': args.data,
        'selection': args.selection,
        'iterations': shipped.iterations,
        'machine': args.machine,
        'entry': entry,
        'metrics': {
            'dataset': block['name'], 'block': args.dataset, 'images': len(dataset), 'candidates': metrics,
            'per_image': per_image
        },
        'paper': paper,
        'use': args.use,
        'limits': args.limits,
        'licence': args.licence,
    }
    if args.default or manifest['default'] is None:
        manifest['default'] = args.name
    with atomic_write(args.to / f'{args.name}.safetensors') as file:
        file.write(data)
    with atomic_write(args.to / 'manifest.json', 'w') as file:
        file.write(json.dumps(manifest, indent=2, ensure_ascii=False) + '\n')
    with atomic_write(args.to / 'METRICS.md', 'w') as file:
        file.write(measured(manifest))
    (args.to / 'cards').mkdir(exist_ok=True)
    for name, text in cards(manifest).items():
        with atomic_write(args.to / 'cards' / f'{name}.md', 'w') as file:
            file.write(text)
    print(f"{args.name}: '{entry}' of {args.run}, {len(data):,d} bytes, is in {args.to}; METRICS.md shows it")


def _published_options(source: Path, root: Path) -> str:
    """The option file as others find it, below the folder of the README."""
    ours = root / 'Options' / source.name
    if not ours.is_file():
        raise UserError(f"'{ours}' is missing: put the option file there, so that others can train these weights")
    # in the same words or, where one leaves to a base or a default what the other says, with the same effect
    if all(read(ours) != read(source) for read in (_written, _effective)):
        raise UserError(f"'{ours}' says something else than '{source}', which trained these weights")
    return ours.relative_to(root).as_posix()


def _written(file: Path) -> dict[str, Any]:
    return read_options(file)[0]


def _effective(file: Path) -> list[dict[str, Any]]:
    return [run.opt for run in load_stages(file, is_train=True, check_files=False)]


def _paper(given: list[str] | None) -> dict[str, Any] | None:
    if not given:
        return None
    psnr, ssim, parameters, source = given
    try:
        return {'psnr': float(psnr), 'ssim': float(ssim), 'parameters': parameters, 'source': source}
    except ValueError:
        raise UserError(f'--paper wants two numbers before the words, not {psnr} {ssim}') from None


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in values.items()}


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))


if __name__ == '__main__':
    sys.exit(main())

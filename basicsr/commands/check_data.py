"""Check the data of an option file before training: pairs, sizes, damaged files. basicsr check-data --opt X.yml"""
from __future__ import annotations

import argparse
import sys
from collections import Counter

from basicsr.utils.errors import UserError, counted, run_main


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--opt', '-opt', required=True, metavar='YAML')
    parser.add_argument('overrides', nargs='*', metavar='path=value')
    return parser.parse_intermixed_args(argv)


def run(args: argparse.Namespace) -> int:
    from basicsr.config import load_stages
    stages = load_stages(args.opt, args.overrides, is_train=None)
    seen, mistakes = [], []
    for stage in stages:
        blocks = {key: block for key, block in stage.opt['datasets'].items() if block not in seen}
        seen += blocks.values()
        if len(stages) > 1 and blocks:
            print(f"stage '{stage.opt['name']}':")
        found = []
        for key, block in blocks.items():
            try:
                found += _check(key, block)
            except UserError as error:
                found.append(str(error))
        mistakes += [f"stage '{stage.opt['name']}': {text}" if len(stages) > 1 else text for text in found]
    for text in mistakes:
        sys.stderr.write(f'error: {text}\n')
    return 2 if mistakes else 0


def _check(key: str, block: dict) -> list[str]:
    """Read every sample of a block once, whole; print a summary and return the mistakes."""
    from tqdm import tqdm

    from basicsr.data import build_dataset
    from basicsr.data.loader import Failed, SeededSamples
    from basicsr.data.protocol import about
    from basicsr.data.task_samples import Incomplete
    mistakes = []
    try:
        dataset = build_dataset(block | _whole_images(block))
    except Incomplete as error:  # what pairs is read all the same
        dataset = error.dataset
        mistakes.append(f'datasets.{key}: {dataset.mistakes(limit=None)}')
    absent, summary = about(dataset).absent(), about(dataset).summary()
    if summary and not mistakes:
        print(f'datasets.{key}:\n{summary}')
    dataset = SeededSamples(about(dataset).stored(), block)
    sizes: Counter[str] = Counter()
    for i in tqdm(range(len(dataset)), desc=key, unit='sample', disable=not sys.stderr.isatty()):
        sample = dataset[i]
        if isinstance(sample, Failed):
            mistakes.append(f'datasets.{key}: {sample.message}')
            continue
        h, w = sample['lq'].shape[-2:]
        sizes[f'{w}x{h}'] += 1
        if 'gt' in sample and sample['gt'].shape[-2:] != (h * block['scale'], w * block['scale']):
            mistakes.append(
                f"datasets.{key}: '{sample['gt_path']}' does not have the size of its input times the scale")
    common = ', '.join(f'{size} ({count})' for size, count in sizes.most_common(4))
    print(f"datasets.{key} ({block['type']}): {counted(len(dataset), 'sample')}, {counted(len(mistakes), 'mistake')};"
          f' sizes: {common}')
    if absent:
        print(f"datasets.{key}: {counted(len(absent), 'folder')} of the published data not there:"
              f" {', '.join(map(repr, absent))}")
    return mistakes


def _whole_images(block: dict) -> dict:
    """Changes to a block for samples as they are stored: training pairs uncropped and, unlike test pairs, untrimmed."""
    from basicsr.config.signatures import read_signature
    from basicsr.registry import DATASET_REGISTRY
    if block['phase'] != 'train' or read_signature(DATASET_REGISTRY.index()[block['type']]).takes_opt:
        return {'phase': 'test'}
    return {'gt_size': None, 'use_hflip': False, 'use_rot': False, 'geometric_augs': False}


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return run_main(lambda: run(args))

"""Checking data before training: pairs, sizes, damaged files."""
from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from basicsr.config import LoadedOptions
from basicsr.config.signatures import signature_of
from basicsr.data import build_dataset
from basicsr.data.loader import Failed, SeededSamples
from basicsr.data.pairing import file_of, is_its_own_truth
from basicsr.data.protocol import about
from basicsr.data.task_samples import Incomplete
from basicsr.metrics import is_measured, needs_gt, too_small
from basicsr.registry import DATASET_REGISTRY
from basicsr.utils.errors import UserError, counted, describe_os_error
from basicsr.utils.notes import Note, collect_notes


def check_data(stages: Sequence[LoadedOptions]) -> list[str]:
    """Read every data set of the runs of an option file once, print what is there, and return what is wrong."""
    seen: list[Any] = []
    mistakes: list[str] = []
    for stage in stages:
        blocks = {key: block for key, block in stage.opt['datasets'].items() if block not in seen}
        seen += blocks.values()
        if len(stages) > 1 and blocks:
            print(f"stage '{stage.opt['name']}':")
        found = []
        for key, block in blocks.items():
            try:
                with stage.naming_places():
                    found += _check(key, block, stage.opt['val']['metrics'])
            except UserError as error:
                found += [str(error), *error.details]
            except OSError as error:
                found.append(f'datasets.{key}: {describe_os_error(error)}')
        mistakes += [f"stage '{stage.opt['name']}': {text}" if len(stages) > 1 else text for text in found]
    return mistakes


def _check(key: str, block: dict, metrics: dict[str, dict]) -> list[str]:
    """Read every sample of a block once, whole; print a summary and return the mistakes.

    `metrics`: what measures the results of all blocks but those that are trained on.
    """
    mistakes: list[str] = []
    remarks: list[str] = []

    def take(notes: list[Note]) -> None:
        mistakes.extend(f'datasets.{key}: {text}' for text, doubtful in notes if doubtful)
        remarks.extend(text for text, doubtful in notes if not doubtful)

    with collect_notes() as notes:
        try:
            dataset = build_dataset(block | _whole_images(block))
        except Incomplete as error:  # what pairs is read all the same
            dataset = error.dataset
            mistakes += [f'datasets.{key}: {dataset.mistakes()}', *error.details]
        except UserError as error:
            error.details += tuple(text for text, _ in notes)  # such as links whose file is missing
            raise
    take(notes)
    absent, summary = about(dataset).absent(), about(dataset).summary()
    if summary and not mistakes:  # several tasks, whose images an epoch repeats
        print(f'datasets.{key}:\n{summary}')
    dataset = SeededSamples(about(dataset).stored(), block)
    sizes: Counter[str] = Counter()
    same = 0
    for i in tqdm(range(len(dataset)), desc=key, unit='sample', disable=not sys.stderr.isatty()):
        with collect_notes() as notes:
            sample = dataset[i]
        take(notes)
        if isinstance(sample, Failed):
            mistakes.append(f'datasets.{key}: {sample.message}')
            continue
        same += is_its_own_truth(sample, block)
        h, w = sample['lq'].shape[-2:]
        sizes[f'{w}x{h}'] += 1
        if 'gt' in sample and sample['gt'].shape[-2:] != (h * block['scale'], w * block['scale']):
            mistakes.append(
                f"datasets.{key}: '{file_of(sample, block, 'gt')}' does not have the size of its input times the scale")
        size = h * block['scale'], w * block['scale']
        small = [] if block['phase'] == 'train' else [
            label for label, metric in metrics.items()
            if ('gt' in sample or not needs_gt(metric)) and not is_measured(size, metric)
        ]
        if small:
            mistakes.append(
                f"datasets.{key}: '{file_of(sample, block)}' {too_small(size, metrics, small, block['scale'])}")
    common = ', '.join(f'{size} ({count})' for size, count in sizes.most_common(4))
    print(f"datasets.{key} ({block['type']}): {counted(len(dataset), 'sample')}, {counted(len(mistakes), 'mistake')};"
          f' sizes: {common}')
    for text in dict.fromkeys(remarks):
        print(f'datasets.{key}: {text}')
    if same:
        print(f'datasets.{key}: {counted(same, "input")} of {len(dataset)} and the ground truth are the same file')
    if absent:
        print(f"datasets.{key}: {counted(len(absent), 'folder')} of the published data not there:"
              f" {', '.join(map(repr, absent))}")
    return mistakes


def _whole_images(block: dict) -> dict:
    """Changes to a block for samples as they are stored: training pairs uncropped and, unlike test pairs, untrimmed."""
    if block['phase'] != 'train' or signature_of(DATASET_REGISTRY, block['type']).takes_opt:
        return {'phase': 'test'}
    return {'gt_size': None, 'use_hflip': False, 'use_rot': False, 'geometric_augs': False}

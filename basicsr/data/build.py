"""Loaders of a run from its `datasets` block."""
from __future__ import annotations

from typing import Any

import torch

from basicsr.data import build_dataset
from basicsr.data.loader import ImageLoader, build_dataloader
from basicsr.data.protocol import about
from basicsr.data.resident_loader import ResidentLoader
from basicsr.data.samplers import EnlargedSampler
from basicsr.utils.errors import counted
from basicsr.utils.logger import get_root_logger


def build_train_data(opt: dict[str, Any]) -> tuple[ImageLoader | ResidentLoader, EnlargedSampler]:
    """The training loader and its sampler."""
    block = opt['datasets']['train']
    dataset = build_dataset(block)
    per_process = block['batch_size_per_gpu'] * (1 if opt['dist'] else max(opt['num_gpu'], 1))
    sampler = EnlargedSampler(dataset, opt['world_size'], opt['rank'], block.get('dataset_enlarge_ratio', 1),
                              opt['manual_seed'], at_least=per_process)
    if block.get('cache') == 'device':
        device = torch.device('cuda' if opt['num_gpu'] != 0 else 'cpu')
        loader: ImageLoader | ResidentLoader = ResidentLoader(dataset, block, sampler, per_process, device)
    else:
        loader = build_dataloader(dataset, block, opt['num_gpu'], opt['dist'], sampler, opt['manual_seed'])
    note = '' if len(dataset) >= per_process else f' (repeated: fewer than a batch of {per_process})'
    get_root_logger().info(
        f"Training set '{block['name']}': {len(dataset)} samples{note}, {len(loader)} iterations an epoch,"
        f" {opt['train']['total_iter']} in all{_summary(dataset)}")
    absent = about(dataset).absent()
    if absent:
        get_root_logger().warning(f"Training set '{block['name']}' goes without {counted(len(absent), 'folder')} of the"
                                  f" published data: {', '.join(map(repr, absent))}")
    return loader, sampler


def build_val_data(opt: dict[str, Any]) -> list[ImageLoader]:
    """Loaders of all `val*` and, except in training, `test*` blocks, in the order of their names.

    What is measured in training chooses the weights, so it is not what they are tested on in the end.
    """
    loaders = []
    for key in sorted(opt['datasets']):
        block = opt['datasets'][key]
        if block['phase'] in ('train', 'test' if opt['is_train'] else None):
            continue
        dataset = build_dataset(block)
        get_root_logger().info(
            f"Number of {block['phase']} images in '{block['name']}': {len(dataset)}{_summary(dataset)}")
        loaders.append(build_dataloader(dataset, block))
    return loaders


def _summary(dataset: Any) -> str:
    """What a dataset of several tasks says about each of them, on lines of its own."""
    text = about(dataset).summary()
    return f'\n{text}' if text else ''

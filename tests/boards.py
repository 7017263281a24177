"""Small boards: weight files of tiny networks, a data set of four pairs, what a command found."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from basicsr.archs import build_network
from basicsr.utils.weights import save_weights

FOREIGN = """
import torch
from torch import nn
from basicsr.utils.registry import ARCH_REGISTRY

@ARCH_REGISTRY.register()
class Foreign(nn.Module):
    def __init__(self, gain: float = 2.0):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x):
        return x * self.gain
"""
PLAIN = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}


def save_network(file: Path, network: dict[str, Any], seed: int = 0) -> None:
    torch.manual_seed(seed)
    save_weights(file, {'params': build_network(network).state_dict(), 'network_g': network})


def write_nets(folder: Path) -> Path:
    """Weight files of two small networks, and of one that is described beside the board alone."""
    save_network(folder / 'plain.pth', PLAIN)
    save_network(folder / 'cidnet.pth', {'type': 'CIDNet', 'channels': [4, 4, 8, 16]})
    (folder / 'foreign_arch.py').write_text(FOREIGN)
    save_weights(folder / 'foreign.pth', {'params': {'gain': torch.tensor(3.)}, 'network_g': {'type': 'Foreign'}})
    return folder


def writer(folder: Path, pairs: Path) -> Callable[..., str]:
    """Writes `board.yml` in the folder, with these rows and changes."""

    def write(*rows: dict[str, Any], **changes: Any) -> str:
        content = {
            'name': 'small', 'data': {
                'type': 'PairedImageDataset', 'dataroot_lq': str(pairs / 'input'), 'dataroot_gt': str(pairs / 'target')
            }, 'rows': list(rows)
        } | changes
        (folder / 'board.yml').write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
        return str(folder / 'board.yml')

    return write


def dark_folders(root: Path, *names: str) -> dict[str, Any]:
    """A data set without ground truth, two pictures in each folder."""
    rng = np.random.RandomState(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(2):
            cv2.imwrite(str(root / name / f'{i}.png'), rng.randint(0, 90, (200, 210, 3)).astype(np.uint8))
    return {'type': 'SingleImageDataset', 'dataroot_lq': str(root), 'recursive': True}


def results(folder: Path, name: str = 'small') -> Path:
    return folder / 'results' / 'benchmarks' / name


def found(folder: Path, name: str = 'small') -> dict[str, dict[str, Any]]:
    """The rows of a report by name."""
    report = json.loads((results(folder, name) / 'board.json').read_text())
    return {row['name']: row for row in report['rows']}

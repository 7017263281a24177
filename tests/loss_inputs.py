"""What the tests of the losses compare: pictures, and small weight files in torchvision's layout."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from basicsr.losses import vgg


def images(height: int = 24, width: int = 20, channels: int = 3, batch: int = 2, seed: int = 0) -> list[torch.Tensor]:
    """A smooth picture with noise, and another noisy version of it, float64 in [0, 1]."""
    rng = np.random.RandomState(seed)
    base = ndimage.gaussian_filter(rng.rand(batch, channels, height, width), (0, 0, 2, 2))
    base = (base - base.min()) / (base.max() - base.min())
    return [torch.from_numpy(np.clip(base + rng.randn(*base.shape) * s, 0, 1)) for s in (0.1, 0.02)]


def vgg_file(path: Path, vgg_type: str = 'vgg19', convs: int = 2, prefix: str = 'features.') -> Path:
    """Random weights of the first convolutions in torchvision's layout."""
    generator, state, channels = torch.Generator().manual_seed(0), {}, 3
    wanted = [(i, n) for i, n in enumerate(vgg.layer_names(vgg_type)) if n.startswith('conv')][:convs]
    for i, name in wanted:
        width = min(64 * 2**(int(name[4]) - 1), 512)
        weight = torch.randn(width, channels, 3, 3, generator=generator) / (channels * 9)**0.5
        state |= {f'{prefix}{i}.weight': weight, f'{prefix}{i}.bias': torch.randn(width, generator=generator) / 10}
        channels = width
    torch.save(state, path)
    return path

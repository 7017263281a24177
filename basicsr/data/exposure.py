"""A well-exposed picture as a camera would have taken it with less light: inputs that are made from ground truths.

Pairs of one data set teach how dark that data set is. A network that has seen nothing else brightens everything by as much.
Beside them, inputs of every exposure teach it to look first, and pictures that are left as they are, to leave them so.

With `v` the encoded picture in [0, 1], `s` stops (at most 0) and a gain `g` for each channel::

    L = EOTF(v)                                       linear light, 1 = white
    k = 2**s g                                        the share of the light that is kept
    D = k L + sqrt(k (1 - k) L / full_well + (1 - k**2) (read_noise / full_well)**2) n,     n ~ Normal(0, 1)
    out = round(EOTF^-1(clip(D, 0, 1)))               in the depth of the picture

The ground truth is a photograph itself: of its electrons a share k is kept at random (shot noise, by its normal
approximation), and of its read-out noise the share k is there already. What is added is the rest, so that at 0 stops
nothing is: the input equals the ground truth. The gains are the error of a white balance, which grows with the darkness:
log g ~ Normal(0, white_balance |s|).
"""
from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from basicsr.utils.srgb import srgb_to_linear
from basicsr.utils.values import ExposureAugs


class Exposure(NamedTuple):
    """How one picture is taken again.

    `kept`: share of the light for each channel, in the order of the picture's; `full_well`: electrons at its white;
    `read_noise`: electrons, standard deviation; `noise`: (H, W, 3), standard normal.
    """
    kept: tuple[float, float, float]
    full_well: float
    read_noise: float
    noise: Tensor


def draw_exposure(options: ExposureAugs, height: int, width: int) -> Exposure | None:
    """The next sample's exposure, by Python's `random` and torch; None for the pair as it is."""
    if random.random() >= options.probability:
        return None
    darkest, brightest = options.stops
    stops = 0. if random.random() < options.untouched else random.uniform(darkest, brightest)
    gains = [2**(stops + random.gauss(0, options.white_balance * abs(stops)) / math.log(2)) for _ in range(3)]
    full_well = math.exp(random.uniform(*map(math.log, options.full_well)))
    noise = torch.randn(height, width, 3)
    return Exposure((gains[0], gains[1], gains[2]), full_well, random.uniform(*options.read_noise), noise)


def expose(levels: Tensor, exposures: Sequence[Exposure], peak: int = 255) -> Tensor:
    """Take pictures again; on every device with the same result, bit for bit.

    Args:
        levels: encoded pictures (B, H, W, 3), whole numbers of any type from 0 to `peak`.
        exposures: one for each.
        peak: 255 or 65535.

    Returns:
        Tensor of the same shape and device, int64.
    """
    light, steps = _tables(peak, levels.device)
    numbers = torch.tensor([[*e.kept, e.full_well, e.read_noise] for e in exposures], dtype=torch.float64)
    kept, full_well, read_noise = numbers.split([3, 1, 1], dim=1)
    lost = (1 - kept).clamp(min=0)
    variances = kept * lost / full_well, (1 - kept**2).clamp(min=0) * (read_noise / full_well)**2
    factors = torch.stack([kept, *variances]).float()[:, :, None, None]
    noise = torch.stack([e.noise for e in exposures])
    if levels.is_cuda:  # the host goes on
        factors, noise = (t.pin_memory().to(levels.device, non_blocking=True) for t in (factors, noise))
    gain, shot, read = factors
    pictures = light[levels.long().contiguous()]
    return torch.bucketize(pictures * gain + noise * (pictures * shot + read).sqrt(), steps, right=True)


def exposed(picture: np.ndarray, exposure: Exposure) -> np.ndarray:
    """One picture (H, W, 3), uint8 or uint16; a new one of its type."""
    levels = torch.from_numpy(picture.astype(np.int64))[None]
    return expose(levels, [exposure], np.iinfo(picture.dtype).max)[0].numpy().astype(picture.dtype)


@cache
def _tables(peak: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Linear light of every level, and where one level ends and the next begins."""
    levels = np.arange(peak + 1)
    both: Any = (srgb_to_linear(levels / peak), srgb_to_linear((levels[1:] - 0.5) / peak))
    light, steps = (torch.from_numpy(values.astype(np.float32)).to(device) for values in both)
    return light, steps

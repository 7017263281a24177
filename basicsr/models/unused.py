"""Parameters that a network never uses, which processes that exchange gradients have to know of."""
from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from basicsr.archs import describe
from basicsr.inference.program import random_inputs
from basicsr.utils.seed import undrawn


def has_unused(net: nn.Module, options: Mapping[str, Any]) -> bool:
    """Whether a parameter of a network gets no gradient from its images: tried with a small random one.

    Some published networks carry a part whose result nothing reads. False as well where the network takes other inputs
    than images, such as a discriminator of one size.

    Args:
        net: on its device, not wrapped. options: `{type, **arguments}` of it.
    """
    trained = [p for p in net.parameters() if p.requires_grad]
    try:
        with undrawn(), torch.enable_grad():
            tried = copy.deepcopy(net)  # its buffers may change
            side = max(32, 2 * describe(net).multiple)
            device = trained[0].device
            output = tried(*(each.to(device) for each in random_inputs(net, dict(options), side, side, seed=0)))
            outputs = output if isinstance(output, (list, tuple)) else [output]
            total = torch.stack([each.float().mean() for each in outputs]).sum()
            mine = [p for p in tried.parameters() if p.requires_grad]
            return any(g is None for g in torch.autograd.grad(total, mine, allow_unused=True))
    except Exception:  # a network of others may ask for anything
        return False

"""The four orders in which a pixel grid is read (VMamba's cross-scan)."""
from __future__ import annotations

import torch
from torch import Tensor


def traversals(height: int, width: int, device: torch.device | str = 'cpu') -> Tensor:
    """(4, height * width) row-major pixel indices: by rows, by columns, and the reverse of both."""
    rows = torch.arange(height * width, device=device)
    columns = rows.view(height, width).t().flatten()
    return torch.stack([rows, columns, rows.flip(0), columns.flip(0)])

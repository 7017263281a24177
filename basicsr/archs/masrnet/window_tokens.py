"""Tokens of the windows of an image, and what routers and attention need of them (MASR-Net)."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from basicsr.archs.layers.gelu import GELU, gelu
from basicsr.archs.layers.whole_image import ImageGroupNorm

NEIGHBOURS = (0, 1, 2, 3, 5, 6, 7, 8)  # of the 3 x 3 windows in raster order, all but the middle


class FeatureExtractor(nn.Module):
    """Features of patches of r x r pixels, grouped by window: (B, 3, H, W) to (B, windows, tokens, D), row by row."""

    def __init__(self, in_channels: int, stem_dim: int, dim: int, patch_size: int, win_size: int):
        super().__init__()
        self.win_size = win_size
        local = nn.Conv2d(in_channels, stem_dim, 3, padding=1)
        self.local_feature = nn.Sequential(local, GELU())
        self.patch_embed = nn.Conv2d(stem_dim, dim, patch_size, stride=patch_size)
        mix = nn.Conv2d(dim, dim, 1)
        self.enhance = nn.Sequential(ImageGroupNorm(8, dim), GELU(), mix)
        for conv in (local, self.patch_embed, mix):
            normal(conv, conv.weight[0].numel()**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        x, s = self.enhance(self.patch_embed(self.local_feature(x))), self.win_size
        windows = x.unflatten(3, (-1, s)).unflatten(2, (-1, s)).permute(0, 2, 4, 3, 5, 1)
        return windows.flatten(3, 4).flatten(1, 2)


class EmbeddingGenerator(nn.Module):
    """One vector for each window, from the mean of its tokens: (B, W, S, D) to (B, W, D)."""

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.layer_norm = nn.LayerNorm(dim)
        self.fc1, self.fc2, self.fc_out = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.fc1, self.fc2):
            normal(layer, (1.7 / layer.in_features)**0.5)
        normal(self.fc_out, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = gelu(self.dropout(self.fc1(self.layer_norm(x))))
        return self.fc_out(gelu(self.dropout(self.fc2(x))).mean(dim=2))


class RouterVectors(nn.Module):
    """A query for each window and one key for each expert: (B, W, D) to (B, W, 1, D) and (B, W, E, D)."""

    def __init__(self, dim: int, experts: int, dropout: float):
        super().__init__()
        self.k_combined, self.q_projection = nn.Linear(dim, experts * dim), nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        for layer, scale in ((self.k_combined, 1.), (self.q_projection, 0.8)):
            nn.init.trunc_normal_(layer.weight, std=scale * dim**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(x)
        keys = self.dropout(self.k_combined(x)).unflatten(-1, (-1, x.shape[-1]))
        return self.dropout(self.q_projection(x)).unsqueeze(2), keys


class ContentKeyValue(nn.Module):
    """Keys and values of the features: (B, W, S, D) to two of the same."""

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.kv_projection = nn.Linear(dim, 2 * dim)
        self.dropout = nn.Dropout(dropout)
        normal(self.kv_projection, dim**-0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        key, value = self.dropout(self.kv_projection(x)).chunk(2, dim=-1)
        return key, value


class NeighbourSearcher(nn.Module):
    """The tokens of the eight windows around each: (B, h + 2, w + 2, T, C) to (B, h * w, 8 T, C), index 8 t + neighbour.

    The buffer is that of published checkpoints; nothing reads it.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer('neighbor_indices', torch.tensor(NEIGHBOURS))

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[1] - 2, x.shape[2] - 2
        shifted = [x[:, i // 3:i // 3 + h, i % 3:i % 3 + w] for i in NEIGHBOURS]
        return torch.stack(shifted, dim=4).flatten(3, 4).flatten(1, 2)


def normal(layer: nn.Linear | nn.Conv2d, std: float, bias: float = 0.) -> None:
    """Gaussian initial values, a constant bias."""
    nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, bias)

"""Retinex illumination estimator (Retinexformer, Cai et al. 2023, eq. 3)."""
from __future__ import annotations

import torch
from torch import Tensor, nn


class IlluminationEstimator(nn.Module):
    """Estimates illumination features and a light-up map from an image and its channel mean; no activations.

    The 5x5 convolution is called `depth_conv` but has four groups, in code and checkpoints alike.
    """

    def __init__(self, n_fea_middle: int, n_fea_in: int = 4, n_fea_out: int = 3):
        super().__init__()
        self.conv1 = nn.Conv2d(n_fea_in, n_fea_middle, 1)
        self.depth_conv = nn.Conv2d(n_fea_middle, n_fea_middle, 5, padding=2, groups=n_fea_in)
        self.conv2 = nn.Conv2d(n_fea_middle, n_fea_out, 1)

    def forward(self, img: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) to features (B, n_fea_middle, H, W) and map (B, 3, H, W)."""
        # one channel has no memory format, so `cat` forgets that of the image
        x = torch.cat([img, img.mean(dim=1, keepdim=True)], dim=1).contiguous(memory_format=torch.channels_last)
        features = self.depth_conv(self.conv1(x))
        return features, self.conv2(features)

"""Retinex illumination estimator (Retinexformer, Cai et al. 2023, eq. 3)."""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.layers.full_precision import exact, lowered


class IlluminationEstimator(nn.Module):
    """Estimates illumination features and a light-up map from an image and its channel mean; no activations.

    The 5x5 convolution is called `depth_conv` but has four groups, in code and checkpoints alike.

    Without activations all three convolutions are one, 5x5 from the image to features and map. A plane of ones beside the
    image carries the biases: those of the first convolution are missing where the second one pads with zeros. Under
    autocast it stays in float32, because everything after it depends on the map.
    """

    def __init__(self, n_fea_middle: int, n_fea_in: int = 4, n_fea_out: int = 3):
        super().__init__()
        self.conv1 = nn.Conv2d(n_fea_in, n_fea_middle, 1)
        self.depth_conv = nn.Conv2d(n_fea_middle, n_fea_middle, 5, padding=2, groups=n_fea_in)
        self.conv2 = nn.Conv2d(n_fea_middle, n_fea_out, 1)

    def forward(self, img: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W), channels-last in memory, to features (B, n_fea_middle, H, W) and map (B, 3, H, W)."""
        with exact(img):
            mean = img.mean(dim=1, keepdim=True)
            # one channel has no memory format, so `cat` forgets that of the image
            x = torch.cat([img, mean, torch.ones_like(mean)], dim=1).contiguous(memory_format=torch.channels_last)
            out = F.conv2d(x, self.weight(), padding=2)
        features, light_map = out.split([self.conv1.out_channels, self.conv2.out_channels], dim=1)
        if not torch.is_grad_enabled():  # a slice would keep all features in memory while the network works
            light_map = light_map.contiguous(memory_format=torch.channels_last)
        return lowered(features).contiguous(memory_format=torch.channels_last), light_map

    def weight(self) -> Tensor:
        """Of the one convolution."""
        biases: list[Any] = [conv.bias for conv in (self.conv1, self.depth_conv, self.conv2)]  # which all have one
        groups, n = self.depth_conv.groups, self.conv1.out_channels
        first = torch.cat([self.conv1.weight.flatten(1), biases[0][:, None]], dim=1)
        taps = self.depth_conv.weight.permute(0, 2, 3, 1).reshape(groups, -1, n // groups)
        features = torch.bmm(taps, first.unflatten(0, (groups, -1))).view(n, -1)
        # the ones of a pixel's own place are there whatever lies around it: the last of the middle tap's inputs
        place = 13 * first.shape[1] - 1
        ones = F.pad(first.new_ones(1), (place, features.shape[1] - place - 1))
        features = torch.addr(features, biases[1], ones)
        light_map = torch.addr(self.conv2.weight.flatten(1) @ features, biases[2], ones)
        return torch.cat([features, light_map]).unflatten(1, (5, 5, -1)).permute(0, 3, 1, 2)

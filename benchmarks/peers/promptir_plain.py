"""PromptIR (Potlapalli et al. 2023, arXiv 2306.13090) structured as published; names of its checkpoints.

A peer to measure against, of the plain Restormer's parts.
"""
from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'tests'))  # where the plain Restormer is
from plain_networks import Block, rescale


class Prompt(nn.Module):
    """Five learned maps, each repeated for every image, weighed, summed and stretched."""

    def __init__(self, width: int, size: int, features: int):
        super().__init__()
        self.prompt_param = nn.Parameter(torch.rand(1, 5, width, size, size))
        self.linear_layer = nn.Linear(features, 5)
        self.conv3x3 = nn.Conv2d(width, width, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.linear_layer(x.mean((-2, -1))).softmax(1)
        maps = self.prompt_param.unsqueeze(0).repeat(x.shape[0], 1, 1, 1, 1, 1).squeeze(1)
        prompt = (weights[:, :, None, None, None] * maps).sum(1)
        return self.conv3x3(F.interpolate(prompt, x.shape[-2:], mode='bilinear'))


class PromptIR(nn.Module):
    """The defaults are the published options: 35,592,263 parameters. Sides are multiples of 8."""

    def __init__(self, num_blocks: tuple[int, ...] = (4, 6, 6, 8), num_refinement_blocks: int = 4,
                 heads: tuple[int, ...] = (1, 2, 4, 8)):
        super().__init__()
        dim = 48

        def block(width: int, head_count: int) -> nn.Module:
            return Block(width, head_count, 2.66, False, True)

        def level(width: int, count: int, head_count: int) -> nn.Sequential:
            return nn.Sequential(*(block(width, head_count) for _ in range(count)))

        def conv(channels: int, out: int) -> nn.Conv2d:
            return nn.Conv2d(channels, out, 1, bias=False)

        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, dim, 3, 1, 1, bias=False)
        self.prompt1, self.prompt2, self.prompt3 = Prompt(64, 64, 96), Prompt(128, 32, 192), Prompt(320, 16, 384)
        self.chnl_reduce1, self.chnl_reduce2, self.chnl_reduce3 = conv(64, 64), conv(128, 128), conv(320, 256)
        self.reduce_noise_channel_1, self.reduce_noise_channel_2 = conv(dim + 64, dim), conv(2 * dim + 128, 2 * dim)
        self.reduce_noise_channel_3 = conv(4 * dim + 256, 4 * dim)
        self.encoder_level1 = level(dim, num_blocks[0], heads[0])
        self.encoder_level2 = level(2 * dim, num_blocks[1], heads[1])
        self.encoder_level3 = level(4 * dim, num_blocks[2], heads[2])
        self.latent = level(8 * dim, num_blocks[3], heads[3])
        self.down1_2, self.down2_3, self.down3_4 = (rescale(c, c // 2, nn.PixelUnshuffle(2))
                                                    for c in (dim, 2 * dim, 4 * dim))
        self.up4_3, self.up3_2, self.up2_1 = (rescale(c, 2 * c, nn.PixelShuffle(2))
                                              for c in (4 * dim, 4 * dim, 2 * dim))
        self.reduce_chan_level3, self.reduce_chan_level2 = conv(6 * dim, 4 * dim), conv(4 * dim, 2 * dim)
        self.noise_level3, self.reduce_noise_level3 = block(8 * dim + 320, heads[2]), conv(8 * dim + 320, 4 * dim)
        self.noise_level2, self.reduce_noise_level2 = block(4 * dim + 128, heads[2]), conv(4 * dim + 128, 4 * dim)
        self.noise_level1, self.reduce_noise_level1 = block(2 * dim + 64, heads[2]), conv(2 * dim + 64, 2 * dim)
        self.decoder_level3 = level(4 * dim, num_blocks[2], heads[2])
        self.decoder_level2 = level(2 * dim, num_blocks[1], heads[1])
        self.decoder_level1 = level(2 * dim, num_blocks[0], heads[0])
        self.refinement = level(2 * dim, num_refinement_blocks, heads[0])
        self.output = nn.Conv2d(2 * dim, 3, 3, 1, 1, bias=False)

    def forward(self, img: Tensor) -> Tensor:
        e1 = self.encoder_level1(self.patch_embed.proj(img))
        e2 = self.encoder_level2(self.down1_2(e1))
        e3 = self.encoder_level3(self.down2_3(e2))
        x = self.latent(self.down3_4(e3))
        x = self.reduce_noise_level3(self.noise_level3(torch.cat([x, self.prompt3(x)], 1)))
        x = self.decoder_level3(self.reduce_chan_level3(torch.cat([self.up4_3(x), e3], 1)))
        x = self.reduce_noise_level2(self.noise_level2(torch.cat([x, self.prompt2(x)], 1)))
        x = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(x), e2], 1)))
        x = self.reduce_noise_level1(self.noise_level1(torch.cat([x, self.prompt1(x)], 1)))
        x = self.refinement(self.decoder_level1(torch.cat([self.up2_1(x), e1], 1)))
        return self.output(x) + img

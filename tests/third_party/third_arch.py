# ruff: noqa

import torch
from torch import nn as nn
from torch.nn import functional as F

from basicsr.archs.arch_util import (ResidualBlockNoBN, Upsample, default_init_weights, flow_warp, make_layer,
                                     pixel_unshuffle, to_2tuple, trunc_normal_)
from basicsr.utils.registry import ARCH_REGISTRY


class Helper(nn.Module):

    def __init__(self, num_feat):
        super(Helper, self).__init__()
        self.weight = nn.Parameter(torch.zeros(1, num_feat, 1, 1))
        trunc_normal_(self.weight, std=.02)


@ARCH_REGISTRY.register()
class ThirdNet(nn.Module):

    def __init__(self, num_in_ch=3, num_feat=4, num_block=1, upscale=2, window=8):
        super(ThirdNet, self).__init__()
        self.window = to_2tuple(window)
        self.first = nn.Conv2d(num_in_ch * 4, num_feat, 3, 1, 1)
        self.body = make_layer(ResidualBlockNoBN, num_block, num_feat=num_feat, res_scale=1, pytorch_init=False)
        self.helper = Helper(num_feat)
        self.up = Upsample(upscale * 2, num_feat)
        self.last = nn.Conv2d(num_feat, num_in_ch, 3, 1, 1)
        default_init_weights([self.first, self.last], 0.1)

    def forward(self, x):
        flow = x.new_zeros(x.size(0), x.size(2), x.size(3), 2)
        feat = self.first(pixel_unshuffle(flow_warp(x, flow), 2)) + self.helper.weight
        return self.last(self.up(self.body(feat))) + F.interpolate(x, scale_factor=2)

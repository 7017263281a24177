"""Networks that tell real images from restored ones, for models with an adversarial loss: `network_d`."""
from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from basicsr.archs.description import Description
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.utils.values import Count


class Discriminator(nn.Module):
    """Base: a network that gives judgements, and restores nothing."""
    description = Description(multiple=1, channels='num_in_ch', tiling='it judges images and restores none')


@ARCH_REGISTRY.register()
class VGGStyleDiscriminator(Discriminator):
    """One judgement of an image: pairs of convolutions that halve it down to 4x4 pixels (SRGAN, ESRGAN).

    Args:
        num_in_ch: channels of images. num_feat: width of the first pair, eight times as much in the last ones.
        input_size: side of the images, which are training patches.
    """

    def __init__(self, num_in_ch: Count = 3, num_feat: Count = 64, input_size: Literal[128, 256] = 128):
        super().__init__()
        if input_size not in (128, 256):
            raise ValueError(f'VGGStyleDiscriminator: input_size must be 128 or 256, not {input_size}')
        self.input_size = input_size
        self.pairs = range(5 if input_size == 128 else 6)
        before = num_in_ch
        for i in self.pairs:
            width = num_feat * min(2**i, 8)
            self.add_module(f'conv{i}_0', nn.Conv2d(before, width, 3, 1, 1, bias=i == 0))
            if i > 0:
                self.add_module(f'bn{i}_0', nn.BatchNorm2d(width, affine=True))
            self.add_module(f'conv{i}_1', nn.Conv2d(width, width, 4, 2, 1, bias=False))
            self.add_module(f'bn{i}_1', nn.BatchNorm2d(width, affine=True))
            before = width
        self.linear1 = nn.Linear(before * 4 * 4, 100)
        self.linear2 = nn.Linear(100, 1)
        self.lrelu = nn.LeakyReLU(negative_slope=0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, input_size, input_size) to (B, 1). Raises `ValueError` for another size."""
        if x.shape[-2:] != (self.input_size, self.input_size):
            raise ValueError(
                f'VGGStyleDiscriminator takes images of {self.input_size}x{self.input_size}, its input_size,'
                f' not of {x.shape[-1]}x{x.shape[-2]}')
        for i in self.pairs:
            x = getattr(self, f'conv{i}_0')(x)
            x = self.lrelu(x if i == 0 else getattr(self, f'bn{i}_0')(x))
            x = self.lrelu(getattr(self, f'bn{i}_1')(getattr(self, f'conv{i}_1')(x)))
        return self.linear2(self.lrelu(self.linear1(x.flatten(1))))


@ARCH_REGISTRY.register()
class UNetDiscriminatorSN(Discriminator):
    """A judgement of each pixel: a U-Net of three levels with spectral normalisation (Real-ESRGAN, Wang et al. 2021).

    Args:
        num_in_ch: channels of images. num_feat: width of the first level.
        skip_connection: add the features of the way down on the way up.
    """

    def __init__(self, num_in_ch: Count = 3, num_feat: Count = 64, skip_connection: bool = True):
        super().__init__()
        self.skip_connection = skip_connection
        self.conv0 = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1)
        self.conv1 = spectral_norm(nn.Conv2d(num_feat, num_feat * 2, 4, 2, 1, bias=False))
        self.conv2 = spectral_norm(nn.Conv2d(num_feat * 2, num_feat * 4, 4, 2, 1, bias=False))
        self.conv3 = spectral_norm(nn.Conv2d(num_feat * 4, num_feat * 8, 4, 2, 1, bias=False))
        self.conv4 = spectral_norm(nn.Conv2d(num_feat * 8, num_feat * 4, 3, 1, 1, bias=False))
        self.conv5 = spectral_norm(nn.Conv2d(num_feat * 4, num_feat * 2, 3, 1, 1, bias=False))
        self.conv6 = spectral_norm(nn.Conv2d(num_feat * 2, num_feat, 3, 1, 1, bias=False))
        self.conv7 = spectral_norm(nn.Conv2d(num_feat, num_feat, 3, 1, 1, bias=False))
        self.conv8 = spectral_norm(nn.Conv2d(num_feat, num_feat, 3, 1, 1, bias=False))
        self.conv9 = nn.Conv2d(num_feat, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) with sides that are multiples of 8 to (B, 1, H, W). Raises `ValueError` for other sides."""
        if x.shape[-2] % 8 or x.shape[-1] % 8:
            raise ValueError('UNetDiscriminatorSN takes images whose sides are multiples of 8, not'
                             f' {x.shape[-1]}x{x.shape[-2]}')
        down = [F.leaky_relu(self.conv0(x), 0.2)]
        for conv in (self.conv1, self.conv2, self.conv3):
            down.append(F.leaky_relu(conv(down[-1]), 0.2))
        x = down.pop()
        for conv in (self.conv4, self.conv5, self.conv6):
            x = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)
            x = F.leaky_relu(conv(x), 0.2)
            x = x + down.pop() if self.skip_connection else x
        for conv in (self.conv7, self.conv8):
            x = F.leaky_relu(conv(x), 0.2)
        return self.conv9(x)

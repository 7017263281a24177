"""The two-level U-Net of Retinexformer and MST++."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from basicsr.archs.layers.pointwise import PointwiseConv2d
from basicsr.archs.layers.resample import Doubling

Body = Callable[[int, int], nn.Module]  # (width, number of blocks) to a module of (features, guide)


class TwoLevelUNet(nn.Module):
    """Bodies at widths dim, 2 dim, 4 dim, 2 dim, dim; the output is a residual to the input.

    Args:
        in_dim, out_dim: channels in and out, equal or broadcastable. dim: width of the first level.
        num_blocks: of the levels and, last, of the bottleneck; one number more than there are levels.
        body: makes the blocks of a level.
        guided: a guide (illumination features) of width `dim` goes along, scaled down by convolutions of its own.
    """

    def __init__(self, in_dim: int, out_dim: int, dim: int, num_blocks: Sequence[int], body: Body, guided: bool):
        super().__init__()
        levels = len(num_blocks) - 1
        self.embedding = nn.Conv2d(in_dim, dim, 3, padding=1, bias=False)
        self.encoder_layers: Any = nn.ModuleList()
        for width, depth in ((dim * 2**i, num_blocks[i]) for i in range(levels)):
            downs = [nn.Conv2d(width, width * 2, 4, stride=2, padding=1, bias=False) for _ in range(1 + guided)]
            self.encoder_layers.append(nn.ModuleList([body(width, depth), *downs]))
        self.bottleneck = body(dim * 2**levels, num_blocks[-1])
        self.decoder_layers: Any = nn.ModuleList()
        for width, depth in ((dim * 2**i, num_blocks[i]) for i in reversed(range(levels))):
            self.decoder_layers.append(
                nn.ModuleList([
                    Doubling(width * 2, width),
                    PointwiseConv2d(width * 2, width, bias=False),
                    body(width, depth),
                ]))
        self.mapping = nn.Conv2d(dim, out_dim, 3, padding=1, bias=False)
        self.apply(init_linear)

    def forward(self, img: Tensor, guide: Tensor | None = None) -> Tensor:
        x = self.embedding(img)
        skips = []
        for body, down, *guide_down in self.encoder_layers:
            x = body(x, guide)
            skips.append((x, guide))
            x = down(x)
            guide = guide_down[0](guide) if guide_down else None
        x = self.bottleneck(x, guide)
        for up, fuse, body in self.decoder_layers:
            skip, guide = skips.pop()
            x = fuse(up(x, skip))
            del skip  # an image of the widest features less while the blocks work
            x = body(x, guide)
        return self.mapping(x) + img


def init_linear(module: nn.Module) -> None:
    """Truncated normal with deviation 0.02, biases 0; other layers keep PyTorch's defaults."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)

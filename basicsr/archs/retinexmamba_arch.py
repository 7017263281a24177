"""RetinexMamba (Bai et al. 2024, arXiv 2405.03349): Retinex illumination estimation and a U-Net of fused attention and
two-dimensional selective scan.

Parameter names, order and shapes are those of the published checkpoints (`{'params': ...}`, 330 tensors with the
official options); the prefix `denoiser` of the first release is accepted on load.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.layers.feedforward import FeedForward, GatedFeedForward, PreNorm
from basicsr.archs.layers.illumination import IlluminationEstimator
from basicsr.archs.layers.norm import BodyLayerNorm
from basicsr.ops.selective_scan import selective_scan
from basicsr.utils.img import pad_to_multiple
from basicsr.utils.registry import ARCH_REGISTRY


class FusedAttention(nn.Module):
    """Channel attention with queries from the illumination features and keys, values from the image features."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.kv = nn.Conv2d(dim, dim * 2, 1)
        self.kv_dwconv = nn.Conv2d(dim * 2, dim * 2, 3, padding=1, groups=dim * 2)
        self.q = nn.Conv2d(dim, dim, 1)
        self.q_dwconv = nn.Conv2d(dim, dim, 3, padding=1)  # dense in spite of its name, as in the checkpoints
        self.project_out = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, illumination: Tensor) -> Tensor:
        b, c, h, w = x.shape
        k, v = self.kv_dwconv(self.kv(x)).chunk(2, dim=1)
        q = self.q_dwconv(self.q(illumination))
        q, k, v = (t.reshape(b, self.num_heads, c // self.num_heads, h * w) for t in (q, k, v))
        # vectors run over all pixels: their norms overflow half precision
        with torch.autocast(x.device.type, enabled=False):
            scale = torch.promote_types(q.dtype, torch.float32)
            q, k = (F.normalize(t.to(scale), dim=-1) for t in (q, k))
            attention = (q @ k.transpose(-2, -1) * self.temperature.to(scale)).softmax(dim=-1)
        out = attention.to(v.dtype) @ v
        return self.project_out(out.reshape(b, c, h, w))


class IFA(nn.Module):
    """Illumination fusion attention: attention and gated feed-forward on normalised features.

    One norm serves both inputs, and the residual is added to the *normalised* features.
    """

    def __init__(self, dim: int, num_heads: int, ffn_expansion_factor: float = 2.66):
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 1)
        self.norm1 = BodyLayerNorm(dim)
        self.attn = FusedAttention(dim, num_heads)
        self.norm2 = BodyLayerNorm(dim)
        self.ffn = GatedFeedForward(dim, ffn_expansion_factor, bias=True)

    def forward(self, x: Tensor, illumination: Tensor) -> Tensor:
        x = self.norm1(x)
        x = x + self.attn(x, self.norm1(self.conv1(illumination)))
        return x + self.ffn(self.norm2(x))


class SS2D(nn.Module):
    """Two-dimensional selective scan: four traversals of the pixel grid (VMamba, Liu et al. 2024), gated by SiLU(z).

    Args:
        d_model: channels in and out; the scan runs on `expand * d_model`.
        d_state: state size N per channel. dt_rank 'auto' is ceil(d_model / 16).
        dt_min, dt_max: range of the initial step size.
    """

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 3, expand: int = 2, dt_rank: int | str = 'auto',
                 dt_min: float = 1e-3, dt_max: float = 0.1, dt_init_floor: float = 1e-4):  # yapf: disable
        super().__init__()
        self.d_inner, self.d_state = expand * d_model, d_state
        self.dt_rank = math.ceil(d_model / 16) if dt_rank == 'auto' else dt_rank
        inner, rank = self.d_inner, self.dt_rank
        bound = inner**-0.5  # PyTorch's default for a bias-free linear layer
        self.x_proj_weight = nn.Parameter(torch.empty(4, rank + 2 * d_state, inner).uniform_(-bound, bound))
        self.dt_projs_weight = nn.Parameter(torch.empty(4, inner, rank).uniform_(-rank**-0.5, rank**-0.5))
        dt = torch.exp(torch.rand(4, inner) * math.log(dt_max / dt_min) + math.log(dt_min)).clamp(min=dt_init_floor)
        self.dt_projs_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus
        self.A_logs = nn.Parameter(torch.arange(1, d_state + 1).float().log().repeat(4 * inner, 1))
        self.Ds = nn.Parameter(torch.ones(4 * inner))
        self.in_proj = nn.Linear(d_model, inner * 2, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, d_conv, padding=(d_conv - 1) // 2, groups=inner)
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, d_model) to the same."""
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = F.silu(self.conv2d(u.permute(0, 3, 1, 2)))
        y = self.out_norm(self.scan(u).to(z.dtype))
        return self.out_proj(y * F.silu(z))

    def scan(self, u: Tensor) -> Tensor:
        """The sum of the four traversals: (B, E, H, W) to (B, H, W, E)."""
        b, e, h, w = u.shape
        rows, columns = u.reshape(b, e, h * w), u.transpose(2, 3).reshape(b, e, h * w)
        sequences = torch.stack([rows, columns, rows.flip(-1), columns.flip(-1)], dim=1)
        projected = torch.einsum('bkel,kce->bkcl', sequences, self.x_proj_weight)
        dt, B, C = projected.split([self.dt_rank, self.d_state, self.d_state], dim=2)
        dt = torch.einsum('bkrl,ker->bkel', dt, self.dt_projs_weight)
        y = selective_scan(
            sequences.reshape(b, 4 * e, h * w), dt.reshape(b, 4 * e, h * w), -torch.exp(self.A_logs.float()), B, C,
            self.Ds, self.dt_projs_bias.flatten()).view(b, 4, e, h * w)  # yapf: disable
        by_row = y[:, 0] + y[:, 2].flip(-1)
        by_column, back = (t.view(b, e, w, h).transpose(2, 3).reshape(b, e, h * w) for t in (y[:, 1], y[:, 3].flip(-1)))
        return (by_row + by_column + back).view(b, e, h, w).permute(0, 2, 3, 1)


class IFSSM(nn.Module):
    """Blocks of fused attention, selective scan and feed-forward; the scan's residual is the block's input."""

    def __init__(self, dim: int, heads: int, num_blocks: int, d_state: int):
        super().__init__()
        self.blocks = nn.ModuleList(self.block(dim, heads, d_state) for _ in range(num_blocks))

    def block(self, dim: int, heads: int, d_state: int) -> nn.ModuleList:
        return nn.ModuleList([IFA(dim, heads), SS2D(dim, d_state), PreNorm(dim, FeedForward(dim))])

    def forward(self, x: Tensor, illumination: Tensor) -> Tensor:
        for attention, scan, ffn in self.blocks:
            y = attention(x, illumination).permute(0, 2, 3, 1)
            x = x + scan(y).permute(0, 3, 1, 2)
            x = x + ffn(x)
        return x


class Restorer(nn.Module):
    """U-Net over image features and illumination features; its output is a residual to the lit-up image."""

    def __init__(self, in_dim: int = 3, out_dim: int = 3, dim: int = 40, level: int = 2,
                 num_blocks: Sequence[int] = (1, 2, 2), d_state: int = 16):  # yapf: disable
        super().__init__()
        self.embedding = nn.Conv2d(in_dim, dim, 3, padding=1, bias=False)
        self.encoder_layers = nn.ModuleList()
        width, state = dim, d_state
        for i in range(level):
            self.encoder_layers.append(nn.ModuleList([
                self.body(width, width // dim, num_blocks[i], state),
                nn.Conv2d(width, width * 2, 4, stride=2, padding=1, bias=False),
                nn.Conv2d(width, width * 2, 4, stride=2, padding=1, bias=False),
            ]))  # yapf: disable
            width, state = width * 2, state * 2
        self.bottleneck = self.body(width, width // dim, num_blocks[-1], state)
        self.decoder_layers = nn.ModuleList()
        for i in range(level):
            # the published decoder halves its width here but the state size only after the level: 4N, then 2N
            half = width // 2
            self.decoder_layers.append(nn.ModuleList([
                nn.ConvTranspose2d(width, half, 2, stride=2),
                nn.Conv2d(width, half, 1, bias=False),
                self.body(half, half // dim, num_blocks[level - 1 - i], self.decoder_state(state)),
            ]))  # yapf: disable
            width, state = half, state // 2
        self.mapping = nn.Conv2d(dim, out_dim, 3, padding=1, bias=False)
        self.apply(_init_linear)

    def body(self, dim: int, heads: int, num_blocks: int, d_state: int) -> nn.Module:
        return IFSSM(dim, heads, num_blocks, d_state)

    def decoder_state(self, d_state: int) -> int:
        """State size of a decoder level, given that of the level below it."""
        return d_state

    def forward(self, img: Tensor, illumination: Tensor) -> Tensor:
        x = self.embedding(img)
        skips = []
        for body, down, illumination_down in self.encoder_layers:
            x = body(x, illumination)
            skips.append((x, illumination))
            x, illumination = down(x), illumination_down(illumination)
        x = self.bottleneck(x, illumination)
        for up, fuse, body in self.decoder_layers:
            skip, illumination = skips.pop()
            x = body(fuse(torch.cat([up(x), skip], dim=1)), illumination)
        return self.mapping(x) + img


class Stage(nn.Module):
    """Estimate the illumination, light the image up, restore it."""

    restorer = Restorer

    def __init__(self, n_feat: int, num_blocks: Sequence[int], d_state: int):
        super().__init__()
        self.estimator = IlluminationEstimator(n_feat)
        self.Restorer = self.restorer(dim=n_feat, num_blocks=num_blocks, d_state=d_state)

    def forward(self, img: Tensor) -> Tensor:
        illumination, light_map = self.estimator(img)
        return self.Restorer(img * light_map + img, illumination)


@ARCH_REGISTRY.register()
class RetinexMamba(nn.Module):
    """Low-light enhancement by Retinex theory and state-space models.

    Args:
        in_channels, out_channels: 3, the estimator is made for RGB.
        n_feat: width of the first level, a multiple of 4.
        stage: number of stages in sequence.
        num_blocks: blocks of the two encoder/decoder levels and of the bottleneck.
        d_state: state size of the first level; deeper levels have more (N, 2N, 4N | 4N, 2N).

    Source: arXiv 2405.03349. The defaults are the official options: 4,589,001 parameters.
    """

    stage_type = Stage

    def __init__(self, in_channels: int = 3, out_channels: int = 3, n_feat: int = 40, stage: int = 1,
                 num_blocks: Sequence[int] = (1, 2, 2), d_state: int = 16):  # yapf: disable
        super().__init__()
        if n_feat % 4:
            raise ValueError(f'RetinexMamba: n_feat must be a multiple of 4 (four convolution groups), not {n_feat}')
        if (in_channels, out_channels) != (3, 3):
            raise ValueError('RetinexMamba: in_channels and out_channels must be 3')
        if len(num_blocks) != 3:
            raise ValueError(
                f'RetinexMamba: num_blocks needs three numbers (two levels, bottleneck), not {list(num_blocks)}')
        self.body = nn.Sequential(*(self.stage_type(n_feat, num_blocks, d_state) for _ in range(stage)))
        self.register_load_state_dict_pre_hook(_rename_denoiser)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1], any size, to the same; not clamped."""
        h, w = x.shape[-2:]
        x = pad_to_multiple(x, 4).contiguous(memory_format=torch.channels_last)
        return self.body(x)[..., :h, :w].contiguous()


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)


def _rename_denoiser(module: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """The first release called `Restorer` `denoiser`."""
    for key in [k for k in state_dict if k.startswith(prefix) and '.denoiser.' in k]:
        state_dict[key.replace('.denoiser.', '.Restorer.')] = state_dict.pop(key)

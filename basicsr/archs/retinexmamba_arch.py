"""RetinexMamba (Bai et al. 2024, arXiv 2405.03349): Retinex illumination estimation and a U-Net of fused attention and
two-dimensional selective scan.

Parameter names, order and shapes are those of the published checkpoints (`{'params': ...}`, 330 tensors with the
official options); the prefix `denoiser` of the first release is accepted on load.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.layers.feedforward import FeedForward, GatedFeedForward, PreNorm
from basicsr.archs.layers.illumination import IlluminationEstimator
from basicsr.archs.layers.norm import BodyLayerNorm, channel_layer_norm
from basicsr.archs.layers.pointwise import PointwiseConv2d, pointwise
from basicsr.archs.layers.recompute import checkpointed
from basicsr.archs.layers.strips import in_strips, row_strips
from basicsr.ops.ss2d import ss2d_scan
from basicsr.utils.img import pad_to_multiple
from basicsr.utils.registry import ARCH_REGISTRY


class FusedAttention(nn.Module):
    """Channel attention with queries from the illumination features and keys, values from the image features."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.kv = PointwiseConv2d(dim, dim * 2)
        self.kv_dwconv = nn.Conv2d(dim * 2, dim * 2, 3, padding=1, groups=dim * 2)
        self.q = PointwiseConv2d(dim, dim)
        self.q_dwconv = nn.Conv2d(dim, dim, 3, padding=1)  # dense in spite of its name, as in the checkpoints
        self.project_out = PointwiseConv2d(dim, dim)

    def forward(self, x: Tensor, illumination: Tensor, prepare: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Values (B, C, H, W), and per image the (C, C) matrix that mixes their channels.

        `prepare` makes the input of the queries from illumination features. q and k are normalised over all pixels:
        their Gram matrix is taken first and scaled afterwards.
        """
        values, grams, squares_q, squares_k = [], [], [], []
        for read, keep in row_strips(x, 3 * x.shape[1], halo=1):
            k, v = self.kv_dwconv(self.kv(x[:, :, read]))[:, :, keep].chunk(2, dim=1)
            q = self.q_dwconv(self.q(prepare(illumination[:, :, read])))[:, :, keep]
            # sums run over all pixels: they overflow half precision
            with torch.autocast(x.device.type, enabled=False):
                q, k = (self._by_head(t) for t in (q, k))
                grams.append(q.transpose(-2, -1) @ k)
                squares_q.append(q.square().sum(-2))
                squares_k.append(k.square().sum(-2))
            values.append(v)
        with torch.autocast(x.device.type, enabled=False):
            gram, length_q, length_k = sum(grams), sum(squares_q), sum(squares_k)
            scale_q, scale_k = (_inverse_length(t) for t in (length_q, length_k))
            logits = gram * scale_q.unsqueeze(-1) * scale_k.unsqueeze(-2) * self.temperature.to(gram.dtype)
            mixing = torch.stack([torch.block_diag(*m) for m in logits.softmax(dim=-1)])
            weight = self.project_out.weight.flatten(1).to(gram.dtype) @ mixing
        return values[0] if len(values) == 1 else torch.cat(values, dim=2), weight

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, C, h, W) to (B, heads, pixels, C / heads), at least float32."""
        b, c, h, w = x.shape
        x = x.permute(0, 2, 3, 1).reshape(b, h * w, self.num_heads, c // self.num_heads).transpose(1, 2)
        return x.to(torch.promote_types(x.dtype, torch.float32))

    def project(self, values: Tensor, weight: Tensor) -> Tensor:
        """Attention and output projection in one: each image's own (C, C) matrix on its values."""
        b, c, h, w = values.shape
        weight = weight.to(values.dtype)
        if b == 1:
            return pointwise(values, weight[0], self.project_out.bias)
        out = values.permute(0, 2, 3, 1).reshape(b, h * w, c) @ weight.transpose(1, 2)
        return (out + self.project_out.bias).view(b, h, w, c).permute(0, 3, 1, 2)


class IFA(nn.Module):
    """Illumination fusion attention: attention and gated feed-forward on normalised features.

    One norm serves both inputs, and the residual is added to the *normalised* features.
    """

    def __init__(self, dim: int, num_heads: int, ffn_expansion_factor: float = 2.66):
        super().__init__()
        self.conv1 = PointwiseConv2d(dim, dim)
        self.norm1 = BodyLayerNorm(dim)
        self.attn = FusedAttention(dim, num_heads)
        self.norm2 = BodyLayerNorm(dim)
        self.ffn = GatedFeedForward(dim, ffn_expansion_factor, bias=True)

    def forward(self, x: Tensor, illumination: Tensor) -> Tensor:
        x = self.norm1(x)
        values, weight = self.attn(x, illumination, lambda s: self.norm1(self.conv1(s)))

        def finish(x: Tensor, values: Tensor) -> Tensor:
            x = x + self.attn.project(values, weight)
            return x + self.ffn(self.norm2(x))

        return in_strips(finish, x, values, channels=self.ffn.dwconv.out_channels, halo=1)


class SS2D(nn.Module):
    """Two-dimensional selective scan: four traversals of the pixel grid (VMamba, Liu et al. 2024), gated by SiLU(z).

    Args:
        d_model: channels in and out; the scan runs on `expand * d_model`.
        d_state: state size N per channel. dt_rank 'auto' is ceil(d_model / 16).
        dt_min, dt_max: range of the initial step size.
    """

    directions = 4

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 3, expand: int = 2, dt_rank: int | str = 'auto',
                 dt_min: float = 1e-3, dt_max: float = 0.1, dt_init_floor: float = 1e-4):  # yapf: disable
        super().__init__()
        self.d_inner, self.d_state = expand * d_model, d_state
        self.dt_rank = math.ceil(d_model / 16) if dt_rank == 'auto' else dt_rank
        inner, rank = self.d_inner, self.dt_rank
        bound = inner**-0.5  # PyTorch's default for a bias-free linear layer
        count = self.directions
        self.x_proj_weight = nn.Parameter(torch.empty(count, rank + 2 * d_state, inner).uniform_(-bound, bound))
        self.dt_projs_weight = nn.Parameter(torch.empty(count, inner, rank).uniform_(-rank**-0.5, rank**-0.5))
        dt = torch.exp(torch.rand(count, inner) * math.log(dt_max / dt_min) + math.log(dt_min)).clamp(min=dt_init_floor)
        self.dt_projs_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus
        self.A_logs = nn.Parameter(torch.arange(1, d_state + 1).float().log().repeat(count * inner, 1))
        self.Ds = nn.Parameter(torch.ones(count * inner))
        self.in_proj = nn.Linear(d_model, inner * 2, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, d_conv, padding=(d_conv - 1) // 2, groups=inner)
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, d_model, H, W), channels-last in memory, to the same."""
        inputs, gate = self.in_proj.weight.chunk(2)
        projection = self.x_proj_weight.flatten(0, 1)
        wide = max(self.d_inner, len(projection))
        u = in_strips(lambda t: F.silu(self.conv2d(pointwise(t, inputs))), x, channels=self.d_inner, halo=1)
        x_dbl = in_strips(lambda t: pointwise(t, projection), u, channels=wide)
        y = self.scan(u.permute(0, 2, 3, 1), x_dbl.permute(0, 2, 3, 1).unflatten(-1, (self.directions, -1)))

        def finish(x: Tensor, y: Tensor) -> Tensor:
            y = channel_layer_norm(y, self.out_norm.weight, self.out_norm.bias, self.out_norm.eps)
            return pointwise(y * F.silu(pointwise(x, gate)), self.out_proj.weight)

        return in_strips(finish, x, y.permute(0, 3, 1, 2), channels=self.d_inner)

    def scan(self, u: Tensor, x_dbl: Tensor) -> Tensor:
        """(B, H, W, E) and, for each direction, step, B and C (B, H, W, K, R + 2N) to the sum over directions."""
        A = -torch.exp(self.A_logs.float())
        return ss2d_scan(u, x_dbl, self.dt_projs_weight, self.dt_projs_bias, A, self.Ds)


class IFSSM(nn.Module):
    """Blocks of fused attention, selective scan and feed-forward; the scan's residual is the block's input.

    What stands before the feed-forward is made by `mixers` and run by `mix`: variants override these two.
    """

    checkpoint = False  # recompute blocks in the backward instead of keeping their activations

    def __init__(self, dim: int, heads: int, num_blocks: int, d_state: int):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList([*self.mixers(dim, heads, d_state),
                           PreNorm(dim, FeedForward(dim))]) for _ in range(num_blocks))

    def mixers(self, dim: int, heads: int, d_state: int) -> list[nn.Module]:
        return [IFA(dim, heads), SS2D(dim, d_state)]

    def mix(self, mixers: list[nn.Module], x: Tensor, illumination: Tensor) -> Tensor:
        attention, scan = mixers
        return x + scan(attention(x, illumination))

    def forward(self, x: Tensor, illumination: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpointed(self.checkpoint, self.run, block, x, illumination)
        return x

    def run(self, block: nn.ModuleList, x: Tensor, illumination: Tensor) -> Tensor:
        *mixers, ffn = block
        x = self.mix(mixers, x, illumination)
        return in_strips(lambda t: t + ffn(t), x, channels=4 * x.shape[1], halo=1)


class Restorer(nn.Module):
    """U-Net over image features and illumination features; its output is a residual to the lit-up image."""

    def __init__(self, in_dim: int = 3, out_dim: int = 3, dim: int = 40, level: int = 2,
                 num_blocks: Sequence[int] = (1, 2, 2), d_state: int = 16,
                 blocks: type[nn.Module] = IFSSM):  # yapf: disable
        super().__init__()
        self.embedding = nn.Conv2d(in_dim, dim, 3, padding=1, bias=False)
        self.encoder_layers = nn.ModuleList()
        width, state = dim, d_state
        for i in range(level):
            self.encoder_layers.append(nn.ModuleList([
                blocks(width, width // dim, num_blocks[i], state),
                nn.Conv2d(width, width * 2, 4, stride=2, padding=1, bias=False),
                nn.Conv2d(width, width * 2, 4, stride=2, padding=1, bias=False),
            ]))  # yapf: disable
            width, state = width * 2, state * 2
        self.bottleneck = blocks(width, width // dim, num_blocks[-1], state)
        self.decoder_layers = nn.ModuleList()
        for i in range(level):
            # the published decoder halves its width here but the state size only after the level: 4N, then 2N
            half = width // 2
            self.decoder_layers.append(nn.ModuleList([
                nn.ConvTranspose2d(width, half, 2, stride=2),
                nn.Conv2d(width, half, 1, bias=False),
                blocks(half, half // dim, num_blocks[level - 1 - i], self.decoder_state(state)),
            ]))  # yapf: disable
            width, state = half, state // 2
        self.mapping = nn.Conv2d(dim, out_dim, 3, padding=1, bias=False)
        self.apply(_init_linear)

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

    def __init__(self, n_feat: int, num_blocks: Sequence[int], d_state: int, blocks: type[nn.Module] = IFSSM):
        super().__init__()
        self.estimator = IlluminationEstimator(n_feat)
        self.Restorer = self.restorer(dim=n_feat, num_blocks=num_blocks, d_state=d_state, blocks=blocks)

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
        checkpoint: recompute each block in the backward: half the memory or less for a third more time.

    Source: arXiv 2405.03349. The defaults are the official options: 4,589,001 parameters.
    """

    stage_type, blocks = Stage, IFSSM  # what variants replace

    def __init__(self, in_channels: int = 3, out_channels: int = 3, n_feat: int = 40, stage: int = 1,
                 num_blocks: Sequence[int] = (1, 2, 2), d_state: int = 16, checkpoint: bool = False):  # yapf: disable
        super().__init__()
        if n_feat % 4:
            raise ValueError(f'RetinexMamba: n_feat must be a multiple of 4 (four convolution groups), not {n_feat}')
        if (in_channels, out_channels) != (3, 3):
            raise ValueError('RetinexMamba: in_channels and out_channels must be 3')
        if len(num_blocks) != 3:
            raise ValueError(
                f'RetinexMamba: num_blocks needs three numbers (two levels, bottleneck), not {list(num_blocks)}')
        self.body = nn.Sequential(*(self.stage_type(n_feat, num_blocks, d_state, self.blocks) for _ in range(stage)))
        for module in self.modules():
            if isinstance(module, IFSSM):
                module.checkpoint = checkpoint
        self.register_load_state_dict_pre_hook(_rename_denoiser)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1], any size, to the same; not clamped."""
        h, w = x.shape[-2:]
        x = pad_to_multiple(x, 4).contiguous(memory_format=torch.channels_last)
        return self.body(x)[..., :h, :w].contiguous()


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)


def _inverse_length(squares: Tensor) -> Tensor:
    """1 / max(|v|, 1e-12) from |v|^2, with a gradient of 0 where v is 0."""
    return squares.clamp(min=1e-24).rsqrt()


def _rename_denoiser(module: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """The first release called `Restorer` `denoiser`."""
    for key in [k for k in state_dict if k.startswith(prefix) and '.denoiser.' in k]:
        state_dict[key.replace('.denoiser.', '.Restorer.')] = state_dict.pop(key)

"""MASR-Net (github.com/Britark/MASR-Net, no paper): mixtures of experts set an image signal processor for each pixel.

Each 8 x 8 window of the image becomes three tokens (gamma, colour, saturation), which are refined by mixtures of
attention and of experts and decoded to maps of parameters. Parameter names, order and shapes are those of the authors'
network without the VGG16 of its loss.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Len, MinLen
from torch import Tensor, nn

from basicsr.archs.description import Description
from basicsr.archs.layers.transient import Transient
from basicsr.archs.masrnet.isp import correct_colour, correct_gamma, correct_saturation
from basicsr.archs.masrnet.mixtures import MixtureOfAttention, MixtureOfExperts
from basicsr.archs.masrnet.parameter_maps import (
    WINDOW,
    AntiCheckerboard,
    BoundarySmoother,
    EnhancedFFN,
    ParameterSmoother,
    map_decoder,
    window_map,
    xavier,
)
from basicsr.archs.masrnet.recognition import recognise
from basicsr.archs.masrnet.routing import BalanceWeights
from basicsr.archs.masrnet.window_tokens import (
    NEIGHBOURS,
    ContentKeyValue,
    EmbeddingGenerator,
    FeatureExtractor,
    NeighbourSearcher,
    RouterVectors,
    normal,
)
from basicsr.utils.img import pad_to_multiple
from basicsr.utils.precision import at_least_float32
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.utils.values import BelowOne, Count, Counts3, Natural, NonNegative

_TOKENS = 3  # of a window: gamma, colour, saturation
_FOREIGN = ('emb_gen.ffn_path.', 'perceptual_loss.')  # aliases of emb_gen.fc1 and fc2; the loss


class ColourTransform(nn.Module):
    """Buffers of published checkpoints; nothing reads or writes them."""

    def __init__(self):
        super().__init__()
        self.register_buffer('matrix_stats', torch.zeros(4))
        self.register_buffer('det_stats', torch.zeros(4))


@ARCH_REGISTRY.register()
class MASRNet(Transient):
    """Low-light enhancement by maps of colour matrix, gamma and saturation.

    While training, each forward pass leaves the mean balance loss of its seven mixtures, a scalar with gradients, in
    `auxiliary_loss`; the authors add 0.1067 times it to the loss. It is None after a pass in evaluation mode.

    Args:
        in_channels: 3, the image signal processor is made for RGB.
        embed_dim: width of the tokens, a multiple of 8 and of `num_heads`. stem_dim: width of the first convolution.
        patch_size, win_size: pixels of a patch and patches of a window, a side; their product is 8. The authors use
            4 and 2 for LOL-v1 and LSRW, 2 and 4 for LOL-v2.
        num_experts, num_heads: of the four mixtures of attention, and how many of the experts are chosen.
        moe_experts, moe_topk, moe_hidden: experts of the three feed-forward mixtures, how many are chosen (3 in the
            first: they become the window's three tokens), widths of their hidden layers.
        dropout, attn_dropout, ffn_dropout: of the token layers, of attention, of the maps' small networks.
        quant_noise: dropped weights of the four mixtures of attention, a training regulariser; the authors' values are
            0.005, 0.005, 0.05, 0.005, but in their code the noise destroys the weights.
        sample_topk: so many of the heads are drawn at random while training.
        eval_routing: 'argmax' takes the most probable heads. 'sample' draws as in training, as the authors evaluate;
            the result is then a different one each time.
        cv, switch, z: factors of the parts of the balance loss.

    Source: github.com/Britark/MASR-Net. The defaults are its LOL-v1 options: 4,935,121 parameters.
    """

    transient = ('auxiliary_loss', )
    description = Description(multiple=WINDOW, channels='in_channels', recognise=recognise, tiling='', shares=True)
    isp_1: Any
    isp_2: Any
    isp_4: Any
    attention_type, window_map = MixtureOfAttention, staticmethod(window_map)  # what variants replace

    def __init__(self, in_channels: Literal[3] = 3, embed_dim: Count = 128, patch_size: Count = 4, win_size: Count = 2,
                 stem_dim: Count = 48, num_experts: Count = 3, num_heads: Count = 2, moe_experts: Counts3 = (6, 3, 3),
                 moe_topk: Counts3 = (3, 2, 2),
                 moe_hidden: Annotated[Sequence[Annotated[Sequence[Count], MinLen(1)]], Len(3, 3)] =
                 ((256, 512), (256, 512), (256, 512, 256)),
                 dropout: BelowOne = 0.05, attn_dropout: BelowOne = 0.05, ffn_dropout: BelowOne = 0.1,
                 quant_noise: Annotated[Sequence[BelowOne], Len(4, 4)] = (0., 0., 0., 0.), sample_topk: Natural = 1,
                 eval_routing: Literal['argmax', 'sample'] = 'argmax', cv: NonNegative = 0.05, switch: NonNegative = 0.01,
                 z: NonNegative = 0.001):  # yapf: disable
        super().__init__()
        _check(in_channels, embed_dim, patch_size, win_size, num_experts, num_heads, moe_experts, moe_topk, moe_hidden,
               quant_noise, sample_topk, eval_routing)
        dim, balance = embed_dim, BalanceWeights(cv, switch, z)

        def attention(noise: float, **more: Any) -> nn.Module:
            return self.attention_type(dim, num_experts, num_heads, sample_topk, eval_routing == 'sample', balance,
                                       attn_dropout, noise, **more)

        def moe(i: int) -> MixtureOfExperts:
            return MixtureOfExperts(dim, moe_experts[i], moe_topk[i], moe_hidden[i], i > 0, balance)

        # the order is that of published checkpoints
        self.feature_extractor = FeatureExtractor(in_channels, stem_dim, dim, patch_size, win_size)
        self.emb_gen = EmbeddingGenerator(dim, dropout)
        self.e_isp_expand = nn.Linear(dim, _TOKENS * dim)
        self.qk_gen = RouterVectors(dim, num_experts, dropout)
        self.kv_gen = ContentKeyValue(dim, dropout)
        self.multi_attention_1 = attention(quant_noise[0], learned_gate=False)
        self.attn_norm = nn.LayerNorm(dim)
        self.moe_1 = moe(0)
        self.moe_1_norm = nn.LayerNorm(dim)
        self.multi_attention_2 = attention(quant_noise[1])
        self.attn2_norm = nn.LayerNorm(dim)
        self.moe_2 = moe(1)
        self.moe_2_norm = nn.LayerNorm(dim)
        self.patch_neighbor_searcher = NeighbourSearcher()
        self.multi_attention_3 = attention(quant_noise[2], neighbours=len(NEIGHBOURS))
        self.attn3_norm = nn.LayerNorm(dim)
        self.moe_3 = moe(2)
        self.moe_3_norm = nn.LayerNorm(dim)
        self.multi_attention_4 = attention(quant_noise[3])
        self.attn4_norm = nn.LayerNorm(dim)
        pixels = WINDOW * WINDOW
        self.isp_1, self.isp_2, self.isp_4 = (  # gamma, colour, saturation
            nn.ModuleDict({'decoder': map_decoder(dim, hidden, channels * pixels, dropout)})
            for hidden, channels in (((96, 64, 32), 1), ((256, 384, 512, 576), 9), ((96, 64, 32), 1)))
        for isp in (self.isp_1, self.isp_2):
            xavier(isp['decoder']['output'], gain=0.3)
        normal(self.isp_4['decoder']['output'], 0.3, bias=1.)
        self.color_transform = ColourTransform()
        self.isp_final_1_mlp = EnhancedFFN(1, ffn_dropout)
        self.isp_final_2_mlp = EnhancedFFN(9, ffn_dropout)
        self.isp_final_4_mlp = EnhancedFFN(1, ffn_dropout)
        self.param_smoother = ParameterSmoother(9)
        self.boundary_smoother = BoundarySmoother(9)
        self.anti_checkerboard_gamma = AntiCheckerboard(1)
        self.anti_checkerboard_saturation = AntiCheckerboard(1)
        self.anti_checkerboard_color = AntiCheckerboard(9)
        self.auxiliary_loss: Tensor | None = None
        self.register_load_state_dict_pre_hook(_drop_foreign_keys)

    def forward(self, x: Tensor, return_maps: bool = False) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """(B, 3, H, W) RGB in [0, 1], any size, to the same, in [1e-8, 1].

        With `return_maps` also, each (B, H, W): `gamma_map`, the exponent; `color_correction_strength`, the norm of the
        colour matrix' correction off its diagonal, relative to that on it; `saturation_map`, the factor.
        """
        h, w = x.shape[-2:]
        padded = pad_to_multiple(x, self.description.multiple)
        grid = padded.shape[2] // WINDOW, padded.shape[3] // WINDOW
        tokens = self._tokens(padded, grid)
        # maps and image are sensitive to rounding: full precision, also under autocast
        with torch.autocast(x.device.type, enabled=False):
            gamma, colour, saturation = self._maps(tokens, grid)
            image = correct_colour(padded.to(colour.dtype), colour)
            image = correct_saturation(correct_gamma(image, gamma), saturation).to(x.dtype)[..., :h, :w].contiguous()
            if not return_maps:
                return image
            diagonal, rest = colour[:, ::4].norm(dim=1), colour[:, [1, 2, 3, 5, 6, 7]].norm(dim=1)
            strength = rest / (diagonal + 1e-8)
            maps = {'gamma_map': gamma[:, 0], 'color_correction_strength': strength, 'saturation_map': saturation[:, 0]}
            return image, {k: v[..., :h, :w] for k, v in maps.items()}

    def _tokens(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, W, 3, D): what the W windows want of gamma, colour and saturation."""
        features = self.feature_extractor(x)
        embedding = self.emb_gen(features)
        query, gate_keys = self.qk_gen(embedding)
        key, value = self.kv_gen(features)

        t, loss_1 = self.multi_attention_1(query, key, value, gate_keys)
        t, loss_2 = self.moe_1(self.attn_norm(t) + query)
        t = self.moe_1_norm(t.squeeze(2)) + self.e_isp_expand(embedding).unflatten(-1, (_TOKENS, -1))

        out, loss_3 = self.multi_attention_2(t, t, t)
        t = self.attn2_norm(out) + t
        out, loss_4 = self.moe_2(t)
        t = self.moe_2_norm(out) + t

        around = F.pad(t.unflatten(1, grid), (0, 0, 0, 0, 1, 1, 1, 1))  # windows outside the image are zeros
        out, loss_5 = self.multi_attention_3(t, around, around, arrange=self.patch_neighbor_searcher)
        t = self.attn3_norm(out) + t
        out, loss_6 = self.moe_3(t)
        t = self.moe_3_norm(out) + t

        out, loss_7 = self.multi_attention_4(t, t, t)
        losses = (loss_1, loss_2, loss_3, loss_4, loss_5, loss_6, loss_7)
        self.auxiliary_loss = torch.stack(losses).mean() if self.training else None
        return self.attn4_norm(out) + t + 1e-6

    def _maps(self, tokens: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Exponent (B, 1, H, W), correction of the colour matrix (B, 9, H, W), factor of the saturation (B, 1, H, W)."""
        tokens = tokens.to(self.e_isp_expand.weight.dtype)
        maps = []
        for token, isp, mlp in zip(tokens.unbind(dim=2), (self.isp_1, self.isp_2, self.isp_4),
                                   (self.isp_final_1_mlp, self.isp_final_2_mlp, self.isp_final_4_mlp)):
            decoder = isp['decoder']
            maps.append(mlp(self.window_map(decoder['output'](decoder['main'](token)), grid)))
        gamma, colour, saturation = maps
        gamma = self.anti_checkerboard_gamma(gamma)
        colour = self.anti_checkerboard_color(self.boundary_smoother(self.param_smoother(colour)))
        saturation = self.anti_checkerboard_saturation(saturation)
        exact = at_least_float32(tokens.dtype)
        return 1 + gamma.to(exact), colour.to(exact), 1.5 + 0.4 * saturation.to(exact).tanh()


def _drop_foreign_keys(net: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    foreign = tuple(prefix + start for start in _FOREIGN)
    for key in [k for k in state if k.startswith(foreign)]:
        del state[key]


def _check(in_channels: int, embed_dim: int, patch_size: int, win_size: int, num_experts: int, num_heads: int,
           moe_experts: Sequence[int], moe_topk: Sequence[int], moe_hidden: Sequence[Sequence[int]],
           quant_noise: Sequence[float], sample_topk: int, eval_routing: str) -> None:
    if patch_size * win_size != WINDOW:
        raise ValueError(f'MASRNet: patch_size * win_size must be {WINDOW} pixels, not {patch_size} * {win_size}')
    if in_channels != 3:
        raise ValueError('MASRNet: in_channels must be 3')
    if embed_dim < 8 or embed_dim % 8 or num_heads < 1 or embed_dim % num_heads:
        raise ValueError(
            f'MASRNet: embed_dim must be a multiple of 8 and of num_heads, not {embed_dim} with {num_heads}')
    if not 0 <= sample_topk <= num_heads <= num_experts:
        raise ValueError(f'MASRNet: sample_topk {sample_topk}, num_heads {num_heads}, num_experts {num_experts}:'
                         ' each may be at most the next')
    if not len(moe_experts) == len(moe_topk) == len(moe_hidden) == 3 or not all(moe_hidden):
        raise ValueError('MASRNet: moe_experts, moe_topk and moe_hidden need one entry for each of three mixtures')
    if moe_topk[0] != _TOKENS or any(not 1 <= k <= e for k, e in zip(moe_topk, moe_experts)):
        raise ValueError(f'MASRNet: moe_topk must start with {_TOKENS} (gamma, colour, saturation) and be at most'
                         f' moe_experts, not {list(moe_topk)} of {list(moe_experts)}')
    if len(quant_noise) != 4 or not all(0 <= p < 1 for p in quant_noise):
        raise ValueError(f'MASRNet: quant_noise needs four probabilities below 1, not {list(quant_noise)}')
    if eval_routing not in ('argmax', 'sample'):
        raise ValueError(f"MASRNet: eval_routing must be 'argmax' or 'sample', not '{eval_routing}'")

"""The segmenter of networks with a semantic prior (ISALux): class probabilities from a frozen network.

It is LR-ASPP on MobileNetV3-Large (Howard et al. 2019) as torchvision has it, 3,221,538 parameters.
"""
from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from basicsr.utils.download import published_file
from basicsr.utils.errors import UserError, nearest
from basicsr.utils.logger import get_root_logger
from basicsr.utils.places import project_root
from basicsr.utils.pretrained import is_fetched, locate
from basicsr.utils.weights import load_weights
from basicsr.weights.fitting import load_into

_ALTERNATIVES = ("set semantic to the path of a file with torchvision's weights of lraspp_mobilenet_v3_large, to "
                 "'external' (a map is given with each image) or to 'off' (no semantic prior)")
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class SemanticPrior:
    """A segmenter that belongs to no network: frozen, in evaluation mode, float32, on whatever device its input is.

    It is no `nn.Module`, so a network that holds it has none of its tensors among its own; copies of the network
    (`deepcopy`) share it.
    """

    def __init__(self, net: nn.Module):
        self._copies = {torch.device('cpu'): net.eval().float().requires_grad_(False)}
        self._statistics: dict[torch.device, list[Tensor]] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] to probabilities (B, num_classes, H, W) of the same type; no gradient."""
        net = self._on(x.device)
        mean, std = self._statistics[x.device]
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return net((x.float().clamp(0, 1) - mean) / std)['out'].softmax(dim=1).to(x.dtype)

    def __deepcopy__(self, memo: dict) -> SemanticPrior:
        return self

    def _on(self, device: torch.device) -> nn.Module:
        """One copy for each device, so that networks on several of them can share the prior."""
        with torch.inference_mode(False):  # they outlive the call, and may be used in training later
            if device not in self._copies:
                self._copies[device] = deepcopy(self._copies[torch.device('cpu')]).to(device)
            if device not in self._statistics:  # once: copying numbers to a GPU makes the host wait for it
                self._statistics[device] = [torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (_MEAN, _STD)]
        return self._copies[device]


def equip(net: nn.Module) -> nn.Module:
    """Give a network the segmenter that its option `semantic` asks for, and say so when it does without; other networks
    are returned as they are.

    Raises `UserError` when the segmenter's weights are not to be had: they are never random.
    """
    semantic = getattr(net, 'semantic_source', None)
    if semantic == 'off':
        warn_without_semantics()
    elif isinstance(semantic, str) and semantic != 'external':
        wanting: Any = net
        wanting.segmenter = load_semantic_prior(semantic, wanting.num_classes)
    return net


def load_semantic_prior(semantic: str, num_classes: int = 21, key: str | None = None) -> SemanticPrior:
    """The segmenter of the option `semantic`; the same file is loaded once.

    Args:
        semantic: 'torchvision' takes the weights COCO_WITH_VOC_LABELS_V1 from torchvision's cache, or downloads them
            there; else a file, name or address of weights with the same keys, as `locate` takes them.
        key: entry of the file, see `load_weights`.

    Raises:
        UserError: without torchvision, without the weights, or when they do not fit; it names the alternatives.
    """
    try:
        from torchvision.models import segmentation
    except (ImportError, RuntimeError) as error:  # the latter: torchvision of another version of torch
        raise UserError(f"semantic '{semantic}' needs torchvision, which cannot be imported "
                        f'({type(error).__name__}: {error}); install it, or {_ALTERNATIVES}') from error
    if semantic == 'torchvision':
        weights = segmentation.LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1
        return _load(
            published_file(weights.url, [project_root() / 'pretrained_weights'],
                           "for semantic 'torchvision' its weights are", _ALTERNATIVES), num_classes, key)
    try:
        found = locate(semantic)
    except UserError as error:
        if is_fetched(semantic):
            raise
        raise UserError(
            f"semantic: there is no file '{semantic}';{nearest(semantic, ('torchvision', 'external', 'off'))} "
            f"use 'torchvision', or {_ALTERNATIVES}") from error
    return _load(found.path.resolve(), num_classes, key)


@cache
def warn_without_semantics() -> None:
    """Say once that a network has no semantic prior."""
    get_root_logger().warning(
        "ISALux with semantic 'off' has no semantic prior: results are not those of the paper's network")


@cache
def _load(file: Path, num_classes: int, key: str | None) -> SemanticPrior:
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large
    # initial values are overwritten: they must neither shift the caller's random numbers nor land on its device
    with torch.random.fork_rng(devices=[]), torch.device('cpu'):
        net = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=num_classes)
    try:
        load_into(net, load_weights(file, key).state, str(file))
    except UserError as error:
        raise UserError(f'semantic: {str(error).rstrip(".")}; {_ALTERNATIVES}') from error
    return SemanticPrior(net)

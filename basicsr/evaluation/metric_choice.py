"""Metrics by their short names: option blocks of those that were chosen, and which of them can run here."""
from __future__ import annotations

from typing import Any

from basicsr.config.overrides import set_option, split_path
from basicsr.config.signatures import signature_of
from basicsr.config.yaml_reader import parse_value
from basicsr.evaluation.evaluate import Metrics
from basicsr.evaluation.preconditions import try_metric
from basicsr.metrics import needs_gt
from basicsr.metrics.protocol import HONEST, get_protocol
from basicsr.registry import METRIC_REGISTRY
from basicsr.utils.errors import UserError, nearest
from basicsr.utils.logger import get_root_logger


def choose_metrics(names: list[str], protocol: str | None, settings: list[str], with_gt: bool) -> Metrics:
    """Option blocks of the metrics with these short names.

    Raises `UserError` for what does not exist, and without ground truth for metrics that need one.
    """
    known = {k.removeprefix('calculate_'): k for k in METRIC_REGISTRY.keys()}
    blocks: dict[str, dict[str, Any]] = {}
    for name in names:
        if name not in known:
            raise UserError(f"--metrics: there is no metric '{name}'.{nearest(name, known)} Known: {', '.join(known)}")
        blocks[name] = {'type': known[name]}
        if not with_gt and needs_gt(blocks[name]):
            raise UserError(f'--metrics: {name} needs a ground truth, and there is none')
        if protocol and 'protocol' in signature_of(METRIC_REGISTRY, known[name]).fields:
            blocks[name]['protocol'] = get_protocol(protocol).name
    for text in settings:
        path, equals, value = text.partition('=')
        parts = split_path(path)
        if not equals or len(parts) != 2 or parts[0] not in blocks:
            raise UserError(f"--set '{text}' is not of the form NAME.KEY=VALUE with a NAME of {', '.join(blocks)}")
        fields = signature_of(METRIC_REGISTRY, blocks[parts[0]]['type']).fields
        if parts[1] not in fields:
            allowed = [k for k in fields if k not in METRIC_REGISTRY.filled_in]
            raise UserError(f"--set: {parts[0]} has no '{parts[1]}'.{nearest(str(parts[1]), allowed)}"
                            f" It has: {', '.join(allowed)}")
        set_option(blocks, parts, parse_value(value))
    return blocks


def all_protocols() -> Metrics:
    """PSNR and SSIM under every protocol that does not use the answer: 'psnr retinexformer' and so on."""
    return {
        f'{metric} {protocol}': {'type': f'calculate_{metric}', 'protocol': protocol} for protocol in HONEST
        for metric in ('psnr', 'ssim')
    }


def available(metrics: Metrics, device: Any) -> tuple[Metrics, dict[str, str]]:
    """The metrics whose packages and weights are here, tried on noise, and what the others lack, which the log names as well.

    Raises `UserError` when there is none.
    """
    usable, lacking = {}, {}
    for label, block in metrics.items():
        try:
            try_metric(block, device)
        except UserError as error:
            lacking[label] = str(error)
            get_root_logger().warning(f'{label} is left out: {error}')
        else:
            usable[label] = block
    if not usable:
        raise UserError(f"none of the metrics can be measured here: {', '.join(metrics)}")
    return usable, lacking


def leave_out_unavailable(metrics: Metrics, device: Any) -> Metrics:
    """The first of `available`."""
    return available(metrics, device)[0]

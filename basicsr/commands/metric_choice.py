"""Metrics chosen on a command line: their arguments, which of them can run here, and the table of their values."""
from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from basicsr.utils.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np

Metrics = dict[str, dict[str, Any]]  # option blocks as below `val.metrics`, by short name

_SAMPLE = (192, 224)  # pixels; the least that any metric needs is NIQE's two blocks of 96x96


def add_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """`--metrics`, `--protocol` and `--set`. `default`: what is measured without them, in words."""
    parser.add_argument('--metrics', nargs='+', metavar='NAME', default=[], help=f'default: {default}')
    parser.add_argument('--protocol',
                        help='of the metrics that have one, see `basicsr list protocols`; default basicsr')
    parser.add_argument('--set', nargs='+', default=[], metavar='NAME.KEY=VALUE',
                        help='arguments of a metric, e.g. lpips.net=vgg')


def choose_metrics(names: list[str], protocol: str | None, settings: list[str], with_gt: bool) -> Metrics:
    """Option blocks of the metrics with these short names.

    Raises `UserError` for what does not exist, and without ground truth for metrics that need one.
    """
    from basicsr.config.overrides import set_option, split_path
    from basicsr.config.signatures import read_signature
    from basicsr.config.yaml_reader import parse_value
    from basicsr.metrics import needs_gt
    from basicsr.metrics.protocol import get_protocol
    from basicsr.registry import METRIC_REGISTRY
    known = {k.removeprefix('calculate_'): k for k in METRIC_REGISTRY.keys()}
    blocks: Metrics = {}
    for name in names:
        if name not in known:
            raise UserError(f"--metrics: there is no metric '{name}'.{nearest(name, known)} Known: {', '.join(known)}")
        blocks[name] = {'type': known[name]}
        if not with_gt and needs_gt(blocks[name]):
            raise UserError(f'--metrics: {name} needs a ground truth, and there is none')
        if protocol and 'protocol' in read_signature(METRIC_REGISTRY.index()[known[name]]).fields:
            blocks[name]['protocol'] = get_protocol(protocol).name
    for text in settings:
        path, equals, value = text.partition('=')
        parts = split_path(path)
        if not equals or len(parts) != 2 or parts[0] not in blocks:
            raise UserError(f"--set '{text}' is not of the form NAME.KEY=VALUE with a NAME of {', '.join(blocks)}")
        fields = read_signature(METRIC_REGISTRY.index()[blocks[parts[0]]['type']]).fields
        if parts[1] not in fields:
            allowed = [k for k in fields if k not in METRIC_REGISTRY.filled_in]
            raise UserError(f"--set: {parts[0]} has no '{parts[1]}'.{nearest(str(parts[1]), allowed)}"
                            f" It has: {', '.join(allowed)}")
        set_option(blocks, parts, parse_value(value))
    return blocks


def all_protocols() -> Metrics:
    """PSNR and SSIM under every protocol: 'psnr retinexformer' and so on."""
    from basicsr.metrics import PROTOCOLS
    return {
        f'{metric} {protocol}': {'type': f'calculate_{metric}', 'protocol': protocol} for protocol in PROTOCOLS
        for metric in ('psnr', 'ssim')
    }


def leave_out_unavailable(metrics: Metrics, device: Any) -> Metrics:
    """The metrics whose packages and weights are here, tried on noise; the log names the others, with what they lack.

    Raises `UserError` when there is none.
    """
    import numpy as np

    from basicsr.utils.logger import get_root_logger
    sample = np.random.RandomState(0).rand(2, *_SAMPLE, 3)
    usable = {}
    for label, block in metrics.items():
        try:
            measure_all(*sample, {label: block}, device)
        except UserError as error:
            get_root_logger().warning(f'{label} is left out: {error}')
        else:
            usable[label] = block
    if not usable:
        raise UserError(f"none of the metrics can be measured here: {', '.join(metrics)}")
    return usable


def measure_all(result: np.ndarray, gt: np.ndarray | None, metrics: Metrics, device: Any) -> dict[str, float]:
    """Values of RGB images in [0, 1]; without ground truth, of the metrics that need none."""
    from basicsr.metrics import measure, needs_gt
    return {
        label: measure(result, gt if needs_gt(block) else None, block, device) for label, block in metrics.items()
        if gt is not None or not needs_gt(block)
    }


def print_table(lines: dict[str, dict[str, float]], metrics: Metrics) -> None:
    """A line for each name in `lines`, '-' where it has no value; which direction is better, and the protocols."""
    from basicsr.metrics import better, describe
    width = max(len(name) for name in (*lines, 'better'))
    cell = max(10, *(len(label) + 2 for label in metrics))
    print(f'{"":<{width}}', *(f'{label:>{cell}}' for label in metrics))
    for name, values in lines.items():
        print(f'{name:<{width}}',
              *(f'{values[label]:{cell}.4f}' if label in values else f'{"-":>{cell}}' for label in metrics))
    print(f'{"better":<{width}}', *(f'{better(block):>{cell}}' for block in metrics.values()))
    for label, block in metrics.items():
        if describe(block):
            print(f'{label}: protocol {describe(block)}')

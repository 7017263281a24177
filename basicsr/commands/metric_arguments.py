"""The arguments that choose metrics."""
from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """`--metrics`, `--protocol` and `--set`. `default`: what is measured without them, in words."""
    parser.add_argument('--metrics', nargs='+', metavar='NAME', default=[], help=f'default: {default}')
    parser.add_argument('--protocol',
                        help='of the metrics that have one, see `basicsr list protocols`; default basicsr')
    parser.add_argument('--set', nargs='+', default=[], metavar='NAME.KEY=VALUE',
                        help='arguments of a metric, e.g. lpips.net=vgg')

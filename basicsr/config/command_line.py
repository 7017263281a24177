"""The command line that train.py and test.py share, in all spellings of the BasicSR family."""
from __future__ import annotations

import argparse
from typing import Any

from basicsr.utils.errors import UserError


def parse_command_line(description: str, argv: list[str] | None = None) -> argparse.Namespace:
    """Returns `opt` (path), `key`, `launcher`, `auto_resume`, `debug` and `overrides` (list of 'path=value')."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument('-opt', '--opt', '-o', dest='files', action='append', default=[], metavar='YAML',
                        help='option file')
    parser.add_argument('rest', nargs='*', metavar='path=value',
                        help='option file and/or overrides: train.total_iter=100')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none',
                        help='pytorch: under torchrun')
    parser.add_argument('--auto_resume', action='store_true', help='continue from the newest .state of this run')
    parser.add_argument('--debug', action='store_true',
                        help="prefix the name with 'debug_', validate and save every 8 iterations")
    parser.add_argument('--force_yml', nargs='+', default=[], metavar='k1:k2=v', help="overrides in BasicSR's spelling")
    parser.add_argument('--key', help='entry of the weight file, as path.param_key_g=KEY')
    # launchers add this; the rank comes from the environment
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_intermixed_args(argv)
    args.overrides = [r for r in args.rest if '=' in r] + args.force_yml
    if args.key is not None:
        args.overrides.append(f'path.param_key_g={args.key}')
    args.opt, *more = [*args.files, *(r for r in args.rest if '=' not in r)] or [None]
    if args.opt is None:
        raise UserError(f'no option file; try: {parser.prog} --opt Options/RetinexMamba_LOL_v1.yml')
    if more:
        raise UserError(f"'{more[0]}' is neither an override (path=value) nor needed: the option file is '{args.opt}'")
    return args


def check_key(path: dict[str, Any], key: str | None) -> None:
    """Raise `UserError` where the weights to start from have no entry of the name that `--key` gives.

    The option `path.param_key_g` alone says what is preferred, and takes another entry where the file has no such one.
    """
    if key is not None and path.get('pretrain_network_g'):
        from basicsr.utils.weights import load_weights
        load_weights(path['pretrain_network_g'], key)

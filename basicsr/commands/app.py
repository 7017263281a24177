"""A page in the browser for photos, on this machine only: app [--weights W ...]"""
from __future__ import annotations

import argparse
import importlib.util

from basicsr.utils.errors import UserError, run_main
from basicsr.utils.pretrained import OTHER_WEIGHTS


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--weights', nargs='+', metavar='FILE',
        help=f'what visitors choose from, the first at first: .pth or .safetensors, {OTHER_WEIGHTS};'
        ' default: those that come with the toolbox')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1, mps')
    parser.add_argument('--host', default='127.0.0.1',
                        help='address to listen at; the default is reached from this machine only')
    parser.add_argument('--port', type=int, default=7860, help='0 takes a free one')
    parser.add_argument('--open', action='store_true', help='also open it in the browser')
    parser.add_argument('--max_megabytes', type=int, default=200, metavar='N', help='of one photo')
    parser.add_argument('--max_megapixels', type=int, default=100, metavar='N', help='of one photo')
    parser.add_argument('--max_photos', type=int, default=20, metavar='N', help='of one visitor at a time')
    parser.add_argument('--max_waiting', type=int, default=20, metavar='N', help='visitors; others are sent away')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    if not importlib.util.find_spec('gradio'):
        raise UserError("the page needs gradio: pip install 'retinexmamba[app]'")
    limits = (args.max_megabytes, args.max_megapixels, args.max_photos, args.max_waiting)
    if min(limits) < 1:
        raise UserError('limits are positive numbers')
    from basicsr.app.desk import Desk, Limits
    from basicsr.app.serve import serve
    from basicsr.utils.machine import choose_device
    from basicsr.utils.pretrained import default_weights, locate, read_manifest
    from basicsr.utils.stopping import end_on_signals
    names = args.weights or sorted(read_manifest()['weights'], key=lambda name: name != default_weights())
    if not names:
        raise UserError('no weights come with this installation; name some with --weights')
    if not args.host:
        raise UserError('--host is a name or an address, 127.0.0.1 for this machine alone')
    for name in names:
        locate(name)
    desk = Desk(names, choose_device(args.device), Limits(*limits))
    for name in args.weights or ():
        desk.restorer(name)  # what is no network is told now, and not to a visitor
    end_on_signals()
    serve(desk, names[0], args.host, args.port, args.open,
          lambda address: print(f'{address}  (Ctrl-C ends)', flush=True))


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))

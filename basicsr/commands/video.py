"""Enhance a clip, with its sound: basicsr video CLIP -o OUT [--weights W]

Each frame comes back at its time, in a light that does not flicker. Sound, subtitles and chapters are copied as they are.
"""
from __future__ import annotations

import argparse
from importlib.util import find_spec

from basicsr.commands.amount_arguments import add_amount, amount_of, checked_knobs, parse_with_knobs
from basicsr.commands.weight_arguments import add_running, add_weights, restorer_of
from basicsr.utils.errors import UserError, run_main
from basicsr.utils.files import as_stored
from basicsr.utils.outputs import check_new, check_outputs

CODECS = ('h264', 'hevc', 'av1', 'vp9', 'ffv1')  # as `basicsr.video` has them, which needs PyAV


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('clip', type=as_stored, metavar='CLIP', help='a video file')
    parser.add_argument('-o', '--output', type=as_stored, required=True, metavar='OUT',
                        help='output file, whose suffix chooses the container: .mp4, .mov, .mkv, .webm, .ts')
    parser.add_argument('--overwrite', action='store_true', help='replace an output file that exists')
    add_weights(parser)
    add_amount(parser, 'clip')
    parser.add_argument('--codec', choices=CODECS,
                        help="default: the clip's own, where it can be written, else the first that such a file holds")
    parser.add_argument('--quality', type=int, metavar='CRF',
                        help='0 (best) to 51 or 63; default 18 of h264, 20 of hevc, 24 of av1 and vp9')
    parser.add_argument('--smooth', type=float, default=1., metavar='SECONDS',
                        help='over how long brightness is smoothed, against flicker; 0 is off (default 1)')
    parser.add_argument('--frames', type=int, metavar='N', help='only the first N frames')
    add_running(parser, 'frames')
    return parse_with_knobs(parser, argv)


def run(args: argparse.Namespace) -> int:
    amount = amount_of(args)
    if find_spec('av') is None:
        raise UserError("videos are read and written by PyAV: pip install 'retinexmamba[video]'")
    from basicsr.utils.stopping import end_on_signals
    from basicsr.video.clip import Clip
    from basicsr.video.encoding import check_codec
    from basicsr.video.enhance import Asked, enhance_clip
    end_on_signals()
    asked = Asked(amount, args.codec, args.quality, args.smooth, args.frames)
    check_codec(args.output, args.codec)
    check_outputs([args.output], [args.clip], '-o')
    check_new([args.output], args.overwrite)
    with Clip(args.clip):  # told before a network is loaded
        pass
    enhance_clip(restorer_of(args, checked_knobs(args)), args.clip, args.output, asked)
    return 0


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))

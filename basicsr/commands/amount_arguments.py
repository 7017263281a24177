"""The arguments that say how much of a network's work is wanted, and those that networks bring themselves."""
from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING

from basicsr.utils.errors import UserError, nearest

if TYPE_CHECKING:
    from basicsr.inference.amount import Amount

KNOBS = "a network's own knobs are arguments by their names, for instance --alpha_s 1.3 of CIDNet; see docs/enhancing.md"

_LIKE_A_NUMBER = re.compile(r'-[.,]?\d')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--strength`, `--exposure` and `--denoise`, as words; `--preview`."""
    add_amount(parser, 'photo')
    parser.add_argument('--preview', action='store_true',
                        help='a quick look: at most 1,000 pixels on the long side, less of the detail')


def add_amount(parser: argparse.ArgumentParser, of: str) -> None:
    """`--strength`, `--exposure` and `--denoise`, as words. `of`: what they are said of."""
    parser.epilog = KNOBS
    parser.add_argument(
        '--strength', default='auto', metavar='S', help=f'0 (the {of}) to 1 (the result) and on to 1.5, in'
        f' linear light; default auto: as much as the {of} needs')
    parser.add_argument('--exposure', default='0', metavar='STOPS',
                        help='-3 to 3: how much brighter the result is to be')
    parser.add_argument('--denoise', default='1', metavar='D',
                        help=f"0 (the {of}'s own grain) to 1 (what the network leaves of it)")


def parse_with_knobs(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The arguments; those that the parser does not know are in `knobs`, name to word, '' where none follows."""
    known = parser._option_string_actions
    words, knobs = list(sys.argv[1:] if argv is None else argv), {}
    rest: list[str] = []
    while words:
        word = words.pop(0)
        name, equals, value = word.partition('=')
        if word == '--':
            rest += [word, *words]
            break
        meant = [action for option, action in known.items() if name.startswith('--') and option.startswith(name)]
        if meant or not name.startswith('--'):
            # '-1,5' looks like an option to argparse, which would say that a value is missing; here it gets its own sentence
            takes = bool(meant) and not equals and all(action.nargs is None for action in meant)
            rest.append(f'{word}={words.pop(0)}' if takes and words and _LIKE_A_NUMBER.match(words[0]) else word)
            continue
        follows = not equals and words and not (words[0].startswith('-') and not _is_number(words[0]))
        knobs[name.removeprefix('--')] = words.pop(0) if follows else value
    args = parser.parse_intermixed_args(rest)
    args.knobs, args.flags = knobs, sorted(known)
    return args


def amount_of(args: argparse.Namespace) -> Amount:
    """Raises `UserError` for values out of range."""
    from basicsr.inference.amount import Amount
    return Amount.of_words(args.strength, args.exposure, args.denoise)


def checked_knobs(args: argparse.Namespace) -> dict[str, float]:
    """Raises `UserError` for names that no network declares and for values that are wrong for all that do."""
    if not args.knobs:
        return {}
    from basicsr.archs.knobs import check, declared
    there = declared()
    for name, word in args.knobs.items():
        if name not in there:
            hint = nearest(f'--{name}', [*args.flags, *(f'--{knob}' for knob in there)])
            raise UserError(f"there is no argument '--{name}'{'.' + hint if hint else '; --help lists all'}")
        if not _is_number(word):
            raise UserError(f"--{name} is a number, not '{word}'")
        check(name, float(word), there[name])
    return {name: float(word) for name, word in args.knobs.items()}


def _is_number(word: str) -> bool:
    try:
        float(word)
        return True
    except ValueError:
        return False

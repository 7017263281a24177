"""Train on a machine that is there for minutes at a time, without a network, reached by files of limited size.

    here    pack   --opt X.yml                  the data, in parts
            wheels --probe probe.json           packages that the machine lacks, in parts
            state  --opt X.yml                  the run so far, in parts
    there   probe  --json probe.json            what the machine has
            unpack DIR --root R                 parts that have arrived; what is still missing (exit status 1)
            report --opt X.yml --root R         throughput, and how many iterations fit
            train  --opt X.yml --root R --minutes 8
            state  --opt X.yml --root R --to DIR --part_mib 15
    here    unpack DIR                          the run, as if it had been trained here

Parts go to .pieces/outgoing, or where --to says. `probe` and `unpack` need nothing but Python, and pip for packages.
See docs/train_in_pieces.md.
"""
from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

STARTED = time.monotonic()
CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:1] = [str(CHECKOUT), str(CHECKOUT / 'scripts')]

from pieces.choices import begun_with, named_data, places, read_json
from pieces.packages import download, inspect_machine
from pieces.parts import collect, cut, waiting
from pieces.placing import in_order, put

from basicsr.utils.errors import UserError, run_main


def probe(args: argparse.Namespace) -> None:
    """What this machine has: Python, packages, GPU, room."""
    found = inspect_machine(args.root.parent)
    print(json.dumps({k: v for k, v in found.items() if k != 'installed'}, indent=1))
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1), encoding='utf-8')


def wheels(args: argparse.Namespace) -> None:
    """Download what a machine lacks, with what that needs, and pack it."""
    machine = read_json(args.probe, 'missing')
    if not machine['missing']:
        print('nothing is missing there')
        return
    folder = args.pieces / 'wheels'
    shutil.rmtree(folder, ignore_errors=True)
    _cut({f'.pieces/wheels/{path.name}': path for path in download(machine, folder)}, args, 'wheels')
    shutil.rmtree(folder)


def pack(args: argparse.Namespace) -> None:
    """The folders and files of all data sets of the option file, each once."""
    from basicsr.config.base import read_options
    from basicsr.config.files import find_value
    from basicsr.config.overrides import split_path
    _options(args, check_files=True)
    names, files = {}, {}
    lines = read_options(args.opt)[1]
    for key, text in named_data(args.opt, args.overrides).items():
        source = find_value(text, split_path(key), lines)
        name = names.setdefault(text, f'{len(names)}/{source.name}')
        inside = [source] if source.is_file() else sorted(p for p in source.rglob('*') if p.is_file())
        files |= {(Path('.pieces/data') / name / p.relative_to(source)).as_posix(): p for p in inside}
    listing = args.pieces / 'names.json'
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text(json.dumps(names, indent=1), encoding='utf-8')
    _cut({'.pieces/data/names.json': listing} | files, args, 'data')
    listing.unlink()


def state(args: argparse.Namespace) -> None:
    """The newest training state of the run and what it has written, without older states and weights."""
    from basicsr.engine.checkpoint import newest_state
    opt = _options(args)
    run = Path(opt['path']['experiments_root'])
    newest = newest_state(opt['path']['training_states'])
    if newest is None:
        raise UserError(f"there is no training state in '{opt['path']['training_states']}'")
    files = [newest, *run.glob('models/net_g_latest.pth'), *sorted(run.glob('best/*')), *sorted(run.glob('[!.]*.*'))]
    files += [path for path in (_choices(args, run.name), ) if path.is_file()]
    _cut({p.relative_to(args.root).as_posix(): p for p in files if p.is_file()}, args, f'{run.name}_{newest.stem}')


def unpack(args: argparse.Namespace) -> int:
    """Take parts that have arrived; put what is complete in its place, unless a run that uses it is going on. 1 while parts
    are missing."""
    arrived = args.pieces / 'arrived'
    missing = collect(map(Path, args.folders), arrived)
    refused = []
    for label in in_order(missing):
        try:
            said = f'still missing: {", ".join(missing[label])}' if missing[label] else put(arrived, label, args.root)
            print(f'{label}: {said}')
        except UserError as error:  # one that cannot be taken holds up no other
            refused.append(str(error))
    if refused:
        raise UserError('\n'.join(refused))
    return 1 if any(missing.values()) else 0


def report(args: argparse.Namespace) -> None:
    """How fast each candidate is here; `train --fastest` takes the one that gets furthest."""
    from basicsr.commands import throughput
    argv = ['--opt', args.opt, '--minutes', str(args.minutes), '--json', str(args.pieces / 'throughput.json')]
    argv += ['--iterations', str(args.iterations), '--candidates', args.candidates]
    argv += [*args.overrides, *places(args.opt, args.overrides, args.root)]
    throughput.run(throughput.parse(argv))


def train(args: argparse.Namespace) -> None:
    """Begin the run, or go on with it, for so many minutes."""
    from basicsr.engine.checkpoint import newest_state
    from basicsr.train import train_pipeline
    missing = [part for parts in waiting(args.pieces / 'arrived').values() for part in parts]
    if missing:
        raise UserError(f'still missing: {", ".join(missing)}; unpack them first, or remove {args.pieces / "arrived"}')
    opt = _options(args)
    ended = Path(opt['path']['models']) / 'net_g_latest.pth'
    if ended.is_file():
        print(f"nothing is left to do: '{ended}' is there")
        return
    chosen = _choose(args, opt)
    left = args.minutes - (time.monotonic() - STARTED) / 60
    train_pipeline(argv=[
        '--opt', args.opt, '--auto_resume', *chosen['changes'], *places(args.opt, chosen['overrides'], args.root),
        'logger.use_tb_logger=false', f'train.time_limit={max(left, 1e-9)}'
    ])
    at = newest_state(opt['path']['training_states'])
    print('the run has ended' if ended.is_file() else f'iteration {at.stem}; the run has not ended yet')


# --------------------------------------------------------------------------------------------------------- helpers


def _choose(args: argparse.Namespace, opt: dict[str, Any]) -> dict[str, Any]:
    """`total_iter` and overrides as asked for in the first piece, and the `changes` of the option file that come of them.

    They are kept beside the run and carried with it; later pieces, which go on from a state, train with the same.
    """
    from basicsr.config.overrides import as_overrides
    from basicsr.engine.checkpoint import newest_state
    file = _choices(args, opt['name'])
    if file.is_file() and newest_state(opt['path']['training_states']):
        kept = begun_with(read_json(file, 'total_iter', 'overrides', 'changes'), args.total_iter, args.overrides)
        print(f"as begun: {' '.join(kept['changes']) or 'no changes of the option file'}", flush=True)
        return kept
    changes = list(args.overrides)
    if args.total_iter:
        from basicsr.config.shorten import shortened
        total = opt['train']['total_iter']
        print(f'{args.total_iter} iterations instead of {total}, schedules in proportion', flush=True)
        changes += as_overrides(shortened(opt, args.total_iter))
    if args.fastest:
        changes += as_overrides(read_json(args.pieces / 'throughput.json', 'overrides')['overrides'])
    chosen = {'total_iter': args.total_iter, 'overrides': args.overrides, 'changes': changes}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(chosen, indent=1), encoding='utf-8')
    return chosen


def _choices(args: argparse.Namespace, run: str) -> Path:
    return args.pieces / f'{run}.json'


def _options(args: argparse.Namespace, check_files: bool = False) -> dict[str, Any]:
    from basicsr.config import load_options
    overrides = [*args.overrides, *places(args.opt, args.overrides, args.root)]
    return load_options(args.opt, overrides, is_train=True, check_files=check_files).opt


def _cut(files: dict[str, Path], args: argparse.Namespace, label: str) -> None:
    target = Path(args.to or args.pieces / 'outgoing')
    wanted = range(args.first, args.first + args.count) if args.count else range(args.first, sys.maxsize)
    names = cut(files, target, label, round(args.part_mib * 2**20), wanted)
    there = [name for name in names if (target / name).is_file()]
    mib = sum((target / name).stat().st_size for name in there) / 2**20
    rest = args.first + len(there)
    print(f'{label}: {len(there)} of {len(names)} parts, {mib:.1f} MiB, in {target}' +
          (f'; the next: --first {rest}' if rest < len(names) else ''))


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')

    def verb(function, *groups: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(function.__name__, help=function.__doc__.splitlines()[0])
        sub.set_defaults(function=function, overrides=[])
        sub.add_argument('--root', type=Path, default=CHECKOUT, help='folder of the run, its data and packages')
        if 'opt' in groups:
            sub.add_argument('--opt', '-opt', required=True, metavar='YAML', help='option file')
            sub.add_argument('overrides', nargs='*', metavar='path=value', help='e.g. name=second_run')
        if 'to' in groups:
            sub.add_argument('--to', metavar='DIR',
                             help='folder for the parts; earlier parts of the same are removed first')
            sub.add_argument('--part_mib', type=float, default=48, help='most MiB of a part')
            sub.add_argument('--first', type=int, default=0, metavar='N', help='parts from this number on')
            sub.add_argument('--count', type=int, metavar='N', help='so many parts')
        return sub

    verb(probe).add_argument('--json', metavar='FILE', help='also write it here')
    verb(wheels, 'to').add_argument('--probe', required=True, metavar='FILE', help='what `probe` has written there')
    verb(pack, 'opt', 'to')
    verb(state, 'opt', 'to')
    verb(unpack).add_argument('folders', nargs='+', metavar='DIR', help='folders with parts')
    for function in (report, train):
        sub = verb(function, 'opt')
        sub.add_argument('--minutes', type=float, required=True, help='what there is of time in one piece')
        if function is train:
            sub.add_argument('--total_iter', type=int,
                             help='length of the whole run, instead of that of the option file')
            sub.add_argument('--fastest', action='store_true', help='as the fastest candidate of `report`')
        else:
            sub.add_argument('--iterations', type=int, default=20, help='timed for each candidate')
            sub.add_argument('--candidates', metavar='LIST', default='float32,bf16',
                             help='of: float32, bf16, bf16+eager, bf16+compile, bf16+reduce-overhead')
    args = parser.parse_args(argv)
    args.root = args.root.resolve()
    args.pieces = args.root / '.pieces'
    sys.path.insert(1, str(args.pieces / 'site'))  # what `wheels` has brought
    return args


def run(argv: list[str] | None) -> int | None:
    args = parse(argv)
    return args.function(args)


if __name__ == '__main__':
    sys.exit(run_main(lambda: run(None)))

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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

STARTED = time.monotonic()
CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:1] = [str(CHECKOUT), str(CHECKOUT / 'scripts')]

from pieces.packages import download, inspect_machine, install
from pieces.parts import collect, cut, held, join, remove, waiting

from basicsr.utils.errors import UserError, run_main
from basicsr.utils.names import below


def probe(args: argparse.Namespace) -> None:
    """What this machine has: Python, packages, GPU, room."""
    found = inspect_machine(args.root.parent)
    print(json.dumps({k: v for k, v in found.items() if k != 'installed'}, indent=1))
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1), encoding='utf-8')


def wheels(args: argparse.Namespace) -> None:
    """Download what a machine lacks, with what that needs, and pack it."""
    machine = json.loads(_existing(args.probe).read_text(encoding='utf-8'))
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
    places = read_options(args.opt)[1]
    for key, text in _data(args).items():
        source = find_value(text, split_path(key), places)
        name = names.setdefault(text, f'{len(names)}/{source.name}')
        below = [source] if source.is_file() else sorted(p for p in source.rglob('*') if p.is_file())
        files |= {(Path('.pieces/data') / name / p.relative_to(source)).as_posix(): p for p in below}
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
    files = [newest, *run.glob('models/net_g_latest.pth'), *sorted(run.glob('best/*')), *sorted(run.glob('*.*'))]
    files += [path for path in (_choices(args, run.name), ) if path.is_file()]
    _cut({p.relative_to(args.root).as_posix(): p for p in files if p.is_file()}, args, f'{run.name}_{newest.stem}')


def unpack(args: argparse.Namespace) -> int:
    """Take parts that have arrived; put what is complete in its place, unless a run that uses it is going on. 1 while parts
    are missing."""
    arrived, complete = args.pieces / 'arrived', True
    for label, missing in collect(map(Path, args.folders), arrived).items():
        if missing:
            complete = False
            print(f'{label}: still missing: {", ".join(missing)}')
            continue
        with _unused(args.root / 'experiments', None if label == 'data' else held(arrived, label)):
            if label in ('data', 'wheels'):
                shutil.rmtree(args.pieces / label, ignore_errors=True)
            names = join(arrived, label, args.root)
        if label == 'wheels':
            install([args.root / name for name in names], args.pieces / 'site')
        remove(arrived, label)
        print(f'{label}: complete, {len(names)} files in {args.root}')
    return 0 if complete else 1


def report(args: argparse.Namespace) -> None:
    """How fast each candidate is here; `train --fastest` takes the one that gets furthest."""
    from basicsr.commands import throughput
    argv = ['--opt', args.opt, '--minutes', str(args.minutes), '--json', str(args.pieces / 'throughput.json')]
    argv += ['--iterations', str(args.iterations), '--candidates', args.candidates, *_places(args), *args.overrides]
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
    changes = _choose(args, opt)
    left = args.minutes - (time.monotonic() - STARTED) / 60
    train_pipeline(argv=[
        '--opt', args.opt, '--auto_resume', *_places(args), *changes, 'logger.use_tb_logger=false',
        f'train.time_limit={max(left, 1e-9)}'
    ])
    at = newest_state(opt['path']['training_states'])
    print('the run has ended' if ended.is_file() else f'iteration {at.stem}; the run has not ended yet')


# --------------------------------------------------------------------------------------------------------- helpers


@contextmanager
def _unused(folder: Path, names: list[str] | None) -> Iterator[None]:
    """Own the runs below `folder` that files of these names belong to, all runs where none are given, as training does.

    Raises `UserError` where a process owns one. Where the packages that training needs are missing, none can.
    """
    try:
        from basicsr.training.ownership import owned
    except ImportError:
        yield
        return
    parts = [Path(name).parts for name in names or ()]
    runs = {folder / part[1] for part in parts if part[0] == folder.name and len(part) > 2}
    with ExitStack() as stack:
        for run in sorted(runs if names is not None else (p for p in folder.glob('*') if p.is_dir())):
            stack.enter_context(owned(run, archive=False))
        yield


def _choose(args: argparse.Namespace, opt: dict) -> list[str]:
    """Overrides of the run: chosen in its first piece, kept beside it and carried with it, the same in every later one."""
    from basicsr.config.overrides import as_overrides
    file = _choices(args, opt['name'])
    asked = {'total_iter': args.total_iter, 'overrides': args.overrides}
    if file.is_file():
        kept = json.loads(file.read_text(encoding='utf-8'))
        for key, value in asked.items():
            if value and value != kept[key]:
                raise UserError(f"{key} {value} is not what this run was begun with ({kept[key]}); leave it out")
        print(f"as begun: {' '.join(kept['changes']) or 'no changes of the option file'}", flush=True)
        return kept['changes']
    changes = list(args.overrides)
    if args.total_iter:
        from basicsr.config.shorten import shortened
        total = opt['train']['total_iter']
        print(f'{args.total_iter} iterations instead of {total}, schedules in proportion', flush=True)
        changes += as_overrides(shortened(opt, args.total_iter))
    if args.fastest:
        speeds = json.loads(_existing(args.pieces / 'throughput.json').read_text(encoding='utf-8'))
        changes += as_overrides(speeds['overrides'])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asked | {'changes': changes}, indent=1), encoding='utf-8')
    return changes


def _choices(args: argparse.Namespace, run: str) -> Path:
    return args.pieces / f'{run}.json'


def _data(args: argparse.Namespace) -> dict[str, str]:
    """Option path and value of everything that names data, as the file and the command line say it."""
    from basicsr.config.base import read_options
    content = read_options(args.opt)[0]
    if content.get('stages'):
        raise UserError(f"'{args.opt}' has stages; only files of one run can be trained in pieces")
    blocks = content.get('datasets') if isinstance(content.get('datasets'), dict) else {}
    found = {
        f'datasets.{name}.{key}': value for name, block in blocks.items() if isinstance(block, dict)
        for key, value in block.items()
    }
    found |= dict(entry.split('=', 1) for entry in args.overrides if '=' in entry)
    named = ('dataroot', 'meta_info', 'roots')
    found = {k: v for k, v in found.items() if k.startswith('datasets.') and k.split('.')[2].startswith(named)}
    several = [key for key, value in found.items() if not isinstance(value, str)]
    if several:
        raise UserError(f'{", ".join(several)}: only data sets of single folders and files can be carried')
    return found


def _places(args: argparse.Namespace) -> list[str]:
    """Overrides: where the run is, and where the data are that were carried here."""
    from basicsr.config.overrides import as_overrides
    listing = args.pieces / 'data' / 'names.json'
    names = json.loads(listing.read_text(encoding='utf-8')) if listing.is_file() else {}
    found = {
        key: str(below(listing.parent, names[text], what=f"'{listing}'")) for key, text in _data(args).items()
        if text in names
    }
    return as_overrides(found | {'path.experiments_root': str(args.root / 'experiments')})


def _options(args: argparse.Namespace, check_files: bool = False) -> dict:
    from basicsr.config import load_options
    return load_options(args.opt, [*args.overrides, *_places(args)], is_train=True, check_files=check_files).opt


def _existing(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise UserError(f"there is no file '{path}'")
    return Path(path)


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
            sub.add_argument('--to', metavar='DIR', help='folder for the parts; parts in it are removed first')
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

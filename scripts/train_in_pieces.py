"""Train on a machine that is there for minutes at a time, without a network, reached by files of limited size.

    here    pack   --opt X.yml --to up          the data, in parts
            wheels --probe probe.json --to up   packages that the machine lacks, in parts
            state  --opt X.yml --to up          the run so far, in parts
    there   probe  --json probe.json            what the machine has
            unpack up --root R                  parts that have arrived; what is still missing
            report --opt X.yml --root R         throughput, and how many iterations fit
            train  --opt X.yml --root R --minutes 9
            state  --opt X.yml --root R --to down --part_mib 15
    here    unpack down                         the run, as if it had been trained here

`probe` and `unpack` need nothing but Python. See docs/train_in_pieces.md.
"""
from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[0] = str(CHECKOUT)

from basicsr.utils.errors import UserError, run_main
from basicsr.utils.parts import collect, cut, join

# distribution: module, of what training needs; torch itself must be there
NEEDED = {'torch': 'torch', 'numpy': 'numpy', 'opencv-python-headless': 'cv2', 'pyyaml': 'yaml', 'pydantic': 'pydantic',
          'addict': 'addict', 'natsort': 'natsort', 'lmdb': 'lmdb', 'einops': 'einops', 'safetensors': 'safetensors',
          'tqdm': 'tqdm', 'matplotlib': 'matplotlib'}  # yapf: disable


def probe(args: argparse.Namespace) -> None:
    """What this machine has: Python, packages, GPU, room."""
    missing = [name for name, module in NEEDED.items() if importlib.util.find_spec(module) is None]
    found = {'python': '.'.join(platform.python_version_tuple()[:2]), 'platform': platform.platform(), 'missing': missing,
             'disk_gib': round(shutil.disk_usage(args.root).free / 2**30, 1)}  # yapf: disable
    if 'torch' not in missing:
        import torch
        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        found |= {'torch': torch.__version__, 'cuda': torch.version.cuda, 'gpus': gpus,
                  'triton': importlib.util.find_spec('triton') is not None}  # yapf: disable
    print(json.dumps(found, indent=1))
    found['installed'] = sorted({_plain(d.metadata['Name']) for d in metadata.distributions()})
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1), encoding='utf-8')


def wheels(args: argparse.Namespace) -> None:
    """Download what a machine lacks, with what that needs, and pack it."""
    found = json.loads(_existing(args.probe).read_text(encoding='utf-8'))
    missing = [name for name in found['missing'] if name != 'torch']
    if 'torch' in found['missing']:
        raise UserError('the machine has no PyTorch, which is too large to be carried')
    if not missing:
        print('nothing is missing there')
        return
    folder = args.root / 'wheels'
    shutil.rmtree(folder, ignore_errors=True)
    targets = [f'--platform=manylinux_2_{n}_x86_64' for n in range(17, 40)] + ['--platform=manylinux2014_x86_64']
    done = subprocess.run([sys.executable, '-m', 'pip', 'download', '--quiet', '--disable-pip-version-check',
                           '--only-binary=:all:', f'--python-version={found["python"]}', *targets, '--dest', str(folder),
                           *missing], check=False)  # yapf: disable
    if done.returncode:
        raise UserError(f'pip could not download {", ".join(missing)} for Python {found["python"]}')
    # what it has stays as it is: another NumPy in front of the one that PyTorch was built with would not do
    new = [path for path in sorted(folder.iterdir()) if _plain(path.name.split('-')[0]) not in found['installed']]
    _cut({f'wheels/{path.name}': path for path in new}, args, 'wheels')


def pack(args: argparse.Namespace) -> None:
    """The folders of all data sets of the option file, each once."""
    opt = _options(args, check_files=True)
    folders: dict[str, str] = {}
    keys = {}
    for block, data in opt['datasets'].items():
        for key in [k for k in data if k.startswith(('dataroot', 'meta_info')) and isinstance(data[k], str)]:
            keys[f'datasets.{block}.{key}'] = folders.setdefault(data[key], f'carried/{len(folders)}')
    files = {}
    for source, name in folders.items():
        path = Path(source)
        if path.is_file():
            files[name] = path
        files |= {f'{name}/{p.relative_to(path).as_posix()}': p for p in sorted(path.rglob('*')) if p.is_file()}
    listing = args.root / 'carried' / 'roots.json'
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text(json.dumps(keys, indent=1), encoding='utf-8')
    _cut({'carried/roots.json': listing} | files, args, 'data')
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
    _cut({f'experiments/{run.name}/{p.relative_to(run).as_posix()}': p for p in files if p.is_file()}, args,
         f'{run.name}_{newest.stem}')  # yapf: disable


def unpack(args: argparse.Namespace) -> None:
    """Take parts that have arrived; put what is complete in its place."""
    waiting = args.root / 'parts'
    for label, missing in collect(map(Path, args.folders), waiting).items():
        if missing:
            print(f'{label}: still missing: {", ".join(missing)}')
            continue
        names = join(waiting, label, args.root)
        print(f'{label}: complete, {len(names)} files in {args.root}')
        if label == 'wheels':
            subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', '--no-index', '--no-deps', '--upgrade',
                            '--target', str(args.root / 'site'), *(str(args.root / name) for name in names)],
                           check=True)  # yapf: disable


def report(args: argparse.Namespace) -> None:
    """How fast each candidate is here; `train --fastest` takes the fastest."""
    from basicsr.commands import throughput
    argv = ['--opt', args.opt, '--minutes', str(args.minutes), '--json', str(args.root / 'throughput.json')]
    argv += ['--iterations', str(args.iterations), '--candidates', args.candidates, *_places(args), *args.overrides]
    throughput.run(throughput.parse(argv))


def train(args: argparse.Namespace) -> None:
    """Begin the run, or go on with it, for so many minutes."""
    from basicsr.engine.checkpoint import newest_state
    from basicsr.train import train_pipeline
    opt = _options(args)
    ended = Path(opt['path']['models']) / 'net_g_latest.pth'
    if ended.is_file():
        print(f"nothing is left to do: '{ended}' is there")
        return
    total, changes = opt['train']['total_iter'], []
    if args.total_iter:
        from basicsr.config.shorten import shortened
        print(f'{args.total_iter} iterations instead of {total}, schedules in proportion', flush=True)
        changes = _entries(shortened(opt, args.total_iter))
    if args.fastest:
        changes += _entries(
            json.loads(_existing(args.root / 'throughput.json').read_text(encoding='utf-8'))['overrides'])
    train_pipeline(argv=['--opt', args.opt, '--auto_resume', *_places(args), *args.overrides, *changes,
                         f'train.time_limit={args.minutes}'])  # yapf: disable
    print('the run has ended' if ended.is_file() else
          f"iteration {newest_state(opt['path']['training_states']).stem} of {args.total_iter or total}; not ended yet")


# --------------------------------------------------------------------------------------------------------- helpers


def _places(args: argparse.Namespace) -> list[str]:
    """Overrides: where the run is, and where the data are that were carried here."""
    listing = args.root / 'carried' / 'roots.json'
    keys = json.loads(listing.read_text(encoding='utf-8')) if listing.is_file() else {}
    return _entries({key: str(args.root / name) for key, name in keys.items()} |
                    {'path.experiments_root': str(args.root / 'experiments')})  # yapf: disable


def _plain(name: str) -> str:
    """The name of a distribution as pip compares it."""
    return re.sub(r'[-_.]+', '-', name).lower()


def _entries(changes: dict) -> list[str]:
    return [f'{key}={json.dumps(value)}' for key, value in changes.items()]


def _options(args: argparse.Namespace, check_files: bool = False) -> dict:
    from basicsr.config import load_options
    return load_options(args.opt, [*_places(args), *args.overrides], is_train=True, check_files=check_files).opt


def _existing(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise UserError(f"there is no file '{path}'")
    return Path(path)


def _cut(files: dict[str, Path], args: argparse.Namespace, label: str) -> None:
    """Pack into parts; with --at_most, hand out only the next ones, and the rest with the next calls."""
    waiting = args.root / 'outgoing'
    if not (waiting / f'{label}.json').is_file():
        shutil.rmtree(waiting, ignore_errors=True)
        cut(files, waiting, label, round(args.part_mib * 2**20))
    parts = sorted(waiting.glob('*.part'))
    count = len(json.loads((waiting / f'{label}.json').read_text(encoding='utf-8'))['parts'])
    chosen = parts[:args.at_most]
    Path(args.to).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(waiting / f'{label}.json', Path(args.to, f'{label}.json'))
    for part in chosen:
        shutil.move(part, Path(args.to, part.name))
    mib = sum(Path(args.to, part.name).stat().st_size for part in chosen) / 2**20
    left = len(parts) - len(chosen)
    print(f'{label}: {len(chosen)} of {count} parts, {mib:.1f} MiB, in {args.to}'
          + (f'; {left} are left for the next call' if left else ''))  # yapf: disable
    if not left:
        shutil.rmtree(waiting)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')

    def verb(function, *flags: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(function.__name__, help=function.__doc__.splitlines()[0])
        sub.set_defaults(function=function, overrides=[])
        sub.add_argument('--root', type=Path, default=CHECKOUT, help='folder of the run, its data and packages')
        if 'opt' in flags:
            sub.add_argument('--opt', '-opt', required=True, metavar='YAML', help='option file')
            sub.add_argument('overrides', nargs='*', metavar='path=value', help='the same in every call')
        if 'to' in flags:
            sub.add_argument('--to', required=True, metavar='DIR', help='folder that the parts go into')
            sub.add_argument('--part_mib', type=float, default=48, help='most MiB of a part')
            sub.add_argument('--at_most', type=int, metavar='N', help='only the next N parts; call again for the rest')
        return sub

    verb(probe).add_argument('--json', metavar='FILE', help='also write it here')
    verb(wheels, 'to').add_argument('--probe', required=True, metavar='FILE', help='what `probe` has written there')
    verb(pack, 'opt', 'to')
    verb(state, 'opt', 'to')
    verb(unpack).add_argument('folders', nargs='+', metavar='DIR', help='folders with parts')
    for function in (report, train):
        sub = verb(function, 'opt')
        sub.add_argument('--minutes', type=float, required=True, help='what there is of time')
        if function is train:
            sub.add_argument(
                '--total_iter', type=int, help='length of the whole run, instead of that of the option file')
            sub.add_argument('--fastest', action='store_true', help='as the fastest candidate of `report`')
        else:
            sub.add_argument('--iterations', type=int, default=20, help='timed for each candidate')
            sub.add_argument('--candidates', metavar='LIST', default='float32,bf16',
                             help='of: float32, bf16, bf16+compile, bf16+cuda-graphs')  # yapf: disable
    args = parser.parse_args(argv)
    args.root = args.root.resolve()
    sys.path.insert(1, str(args.root / 'site'))  # what `wheels` has brought
    return args


def run(argv: list[str] | None) -> None:
    args = parse(argv)
    args.function(args)


if __name__ == '__main__':
    sys.exit(run_main(lambda: run(None)))

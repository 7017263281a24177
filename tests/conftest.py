"""Small synthetic pairs and options that train in seconds."""
from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from basicsr.config import load_options
from basicsr.registry import ARCH_REGISTRY, DATASET_REGISTRY, REGISTRIES
from basicsr.utils.errors import UserError
from basicsr.utils.logger import close_log_file, get_root_logger

get_root_logger()  # now: on first use inside a test, its handler would keep the stream that the test captures

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / 'shared'
GOOD_OPTIONS = (ROOT / 'tests' / 'option_files' / 'small.yml').read_text(encoding='utf-8')


@pytest.fixture(scope='module', autouse=True)
def settled():
    """What modules before have left behind is not gone through again by every collection of garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fresh_log():
    """A run that a test lets fail leaves its log file open, as a process that ends may; the next test is another run."""
    yield
    close_log_file()
    for handler in logging.getLogger('basicsr').handlers:
        getattr(handler, 'records', []).clear()


@pytest.fixture(autouse=True)
def nothing_left_from_outside():
    """Files and classes from outside that a test makes known are none of the next one's."""
    before = [(registry, list(registry._extra), dict(registry._objects)) for registry in REGISTRIES]
    yield
    for registry, files, objects in before:
        for name, obj in list(registry._objects.items()):
            file = Path(getattr(sys.modules.get(obj.__module__), '__file__', None) or '').resolve()
            if name in objects:
                registry._objects[name] = objects[name]
            elif not any(file.is_relative_to(ROOT / place) for place in ('basicsr', 'Ablation_Model')):
                del registry._objects[name]
        registry._extra[:], registry._index = files, None


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder with four pairs `{input,target}/{1,2,3,10}.png` of 28x24 pixels; inputs are darker targets."""
    rng = np.random.RandomState(0)
    for name in ('1', '2', '3', '10'):
        target = rng.randint(60, 256, (24, 28, 3), np.uint8)
        for side, img in (('input', target // 4), ('target', target)):
            (tmp_path / 'data' / side).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / 'data' / side / f'{name}.png'), img)
    return tmp_path / 'data'


@pytest.fixture
def tiny_options(tmp_path: Path, pairs: Path):
    """Writes option files of a tiny RetinexMamba run below `tmp_path`; keyword arguments are nested overrides."""

    def write(name: str = 'tiny', **changes: Any) -> Path:
        data = {'type': 'PairedImageDataset', 'dataroot_lq': str(pairs / 'input'), 'dataroot_gt': str(pairs / 'target')}
        options = {
            'name': name,
            'model_type': 'ImageCleanModel',
            'scale': 1,
            'num_gpu': 0,
            'manual_seed': 3,
            'datasets': {
                'train': {
                    **data, 'name': 'toy', 'gt_size': 16, 'geometric_augs': True, 'batch_size_per_gpu': 2,
                    'num_worker_per_gpu': 0, 'dataset_enlarge_ratio': 3
                },
                'val': {**data, 'name': 'toy'},
            },
            'network_g': {'type': 'RetinexMamba', 'n_feat': 4, 'num_blocks': [1, 1, 1], 'd_state': 2},
            'path': {'experiments_root': str(tmp_path / 'experiments'), 'results_root': str(tmp_path / 'results')},
            'train': {
                'total_iter': 4,
                'optim_g': {'type': 'Adam', 'lr': 1e-3},
                'scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [100]},
                'pixel_opt': {'type': 'L1Loss'},
            },
            'val': {'val_freq': 4, 'metrics': {'psnr': {'type': 'calculate_psnr'}}},
            'logger': {'print_freq': 1, 'save_checkpoint_freq': 4, 'use_tb_logger': False},
        }
        _merge(options, changes)
        file = tmp_path / f'{name}.yml'
        file.write_text(yaml.safe_dump(options, sort_keys=False))
        return file

    return write


@pytest.fixture
def tiny_model(tiny_options):
    """Builds the model of a training run from `network_g`, `datasets.train` and changes of `train`."""
    small = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}

    def build(network: dict[str, Any] | None = None, data: dict[str, Any] | None = None, **train: Any) -> Any:
        from basicsr.models import build_model
        from basicsr.training.launch import start_run
        options = tiny_options(network_g=network or small, datasets={'train': data or {}}, train=train)
        return build_model(start_run(load_options(options, is_train=True)))

    return build


@pytest.fixture
def task_options(tiny_options, tmp_path, monkeypatch):
    """Writes options whose data set gives each item a task; `counts` are images per task."""

    def write(counts, **changes):
        rng = np.random.RandomState(1)
        for n, (task, count) in enumerate(counts.items()):
            for i in range(count):
                target = rng.randint(0, 256, (13 + n, 19, 3), np.uint8)  # no multiple of anything
                for side, img in (('input', target // (n + 2)), ('target', target)):
                    (tmp_path / 'tasks' / task / side).mkdir(parents=True, exist_ok=True)
                    cv2.imwrite(str(tmp_path / 'tasks' / task / side / f'{i}.png'), img)
        block = {'type': 'TaskDataset', 'name': 'mixed', 'dataroot': str(tmp_path / 'tasks'), 'tasks': list(counts)}
        file = ROOT / 'tests' / 'third_party' / 'task_dataset.py'
        return tiny_options(dataset_files=[str(file)], datasets={'val': block}, **changes)

    for name, value in (('_extra', []), ('_index', None), ('_objects', dict(DATASET_REGISTRY._objects))):
        monkeypatch.setattr(DATASET_REGISTRY, name, value)  # the other tests do not know the data set of these
    return write


@pytest.fixture
def load(tmp_path):
    """`load(text, ...)`: options of a file with that text; strings replace parts of `GOOD_OPTIONS` when given as pairs."""

    def inner(text=GOOD_OPTIONS, *pairs, overrides=None, is_train=True, check_files=False, **kwargs):
        for old, new in pairs:
            assert text.count(old) == 1, f'{old!r} stands {text.count(old)} times in the file'
            text = text.replace(old, new)
        file = tmp_path / 'run.x4.yml'
        file.write_text(text, encoding='utf-8')
        return load_options(file, overrides, is_train=is_train, check_files=check_files, **kwargs)

    return inner


@pytest.fixture
def golden(monkeypatch):
    """The tools beside the checkout: outputs of published networks, images and weights that follow from their names."""
    if not (SHARED / 'golden').is_dir():
        pytest.skip('the golden files are not part of the checkout')
    monkeypatch.syspath_prepend(SHARED / 'tools')
    import golden as tools
    yield tools
    sys.modules.pop('golden', None)


@pytest.fixture
def published(golden):
    """Gives the case of a golden file's stem, and its network, with other arguments where asked, filled as it was there."""
    from basicsr.archs import build_network

    def load(name: str, **arguments: Any) -> tuple[Any, Any]:
        case = golden.load_case(SHARED / 'golden' / f'{name}.npz')
        net = build_network(case.options | arguments).eval()
        return case, golden.fill_(net, case.meta['seed'], tuple(case.meta.get('skip', ())))

    return load


@pytest.fixture
def messages():
    """What the toolbox logs; its logger does not propagate, so `caplog` would see nothing."""
    logger, found = get_root_logger(), []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def option_error(load, *args: Any, **kwargs: Any) -> str:
    """The message of the `UserError` that loading raises."""
    with pytest.raises(UserError) as caught:
        load(*args, **kwargs)
    return str(caught.value)


def _merge(target: dict, changes: dict) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict) and 'type' not in value:
            _merge(target[key], value)
        else:
            target[key] = value


def outside_of_make() -> dict[str, str]:
    """The environment without what a `make` above has set, such as the variables of its command line."""
    variables = ('MAKEFLAGS', 'MAKEOVERRIDES', 'MAKELEVEL', 'MFLAGS', 'VENV', 'PYTHON', 'CONSTRAINTS', 'TORCH')
    return {k: v for k, v in os.environ.items() if k not in variables}


def run_python(*args: str | Path, cwd: Path | None = None, **kwargs: Any) -> subprocess.CompletedProcess:
    """A fresh interpreter of this environment, output captured as text. One that hangs ends with the limit of its test."""
    return subprocess.run([sys.executable, *map(str, args)], cwd=cwd, capture_output=True, text=True, **kwargs)


@pytest.fixture
def start(tiny_options, tmp_path):
    """Trains a small run; returns exit code and the run's folder. Overrides as on the command line."""

    from basicsr.train import main as train

    def inner(name: str, *overrides: str, **changes) -> tuple[int, Path]:
        network = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}
        options = tiny_options(name, network_g=network, logger={'save_checkpoint_freq': 2}, **changes)
        return train([str(options), *overrides]), tmp_path / 'experiments' / name

    return inner


@pytest.fixture
def study(tiny_options, tmp_path, monkeypatch):
    """Writes `study.yml` with variants as given and returns its path; the base is a tiny RetinexMamba."""
    base = tiny_options('base')
    monkeypatch.setattr(ARCH_REGISTRY, '_extra', [])  # the other tests do not know the networks of these
    monkeypatch.setattr(ARCH_REGISTRY, '_index', None)

    def write(*variants, **more):
        file = tmp_path / 'study.yml'
        file.write_text(yaml.safe_dump({'base': str(base), 'variants': list(variants), **more}, sort_keys=False))
        return file

    return write


@pytest.fixture
def nets(tmp_path):
    """A folder with the weight files that boards compare, see tests/boards.py."""
    from boards import write_nets
    return write_nets(tmp_path)


@pytest.fixture
def board(nets, pairs):
    """Writes boards of these, on `pairs`."""
    from boards import writer
    return writer(nets, pairs)

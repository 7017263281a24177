"""The wheel, installed into an environment of its own, far from the checkout, on a machine without a C compiler."""
from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='auditwheel is for Linux')


@pytest.fixture(scope='session')
def wheel() -> Path:
    """What `make wheel` builds."""
    done = subprocess.run(['make', 'wheel', f'VENV={sys.prefix}'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found, = (ROOT / 'dist').glob('*.whl')
    return found


@pytest.fixture(scope='session')
def basicsr(wheel, tmp_path_factory) -> Callable[..., str]:
    """Runs the command of the installed wheel in an empty folder, with nothing on the path but the environment."""
    folder = tmp_path_factory.mktemp('away')
    python = folder / 'venv' / 'bin' / 'python'
    subprocess.run([sys.executable, '-m', 'venv', folder / 'venv'], check=True)
    install = [python, '-m', 'pip', 'install', '--quiet', '-c', ROOT / 'constraints.txt', wheel]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    environment = {'PATH': str(python.parent), 'HOME': str(folder / 'home'), 'OMP_NUM_THREADS': '1'}

    def run(*words: object) -> str:
        done = subprocess.run([python.with_name('basicsr'), *map(str, words)], cwd=folder, env=environment,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run.folder = folder
    return run


def test_it_is_for_linux_and_any_python_and_holds_what_ships(wheel):
    assert re.fullmatch(r'retinexmamba-[\d.]+-py3-none-manylinux_2_\d+_x86_64\.whl', wheel.name)
    inside = zipfile.ZipFile(wheel).namelist()
    for name in ('Options/RetinexMamba_demo.yml', 'Options/schema.json', 'Ablation_Model/retinexmamba.yml',
                 'pretrained_weights/manifest.json', 'pretrained_weights/retinexmamba_tiny.safetensors',
                 'data/demo/test/input/peaks.png'):
        assert f'basicsr/shipped/{name}' in inside
    assert any(re.match(r'basicsr/ops/native/_scan.*\.so', name) for name in inside)
    assert not any(name.startswith(('tests/', 'benchmarks/')) for name in inside)


def test_the_kernels_work_without_a_compiler(basicsr):
    said = basicsr('doctor')
    assert re.search(r'C compiler: +none', said) and re.search(r'^  native +works', said, re.MULTILINE)


def test_it_enhances_a_photo(basicsr):
    photo = ROOT / 'data' / 'demo' / 'test' / 'input' / 'peaks.png'
    basicsr('enhance', photo, '-o', 'bright.png', '--weights', 'retinexmamba_tiny')
    dark, bright = cv2.imread(str(photo)), cv2.imread(str(basicsr.folder / 'bright.png'))
    assert bright.shape == dark.shape and bright.mean() > 2 * dark.mean()


def test_it_trains_on_the_demo(basicsr):
    basicsr('train', '--opt', 'Options/RetinexMamba_demo.yml', 'train.total_iter=4', 'val.val_freq=4',
            'logger.save_checkpoint_freq=4')
    run = basicsr.folder / 'experiments' / 'RetinexMamba_demo'
    assert (run / 'models' / 'net_g_latest.pth').is_file() and (run / 'metrics.csv').is_file()


def test_the_variants_are_found_inside(basicsr):
    said = basicsr('list', 'networks')
    assert 'RetinexMambaFFN' in said

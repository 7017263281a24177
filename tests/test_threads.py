"""Threads sleep while they wait: set by the commands, before PyTorch is there, and never over what the user says."""
from __future__ import annotations

import os

import pytest
from conftest import ROOT, run_python

COMMANDS = [
    '-m basicsr', 'basicsr/train.py', 'basicsr/test.py', 'Enhancement/enhance.py', 'Enhancement/test_from_dataset.py'
]
SHOW = """
import runpy, sys
import basicsr.utils.errors as errors
run = errors.run_main
def shown(main):
    def inside():
        import os
        assert 'torch' not in sys.modules
        print('policy', os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))
    return run(inside)
errors.run_main = shown
target, = sys.argv[1:]
sys.argv = [target]
runpy.run_module('basicsr', run_name='__main__') if target == '-m basicsr' else runpy.run_path(target, run_name='__main__')
"""


@pytest.mark.parametrize('command', COMMANDS)
@pytest.mark.parametrize('said, wanted', [({}, 'PASSIVE 3000'), ({'OMP_WAIT_POLICY': 'ACTIVE'}, 'ACTIVE None'),
                                          ({'GOMP_SPINCOUNT': '7'}, 'None 7')], ids=str)
def test_commands_set_it_before_pytorch_is_there(command, said, wanted):
    env = {k: v
           for k, v in os.environ.items() if k not in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME')} | said
    done = run_python('-c', SHOW, command, cwd=ROOT, env=env)
    assert f'policy {wanted}' in done.stdout, done.stderr


def test_importing_the_package_changes_nothing():
    env = {k: v for k, v in os.environ.items() if k != 'OMP_WAIT_POLICY'}
    done = run_python('-c', 'import os, basicsr.archs; print(os.environ.get("OMP_WAIT_POLICY"))', cwd=ROOT, env=env)
    assert done.stdout == 'None\n', done.stderr

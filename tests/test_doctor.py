"""What `basicsr doctor` says, and the self-check of the scan backends."""
from __future__ import annotations

import pytest

from basicsr.commands import doctor
from basicsr.ops.backend_table import BACKENDS, OPERATORS
from basicsr.ops.self_check import check


def test_doctor(capsys):
    assert doctor.main([]) == 0
    out = capsys.readouterr().out
    for line in ('reference  works', 'torch      works', 'native     works',
                 'triton     not available: |triton     works', 'compute capability|none', 'CPU: ', 'torch ',
                 'kernels for: baseline', 'C kernels:    built when installing'):
        assert any(part in out for part in line.split('|')), line
    for row in BACKENDS.values():
        assert f'{row.summary}; runs on: {row.where}; needs: {row.needs}' in out


def test_doctor_notices_a_wrong_backend(monkeypatch, capsys):
    from basicsr.ops.native import ss2d
    right = ss2d.forward
    monkeypatch.setattr(ss2d, 'forward', lambda *args: (right(*args)[0] * 1.01, right(*args)[1]))
    assert doctor.main([]) == 2
    assert 'native     WRONG' in capsys.readouterr().out


@pytest.mark.parametrize('op', OPERATORS)
def test_the_self_check_notices_nan_in_any_gradient(monkeypatch, op):
    from basicsr.ops.native import sequence, ss2d
    module = {'ss2d': ss2d, 'sequence': sequence}[op]
    right = module.backward
    for which in range(6):
        monkeypatch.setattr(module, 'backward', lambda *args, which=which: spoiled(right(*args), which))
        assert check(BACKENDS['native']) == ('WRONG: error nan', True)


def spoiled(tensors, which):
    return tuple(t * float('nan') if i == which else t for i, t in enumerate(tensors))

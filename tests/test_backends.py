"""Choosing a backend, its row in the table, surviving forks, and installing without a compiler."""
from __future__ import annotations

import logging
import os
import re
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import ROOT, run_python
from test_ss2d import inputs

from basicsr.ops import backend, backend_table
from basicsr.ops import prepare as ahead
from basicsr.ops.backend_table import BACKENDS, BY_PRIORITY, DEVICES, OPERATORS
from basicsr.ops.cuda import prepare as cuda_prepare
from basicsr.ops.cuda.plans import Kind
from basicsr.ops.native import library as native
from basicsr.ops.selective_scan import selective_scan
from basicsr.ops.ss2d import ss2d_scan
from basicsr.utils.errors import UserError

FORK = '''
import os, sys, torch
sys.path.insert(0, {root!r})
sys.path.insert(0, {root!r} + '/tests')
from test_ss2d import inputs
from basicsr.ops.ss2d import ss2d_scan
torch.set_num_threads(2)
args = inputs(2, 20, 20, 32, 4, 2)
want = ss2d_scan(*args)
class Scans(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, i): return ss2d_scan(*args)
if __name__ == '__main__':
    pid = os.fork()
    if pid == 0:
        os._exit(0 if torch.equal(ss2d_scan(*args), want) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for batch in torch.utils.data.DataLoader(Scans(), num_workers=2):
        assert torch.equal(batch[0], want)
    print('alive')
'''


@pytest.fixture(autouse=True)
def fresh():
    caches = (backend._decide, backend._log, backend._warn_slow)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def messages():
    """What is logged, as text."""
    seen: list[str] = []

    class Collect(logging.Handler):

        def emit(self, record):
            seen.append(record.getMessage())

    handler = Collect()
    logging.getLogger('basicsr').addHandler(handler)
    yield seen
    logging.getLogger('basicsr').removeHandler(handler)


def test_choice_by_itself_is_logged_once(messages, monkeypatch):
    monkeypatch.delenv('BASICSR_SCAN', raising=False)
    for _ in range(3):
        ss2d_scan(*inputs(1, 3, 4, 5, 3, 2))
    assert [m for m in messages if 'selective scan' in m] == [
        f'selective scan (ss2d, float32 on cpu): backend native ({native.supported_isas()[-1]}); the fastest here'
    ]


def test_float64_takes_plain_pytorch_and_says_why(messages):
    ss2d_scan(*inputs(1, 3, 4, 5, 3, 2, dtype=torch.float64))
    assert any('backend torch; the C kernels are float32 only' in m for m in messages)


def test_a_slow_choice_warns_once(messages, monkeypatch):
    monkeypatch.setattr(native, 'kernels', lambda: native.Kernels(None, 'there is no C compiler; install gcc'))
    large = inputs(1, 64, 64, 64, 17, 2)
    for _ in range(2):
        ss2d_scan(*large)
    warnings = [m for m in messages if 'many times slower' in m]
    assert len(warnings) == 1 and 'install gcc' in warnings[0] and 'basicsr doctor' in warnings[0]
    messages.clear()
    ss2d_scan(*inputs(1, 3, 4, 5, 3, 2))
    assert not any('many times slower' in m for m in messages)


@pytest.mark.parametrize('name, message', [
    ('natve', "is no backend. Did you mean 'native'? One of: auto, reference, torch, native, cuda, triton, mamba_ssm"),
    ('triton', 'Triton kernels run on CUDA GPUs, not on cpu'),
    ('mamba_ssm', 'mamba_ssm'),
])
def test_impossible_names_are_explained(monkeypatch, name, message):
    monkeypatch.setenv('BASICSR_SCAN', name)
    with pytest.raises(UserError, match='BASICSR_SCAN') as caught:
        ss2d_scan(*inputs(1, 3, 4, 5, 3, 2))
    assert message in str(caught.value)


def test_native_on_float64_is_refused(monkeypatch):
    monkeypatch.setenv('BASICSR_SCAN', 'native')
    with pytest.raises(UserError, match='float32 only'):
        ss2d_scan(*inputs(1, 3, 4, 5, 3, 2, dtype=torch.float64))


def test_fork_and_loader_workers_do_not_deadlock(tmp_path):
    script = tmp_path / 'fork.py'
    script.write_text(FORK.format(root=str(ROOT)))
    done = run_python(script)
    assert done.returncode == 0 and done.stdout.strip() == 'alive', done.stderr


def test_installing_without_a_compiler_succeeds_and_is_explained(tmp_path):
    shutil.copytree(ROOT / 'basicsr', tmp_path / 'basicsr', ignore=shutil.ignore_patterns('_scan*', '__pycache__'))
    for name in ('setup.py', 'pyproject.toml', 'README.md'):
        shutil.copy(ROOT / name, tmp_path)
    environment = {**os.environ, 'CC': '/bin/false', 'XDG_CACHE_HOME': str(tmp_path / 'cache')}
    done = run_python('setup.py', 'build_ext', '--inplace', cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / 'basicsr' / 'ops' / 'native').glob('_scan*'))
    check = (
        'import torch, sys; sys.path.insert(0, "."); from basicsr.ops.native.library import why_not; print(why_not());'
        'from basicsr.archs.retinexmamba_arch import RetinexMamba;'
        'print(RetinexMamba(n_feat=4, num_blocks=[1, 1, 1], d_state=2)(torch.rand(1, 3, 8, 8)).shape)')
    used = run_python('-c', check, cwd=tmp_path, env=environment)
    assert "could not be compiled with '/bin/false'" in used.stdout and '[1, 3, 8, 8]' in used.stdout, used.stderr


def test_a_library_of_another_machine_is_explained(monkeypatch, tmp_path):
    (tmp_path / '_scan.so').write_bytes(b'\x7fELF nonsense')
    monkeypatch.setattr(native, '_files', lambda: [tmp_path / '_scan.so'])
    monkeypatch.setenv('CC', '/bin/false')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    native.kernels.cache_clear()
    try:
        assert "'_scan.so' cannot be loaded" in native.why_not() and "'/bin/false'" in native.why_not()
    finally:
        native.kernels.cache_clear()


def test_the_table_is_the_one_of_the_documentation():
    files = [ROOT / 'README.md', ROOT / 'basicsr' / 'ops' / 'README.md', *(ROOT / 'docs').glob('*.md')]
    heading = backend_table.markdown().splitlines()[0]
    tables = [text for text in (file.read_text(encoding='utf-8') for file in files) if heading in text]
    assert tables and all(backend_table.markdown() + '\n\n' in text for text in tables)
    notes = (ROOT / 'basicsr' / 'ops' / 'README.md').read_text(
        encoding='utf-8').partition('## Backends')[2].partition('\n## ')[0]
    assert set(re.findall(r'^\| `(\w+)` \|', notes, re.M)) == set(BACKENDS)


@pytest.mark.parametrize('row', BACKENDS.values(), ids=lambda row: row.name)
def test_every_row_leads_somewhere(row):
    assert row.modules.keys() | row.functions.keys() <= OPERATORS.keys()
    assert row.device in (None, *DEVICES) and row.priority >= 0
    for op in row.functions:
        assert callable(backend.function(row.name, op))
    for op in row.modules:
        file = ROOT / (row.modules[op].replace('.', '/') + '.py')  # not imported: one may need a package
        assert all(f'def {name}(' in file.read_text() for name in ('forward', 'backward', 'state_count'))
    module, _, function = row.prepare.partition(':')
    assert not row.prepare or f'def {function}(' in (ROOT / (module.replace('.', '/') + '.py')).read_text()


def test_the_best_that_can_run_is_chosen_and_the_plain_one_says_what_is_lacking(monkeypatch):
    lacking: set[str] = set()

    def row_that_may_lack(row):
        return replace(row, missing=lambda: f'{row.name} lacks something' if row.name in lacking else None)

    monkeypatch.setattr(backend, 'BY_PRIORITY', [row_that_may_lack(row) for row in BY_PRIORITY])

    def chosen(op, device, dtype=torch.float32):
        backend._decide.cache_clear()
        return backend._decide('auto', op, device, dtype)

    assert [chosen('ss2d', device)[0] for device in ('cuda', 'cpu', 'mps')] == ['cuda', 'native', 'torch']
    assert [chosen('sequence', device)[0] for device in ('cuda', 'cpu', 'mps')] == ['triton', 'native', 'torch']
    assert chosen('ss2d', 'cuda', torch.float64)[0] == chosen('ss2d', 'cpu', torch.float64)[0] == 'torch'
    assert chosen('ss2d', 'mps') == ('torch', 'there is nothing faster for mps')
    lacking.add('cuda')
    assert chosen('ss2d', 'cuda', torch.bfloat16) == ('triton', 'the fastest here: cuda lacks something')
    lacking |= {'triton', 'native'}
    assert chosen('ss2d', 'cuda') == ('torch', 'triton lacks something')
    assert chosen('ss2d', 'cpu') == ('torch', 'native lacks something')


def test_what_is_compiled_ahead_is_the_rows_own(monkeypatch):
    net = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Identity())
    net[0].scan_kind, net[1].scan_kind, net[1].exact = (4, 2, 6), (4, 2, 6), True
    told = []
    monkeypatch.setattr(cuda_prepare, 'compile_kinds', lambda *args: told.append(args) or 7)
    monkeypatch.setattr(ahead, 'choose', lambda op, tensor: 'cuda')
    device = torch.device('meta')
    assert ahead.prepare(net, device, torch.bfloat16) == 7
    assert told == [([Kind(4, 2, torch.bfloat16), Kind(4, 2)], device)]
    monkeypatch.setattr(ahead, 'choose', lambda op, tensor: 'torch')
    assert ahead.prepare(net, device) == ahead.prepare(net, torch.device('cpu')) == 0 and len(told) == 1


def test_mamba_ssm_arguments_are_taken():
    """Gate, last state, and every shape of B and C that `selective_scan_fn` knows."""
    g = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    u, delta, z, A, D, bias = draw(2, 6, 9), draw(2, 6, 9), draw(2, 6, 9), -draw(6, 3).exp(), draw(6), draw(6)
    shared, constant = draw(2, 3, 9), draw(6, 3)
    plain = selective_scan(u, delta, A, shared[:, None], shared[:, None], D, bias)
    torch.testing.assert_close(selective_scan(u, delta, A, shared, shared, D, bias), plain)
    gated, last = selective_scan(u, delta, A, shared, shared, D, bias, z=z, return_last_state=True)
    torch.testing.assert_close(gated, plain * torch.nn.functional.silu(z))
    assert last.shape == (2, 6, 3)
    # the last state is what one more position starts from
    longer = [torch.cat([t, t[..., -1:]], -1) for t in (u, delta, shared)]
    after = selective_scan(longer[0], longer[1], A, longer[2], longer[2], None, bias)[..., -1]
    dt = torch.nn.functional.softplus(delta[..., -1] + bias)
    h = torch.exp(dt[..., None] * A) * last + (dt * u[..., -1])[..., None] * shared[:, None, :, -1]
    torch.testing.assert_close(after, (h * shared[:, None, :, -1]).sum(-1))
    spread = constant[None, :, :, None].expand(2, 6, 3, 9)
    want = selective_scan(u, delta, A, spread, shared[:, None].expand(2, 6, 3, 9), D, bias)
    torch.testing.assert_close(selective_scan(u, delta, A, constant, shared, D, bias), want)

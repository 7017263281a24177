"""`basicsr ablate`: running studies, resuming, failures, GPUs, costs."""
from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path

import pytest
import yaml
from test_study_files import FULL, read

from basicsr.ablation.conduct import conduct
from basicsr.ablation.costs import count_macs
from basicsr.ablation.runs import choose_gpus
from basicsr.commands.ablate import main as ablate
from basicsr.registry import ARCH_REGISTRY
from basicsr.utils.errors import UserError
from basicsr.utils.ownership import owned

FFN = {'name': 'neither (FFN)', 'overrides': {'network_g.type': 'RetinexMambaFFN'}}


def forget_broken(folder):
    """The network of a test is none of the next one's."""
    ARCH_REGISTRY._objects.pop('Broken', None)
    ARCH_REGISTRY._extra = [f for f in ARCH_REGISTRY._extra if not f.is_relative_to(folder)]
    ARCH_REGISTRY._index = None
    for module in [name for name in sys.modules if name.endswith('broken_arch')]:
        del sys.modules[module]


def test_a_study_with_a_failure_and_its_repair(study, tmp_path, capsys, request):
    request.addfinalizer(lambda: forget_broken(tmp_path))
    broken = tmp_path / 'broken_arch.py'
    source = ('from basicsr.archs.retinexmamba_arch import RetinexMamba\n'
              'class Broken(RetinexMamba):\n    def forward(self, x):\n        return super().forward({})\n')
    broken.write_text(source.format('x / [0]'))
    mine = {'name': 'mine', 'arch_files': ['broken_arch.py'], 'overrides': {'network_g.type': 'Broken'}}
    command = [
        str(study(FULL, FFN, mine)), '--seeds', '2', '--total_iter', '2', '--gpus', 'cpu', '--root',
        str(tmp_path)
    ]
    assert ablate(command) == 1
    out = capsys.readouterr().out
    assert '6 runs, 0 of them finished before; 12 iterations to train' in out
    assert out.count('FAILED: mine, seed') == 2 and 'TypeError: unsupported operand' in out
    runs, results = tmp_path / 'experiments' / 'study', tmp_path / 'results' / 'study'
    names = [f'{variant}_seed{seed}' for variant in ('full', 'neither_FFN') for seed in (3, 4)]
    for name in names:
        assert (runs / name / 'models' / 'net_g_latest.pth').is_file() and (runs / name / 'losses.csv').is_file()
    report = json.loads((results / 'report.json').read_text())
    full, ffn, failed = report['variants']
    measured = [json.loads((results / name / 'metrics.json').read_text())['psnr retinexformer'] for name in names]
    assert full['psnr']['by_seed'] == {'3': measured[0], '4': measured[1]} and measured[0] != measured[1]
    assert full['psnr']['mean'] == pytest.approx(statistics.fmean(measured[:2]))
    assert full['psnr']['std'] == pytest.approx(abs(measured[0] - measured[1]) / 2**0.5)
    assert ffn['psnr_difference'] == pytest.approx(ffn['psnr']['mean'] - full['psnr']['mean'])
    assert full['psnr_difference'] is None and failed['psnr'] is None and list(failed['failed']) == ['3', '4']
    assert full['parameters'] > ffn['parameters'] > 0 and ffn['macs_scan'] == 0 < full['macs_scan'] < full['macs']
    assert full['seconds'] > 0 and full['size'] == '24x28' and full['machine']
    assert (report['iterations'], report['seeds'], report['images']) == ([2], [3, 4], 4)
    text = (results / 'report.md').read_text()
    assert '| full |' in text and '24.03 / 0.827' in text and 'the paper' in text and 'Missing runs: mine' in text
    assert 'protocol retinexformer' in text and 'seeds 3, 4' in text

    # one run interrupted after its first iteration, the network repaired: the others stay as they are
    broken.write_text(source.format('x'))
    forget_broken(tmp_path)
    cut = runs / names[0]
    (cut / 'models' / 'net_g_latest.pth').unlink()
    (cut / 'training_states' / '2.state').unlink()
    before = {name: (results / name / 'metrics.json').stat().st_mtime_ns for name in names}
    assert ablate(command) == 0
    out = capsys.readouterr().out
    assert '6 runs, 3 of them finished before; 6 iterations to train' in out and 'FAILED' not in out
    after = {name: (results / name / 'metrics.json').stat().st_mtime_ns for name in names}
    assert [name for name in names if before[name] != after[name]] == [names[0]]
    assert 'Start training from epoch: 0, iter: 1' in (runs / f'{names[0]}.log').read_text()
    again = json.loads((results / 'report.json').read_text())['variants']
    assert again[0]['psnr']['by_seed'] == full['psnr']['by_seed']  # resumed bit for bit
    assert again[2]['psnr']['by_seed'] == full['psnr']['by_seed']  # the repaired network is the full one

    # other options do not mix with what is there
    assert ablate([*command[:4], '3', *command[5:]]) == 2
    error = capsys.readouterr().err
    assert 'was trained with other options (' in error and 'train.total_iter' in error and error.count('variant ') == 3


def below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.parametrize('more', [[], ['--report_only']], ids=str)
def test_a_second_start_leaves_the_first_alone(study, tiny_options, tmp_path, capsys, more):
    inline = yaml.safe_load(tiny_options('inline').read_text())
    command = [str(study(FULL, base=inline)), '--gpus', 'cpu', '--root', str(tmp_path), *more]
    results = tmp_path / 'results' / 'study'
    with owned(results, archive=False):
        (results / 'base.yml').write_text('of the first')
        before = below(tmp_path)
        assert ablate(command) == 2
        said = capsys.readouterr().err
        assert f"'{results}' is in use by process {os.getpid()} on " in said and ', since ' in said
        assert 'give this study another name, or wait for its end' in said and below(tmp_path) == before
    assert ablate([*command[:5], '--report_only']) == 0
    assert not [name for name in below(tmp_path) if Path(name).name in ('.lock', '.owner.json')]


def test_a_study_is_owned_while_it_runs(study, tmp_path, monkeypatch):
    """Also where the second start has read its file before the first began."""
    second = read(study(FULL))

    def run_all(runs, gpus):
        with pytest.raises(UserError, match='is in use by process'):
            conduct(second, 'cpu')
        return {}

    monkeypatch.setattr('basicsr.ablation.conduct.run_all', run_all)
    assert conduct(read(study(FULL)), 'cpu') == 0


def test_the_log_of_a_run_that_another_process_trains_is_its_own(study, tmp_path, capsys):
    """A study that was killed may leave the process of a run."""
    file = study(FULL)
    run, = read(file).runs
    with owned(run.folder, archive=False):
        run.log.write_text('of the other')
        assert ablate([str(file), '--gpus', 'cpu', '--root', str(tmp_path)]) == 1
        assert run.log.read_text() == 'of the other' and not run.record.exists()
    assert f"FAILED  full, seed 3: '{run.folder}' is in use by process {os.getpid()}" in capsys.readouterr().out


def test_variants_whose_names_differ_behind_a_dot(study):
    runs = read(study({'name': 'lr 0.1'}, {'name': 'lr 0.2'})).runs
    assert [run.record.name for run in runs] == ['lr_0.1_seed3.json', 'lr_0.2_seed3.json']
    assert [run.log.name for run in runs] == ['lr_0.1_seed3.log', 'lr_0.2_seed3.log']


def test_report_only_trains_nothing_and_says_what_is_missing(study, tmp_path, capsys):
    assert ablate([str(study(FULL)), '--report_only', '--gpus', 'cpu', '--root', str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert 'FAILED: full, seed 3: not started' in out and not (tmp_path / 'experiments').exists()
    assert {f.name for f in (tmp_path / 'results' / 'study').iterdir()
            } == {f'report.{suffix}' for suffix in ('md', 'tex', 'csv', 'json', 'png')}


def test_which_gpus(monkeypatch):
    assert choose_gpus('cpu') == [''] and choose_gpus('cpu,cpu') == ['', ''] and choose_gpus('0, 2') == ['0', '2']
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', 'MIG-1,3')
    assert choose_gpus('auto') == ['MIG-1', '3'] and choose_gpus('1') == ['1']
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert choose_gpus('auto') == ['']


@pytest.mark.parametrize('answer, gpus', [('0, 10, 80000\n1, 70000, 80000\n2, [N/A], [N/A]\n', ['0', '2']), ('', [''])])
def test_gpus_in_use_are_left_alone(monkeypatch, tmp_path, answer, gpus):
    tool = tmp_path / 'nvidia-smi'
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:/usr/bin:/bin')
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    assert choose_gpus('auto') == gpus
    tool.write_text("#!/bin/sh\necho '0, 70000, 80000'\n")
    with pytest.raises(UserError, match='every GPU is in use'):
        choose_gpus('auto')


def test_macs_are_those_of_an_executed_pass():
    from torch import enable_grad, rand
    from torch.utils.flop_counter import FlopCounterMode
    net = ARCH_REGISTRY.get('RetinexMamba')(n_feat=4, num_blocks=[1, 1, 1], d_state=2)
    with FlopCounterMode(display=False) as counter, enable_grad():
        net(rand(1, 3, 32, 32))
    cells = sum(4 * 2 * c * (9 * n + 2) * (32 // s)**2
                for c, n, s in ((4, 2, 1), (8, 4, 2), (16, 8, 4), (8, 8, 2), (4, 4, 1)))
    assert count_macs(net, 32) == (counter.get_total_flops() // 2, cells // 2)

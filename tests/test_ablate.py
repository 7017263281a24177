"""`basicsr ablate`: reading studies, running them, resuming, failures, and what the tables say."""
from __future__ import annotations

import csv
import json
import os
import statistics
import sys
from pathlib import Path

import cv2
import pytest
import yaml

from basicsr.ablation import report as ablation_report
from basicsr.ablation.conduct import conduct
from basicsr.ablation.costs import count_macs
from basicsr.ablation.runs import choose_gpus
from basicsr.ablation.study import read_study
from basicsr.commands.ablate import main as ablate
from basicsr.config.shorten import shortened
from basicsr.registry import ARCH_REGISTRY
from basicsr.training.ownership import owned
from basicsr.utils.errors import UserError


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


FULL = {'name': 'full', 'paper': {'psnr': 24.03, 'ssim': 0.827, 'source': 'the paper'}}
FFN = {'name': 'neither (FFN)', 'overrides': {'network_g.type': 'RetinexMambaFFN'}}

# ------------------------------------------------------------------------------------------------ a whole study


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


# ------------------------------------------------------------------------------------------------ the study file


def read(file, seeds=1, total_iter=None):
    return read_study(file, seeds, total_iter, file.parent)


def test_all_mistakes_are_reported_before_anything_starts(study, tmp_path, capsys):
    file = study(FULL, {'name': 'a', 'override': {}}, {'name': 'full'}, {'overrides': {}}, {'name': 'Full'},
                 reference='ful', totl_iter=3)
    with pytest.raises(UserError) as caught:
        read(file)
    text = str(caught.value)
    for part in ("unknown key 'totl_iter'. Did you mean 'total_iter'?", "variants[1].override: unknown key 'override'."
                 " Did you mean 'overrides'?", "there are two variants called 'full'",
                 "there are two variants called 'Full'", 'variants[3].name: is required'):
        assert part in text, part
    file = study(FULL, {'name': 'a', 'overrides': {'network_g.n_feet': 4, 'train.optim_g.lr': 'x'}},
                 {'name': 'b', 'opt': 'gone.yml'}, {'name': 'c', 'overrides': {'network_g.type': 'RetinexMamb'}})
    with pytest.raises(UserError) as caught:
        read(file)
    text = str(caught.value)
    assert text.startswith('3 mistakes in') and "Did you mean 'n_feat'?" in text and 'train.optim_g.lr' in text
    assert "variant 'b': there is no file 'gone.yml'" in text and "Did you mean 'RetinexMamba'?" in text
    with pytest.raises(UserError) as caught:
        read(study(FULL, {'name': 'a'}, overrides={'network_g.n_feet': 4}))
    text = str(caught.value)
    assert text.startswith('1 mistake in') and 'variants: every variant: 1 mistake' in text and text.count(
        'n_feat') == 2
    file = study(FULL, {'name': 'narrow', 'overrides': {'network_g.n_feat': 5}})
    assert ablate([str(file), '--gpus', 'cpu', '--root', str(tmp_path)]) == 2
    assert "variant 'narrow': network 'RetinexMamba' cannot be built: " in capsys.readouterr().err
    assert not (tmp_path / 'experiments').exists()


@pytest.mark.parametrize('change, message', [
    ({'reference': 'ful'}, "'ful' is none of the variants. Did you mean 'full'?"),
    ({'base': None}, 'needs an option file (opt), as the study has no base'),
    ({'variants': []}, 'variants'),
    ({'variants': 'full'}, 'variants'),
    ({'total_iter': 0}, 'total_iter'),
])
def test_a_mistake_of_the_study_file(study, change, message):
    file = study(FULL)
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | change))
    with pytest.raises(UserError) as caught:
        read(file)
    assert message in str(caught.value)


def test_variants_are_option_files_overrides_or_both(study, tiny_options, tmp_path):
    other = tiny_options('other', network_g={'type': 'RetinexFormer', 'n_feat': 8})
    file = study(FULL, {'name': 'b', 'opt': other.name, 'overrides': {'train.optim_g.lr': 1e-5}},
                 overrides={'train.optim_g.lr': 3e-4, 'network_g.n_feat': 16})
    runs = read(file, seeds=2).runs
    found = [(run.variant, run.seed, run.opt['network_g']['type'], run.opt['network_g']['n_feat'],
              run.opt['train']['optim_g']['lr']) for run in runs]
    assert found == [('full', 3, 'RetinexMamba', 16, 3e-4), ('full', 4, 'RetinexMamba', 16, 3e-4),
                     ('b', 3, 'RetinexFormer', 16, 1e-5), ('b', 4, 'RetinexFormer', 16, 1e-5)]
    assert [run.opt['manual_seed'] for run in runs] == [3, 4, 3, 4]
    assert len({run.weights for run in runs}) == 4
    assert runs[0].weights == tmp_path / 'experiments' / 'study' / 'full_seed3' / 'models' / 'net_g_latest.pth'


def test_the_base_may_be_written_into_the_study(study, tiny_options):
    inline = yaml.safe_load(tiny_options('inline').read_text())
    run, = read(study({'name': 'x'}, base=inline)).runs
    assert run.opt['network_g']['n_feat'] == 4 and run.name == 'x_seed3'


def test_runs_that_interrupt_themselves_are_refused(study, tiny_options):
    file = tiny_options('timed', train={'time_limit': 5})
    with pytest.raises(UserError, match='time_limit interrupts runs; leave it out'):
        read(study({'name': 'x', 'opt': str(file)}))


def test_a_file_with_stages_is_refused(study, tiny_options):
    file = tiny_options('staged', stages=[{'name': 'a'}, {'name': 'b'}])
    with pytest.raises(UserError, match='has stages; a study takes files of one run'):
        read(study({'name': 'x', 'opt': str(file)}))


def test_schedules_shrink_in_proportion(study):
    scheduler = {
        'type': 'CosineAnnealingRestartCyclicLR', 'periods': [46000, 104000], 'restart_weights': [1, 1],
        'eta_mins': [3e-4, 1e-6]
    }
    long = {
        'train.total_iter': 150000, 'train.warmup_iter': 1500, 'train.scheduler': scheduler, 'val.val_freq': 1000,
        'logger.save_checkpoint_freq': 1000, 'datasets.train.mini_batch_sizes': [2, 1],
        'datasets.train.gt_sizes': [8, 16], 'datasets.train.iters': [100000, 50000]
    }
    opt = read(study(FULL, overrides=long), total_iter=300).runs[0].opt
    train = opt['train']
    assert (train['total_iter'], train['warmup_iter'], train['scheduler']['periods']) == (300, 3, [92, 208])
    assert opt['datasets']['train']['iters'] == [200, 100]
    assert opt['val']['val_freq'] == 300 and opt['logger']['save_checkpoint_freq'] == 60
    original = read(study(FULL, overrides=long)).runs[0].opt
    assert shortened(original, 2)['train.scheduler.periods'] == [1, 1]
    assert shortened(original, 75000)['val.val_freq'] == 1000


def test_the_studies_of_the_tree(tmp_path, monkeypatch):
    from conftest import ROOT
    monkeypatch.chdir(tmp_path)
    for side in ('Train/input', 'Train/target', 'Test/input', 'Test/target'):
        (tmp_path / 'data' / 'LOLv1' / side).mkdir(parents=True)
    for name in ('retinexmamba', 'retinexmamba_reduced'):
        study = read_study(ROOT / 'Ablation_Model' / f'{name}.yml', 2, None, tmp_path)
        types = {run.opt['network_g']['type'] for run in study.runs}
        assert len(study.runs) == 28 and study.reference == 'full'
        assert {'RetinexMamba', 'RetinexFormer', 'RetinexMambaIGMSA', 'RetinexMambaOneDirection'} <= types
        assert len({run.opt['train']['total_iter'] for run in study.runs}) == 1


# ------------------------------------------------------------------------------------------------ GPUs and costs


def test_which_gpus(monkeypatch):
    assert choose_gpus('cpu') == [''] and choose_gpus('0, 2') == ['0', '2']
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


# ------------------------------------------------------------------------------------------------ the tables


def spread(mean, std=None):
    return {'mean': mean, 'std': std, 'by_seed': {'3': mean}}


def row(name, **more):
    return {
        'name': name, 'network': {}, 'psnr': None, 'ssim': None, 'psnr_difference': None, 'ssim_difference': None,
        'paper': {}, 'failed': {}
    } | more


CLAIMED = {'psnr': 24.03, 'source': 'A & B'}
REPORT = {
    'study': 'S',
    'reference': 'full',
    'protocol': 'retinexformer',
    'weights': 'last',
    'seeds': [3],
    'iterations': [2],
    'data': ['LOL_v1'],
    'images': 15,
    'variants': [
        row('full', parameters=4589001, macs=61937185792, macs_scan=17049845760, seconds=0.25, size='400x600',
            machine='CPU', psnr=spread(20.123, 0.456), ssim=spread(0.8, 0.01), paper=CLAIMED),
        row('50 % a_b', psnr=spread(21), ssim=spread(0.7), psnr_difference=0.877, ssim_difference=-0.1),
        row('lost', failed={3: 'it burnt'}),
    ],
}


def test_markdown_and_terminal():
    text = ablation_report.markdown(REPORT)
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines() if line.startswith('|')]
    assert rows[0] == list(ablation_report.COLUMNS)
    assert rows[2] == [
        'full', '4,589,001', '61.94', '44.89', '0.250', '20.12 ± 0.46', '0.8000 ± 0.0100', '', '', '24.03'
    ]
    assert rows[3] == ['50 % a_b', '', '', '', '', '21.00', '0.7000', '+0.88', '-0.1000', '']
    assert rows[4] == ['lost'] + [''] * 9 and 'Missing runs: lost, seed 3 (it burnt).' in text
    assert 'one seed (3), so nothing is known about the spread' in text and '400x600 on CPU' in text
    assert 'claims (A & B)' in text
    shown = ablation_report.show(REPORT).splitlines()
    assert shown[1].split()[:2] == ['variant', 'parameters'] and len({len(line) for line in shown[1:5]}) == 1


def test_latex():
    lines = ablation_report.latex(REPORT).splitlines()
    table = [line for line in lines if line.endswith(r'\\')]
    assert len(table) == 4 and {line.count(' & ') for line in table} == {9}
    assert table[1].startswith(r'full & 4,589,001 & 61.94 & 44.89 & 0.250 & 20.12 $\pm$ 0.46')
    assert table[2].startswith(r'50 \% a\_b & ') and '& $+$0.88 & $-$0.1000 &' in table[2]
    assert r'\begin{tabular}{lrrrrrrrrr}' in lines and r'\end{tabular}' in lines


def test_files(tmp_path):
    files = ablation_report.write(REPORT, tmp_path)
    assert [f.name for f in files] == ['report.md', 'report.tex', 'report.csv', 'report.json', 'report.png']
    with (tmp_path / 'report.csv').open(newline='') as file:
        full, half, lost = csv.DictReader(file)
    found = full['parameters'], full['psnr_mean'], full['psnr_std'], full['psnr_paper']
    assert found == ('4589001', '20.123', '0.456', '24.03')
    assert (half['psnr_difference'], half['psnr_std'], half['runs']) == ('0.877', '', '1')
    assert (lost['psnr_mean'], lost['runs'], lost['failed']) == ('', '0', '1')
    picture = cv2.imread(str(tmp_path / 'report.png'))
    assert picture.std() > 5 and picture.shape[1] == 1300


def test_columns_without_content_are_left_out():
    text = ablation_report.markdown(REPORT | {'variants': [row('full', psnr=spread(20), ssim=spread(0.5))]})
    assert '| variant | PSNR | SSIM |' in text and 'claims' not in text and 'Seconds' not in text

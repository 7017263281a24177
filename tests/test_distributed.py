"""Two processes on the CPU under torchrun: same losses as one process with the whole batch, sharded validation."""
from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from conftest import ROOT, run_python
from test_networks import TINY, tiny

from basicsr.models.unused import has_unused
from basicsr.train import main as train


def rows(file: Path) -> list[dict[str, str]]:
    with file.open() as stream:
        return list(csv.DictReader(stream))


def torchrun(options: Path, *extra: str, processes: int = 2):
    return run_python('-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}',
                      ROOT / 'basicsr' / 'train.py', '--opt', options, '--launcher', 'pytorch', *extra)


def test_two_processes_equal_one(tiny_options, tmp_path):
    data = {'train': {'batch_size_per_gpu': 2, 'dataset_enlarge_ratio': 4}}
    assert train([str(tiny_options('one', datasets=data))]) == 0
    data['train'] |= {'batch_size_per_gpu': 1, 'cache': 'device'}
    done = torchrun(tiny_options('two', datasets=data))
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (tmp_path / 'experiments' / name for name in ('one', 'two'))
    assert len(rows(two / 'losses.csv')) == 4
    for a, b in zip(rows(one / 'losses.csv'), rows(two / 'losses.csv')):
        assert a['iter'] == b['iter'] and float(a['l_pix']) == pytest.approx(float(b['l_pix']), rel=1e-4)
    assert float(rows(one / 'metrics.csv')[0]['toy/psnr']) == pytest.approx(
        float(rows(two / 'metrics.csv')[0]['toy/psnr']), abs=1e-3)
    assert len(list(two.glob('train_*.log'))) == 1  # rank 0 alone writes
    more = torchrun(tiny_options('two', datasets=data), '--auto_resume', 'train.total_iter=6')
    assert more.returncode == 0, more.stderr[-2000:]
    assert [r['iter'] for r in rows(two / 'losses.csv')] == ['1', '2', '3', '4', '5', '6']
    state = next((one / 'training_states').iterdir())
    other = torchrun(tiny_options('three', datasets=data), f'path.resume_state={state}', 'train.total_iter=5')
    assert other.returncode == 0, other.stderr[-2000:]
    assert 'the run had 1 process and has 2: a step still takes 2 images' in other.stderr


def test_the_balance_of_experts_reaches_both_processes(tiny_options, tmp_path):
    """The same image in every place of a batch: each process has the balance, and the gradients, of the whole batch."""
    (tmp_path / 'one.txt').write_text('1.png')
    data = {
        'train': {
            'meta_info_file': str(tmp_path / 'one.txt'), 'gt_size': None, 'geometric_augs': False,
            'dataset_enlarge_ratio': 8
        }
    }
    network = {
        'type': 'MASRNet', 'embed_dim': 16, 'moe_hidden': [[8], [8], [8]], 'sample_topk': 0, 'dropout': 0.,
        'attn_dropout': 0., 'ffn_dropout': 0.
    }
    losses = [{'type': 'MoEBalanceLoss', 'loss_weight': 0.5}]
    common = {'network_g': network, 'train': {'losses': losses}}
    data['train']['batch_size_per_gpu'] = 2
    assert train([str(tiny_options('one', datasets=data, **common))]) == 0
    data['train']['batch_size_per_gpu'] = 1
    done = torchrun(tiny_options('two', datasets=data, **common))
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (rows(tmp_path / 'experiments' / name / 'losses.csv') for name in ('one', 'two'))
    assert len(one) == len(two) == 4
    for key in ('l_pix', 'l_moebalance'):
        assert [float(r[key]) for r in two] == pytest.approx([float(r[key]) for r in one], rel=1e-3)


UNUSED = ('ImprovedLoRaGateRestormer', 'CIDNet', 'DarkIR', 'PromptIR')


@pytest.mark.parametrize('name', TINY)
def test_networks_with_parts_that_nothing_reads_are_found(name):
    net = tiny(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    torch.manual_seed(0)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert has_unused(net, {'type': name, **TINY[name]}) == (name in UNUSED)
    assert torch.equal(torch.rand(1), drawn) and all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_of_other_inputs_nothing_is_said():
    assert not has_unused(torch.nn.Bilinear(3, 3, 3), {'type': 'Bilinear'})


@pytest.mark.parametrize('name', ['PromptIR', 'CIDNet'])
def test_four_processes_equal_one_though_a_part_of_the_network_is_unused(tiny_options, tmp_path, name):
    common = {'network_g': {'type': name, **TINY[name]}, 'train': {'total_iter': 2}, 'val': {'val_freq': 2}}
    data = {'train': {'batch_size_per_gpu': 4, 'dataset_enlarge_ratio': 4, 'gt_size': 16}}
    assert train([str(tiny_options('one', datasets=data, **common))]) == 0
    data['train']['batch_size_per_gpu'] = 1
    done = torchrun(tiny_options('four', datasets=data, **common), processes=4)
    assert done.returncode == 0, done.stderr[-2000:]
    one, four = (tmp_path / 'experiments' / run for run in ('one', 'four'))
    for a, b in zip(rows(one / 'losses.csv'), rows(four / 'losses.csv'), strict=True):
        assert float(a['l_pix']) == pytest.approx(float(b['l_pix']), rel=1e-4)


def test_launcher_without_its_environment(tiny_options, capsys, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    assert train([str(tiny_options()), '--launcher', 'pytorch']) == 2
    assert 'torchrun --nproc_per_node=N' in capsys.readouterr().err


def test_two_processes_go_through_the_stages(tiny_options, tmp_path):
    stages = [{'name': 'first', 'train.total_iter': 2}, {'name': 'last', 'train.total_iter': 3}]
    network = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}
    options = tiny_options('two', stages=stages, network_g=network, manual_seed=None)
    done = torchrun(options)
    assert done.returncode == 0, done.stderr[-2000:]
    runs = [tmp_path / 'experiments' / name for name in ('two_first', 'two_last')]
    assert [len(rows(run / 'losses.csv')) for run in runs] == [2, 3]
    (runs[1] / 'models' / 'net_g_latest.pth').unlink()
    (runs[1] / 'training_states' / '3.state').unlink()
    again = torchrun(options, '--auto_resume', 'train.total_iter=4')
    assert again.returncode == 0 and again.stderr.count('a stage that has ended is skipped') == 1
    assert len(list((tmp_path / 'experiments').glob('two_last_archived_*'))) == 1  # it had no training state

"""`train.nonfinite`: what a run does about a step that is not finite."""
from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import pytest
import torch
from conftest import ROOT, run_python

from basicsr.engine import nonfinite
from basicsr.engine.finite import ELSEWHERE, GRADIENT_NORM, FiniteWatch, Step
from basicsr.models.sr_model import SRModel

UNMASKED = {'type': 'Rprop', 'lr': 1e-3}  # the host has to look before its update


def spoilt(monkeypatch, *calls: int) -> list[list[str]]:
    """Spoil the batches of these calls of the model, counted from 1; the files of all batches."""
    feed, seen = SRModel.feed_data, []

    def spoiling(self, data):
        feed(self, data)
        if data.get('gt') is not None and len(data['gt']) == 2:  # of training
            seen.append(list(self.paths))
            if len(seen) in calls:
                self.gt = self.gt * math.nan

    monkeypatch.setattr(SRModel, 'feed_data', spoiling)
    return seen


def iterations(run: Path) -> list[int]:
    with (run / 'losses.csv').open(newline='') as file:
        return [int(row['iter']) for row in csv.DictReader(file)]


def test_the_batch_is_kept_and_the_run_stops(start, monkeypatch, capsys):
    seen = spoilt(monkeypatch, 3)
    code, run = start('a')
    assert code == 2
    kept = torch.load(run / 'nonfinite/3_rank0.pth', weights_only=True)
    assert kept['files'] == seen[2] and kept['not_finite'] == ['l_pix'] and kept['iteration'] == 3
    assert kept['lq'].shape == kept['gt'].shape == (2, 3, 16, 16) and kept['gt'].isnan().all()
    assert f"; the batch is kept in '{run / 'nonfinite/3_rank0.pth'}'. Files of this batch: {seen[2][0]}" in capsys.readouterr(
    ).err


@pytest.mark.parametrize('optimizer', [{'type': 'Adam', 'lr': 1e-3}, UNMASKED])
def test_a_step_is_left_out(start, monkeypatch, messages, optimizer):
    optimize, weights = SRModel.optimize_parameters, []

    def noting(self, iteration):
        optimize(self, iteration)
        weights.append(self.net_g.conv_first.weight.detach().clone())

    monkeypatch.setattr(SRModel, 'optimize_parameters', noting)
    spoilt(monkeypatch, 3)
    code, run = start('a', 'train.nonfinite=skip', train={'optim_g': optimizer})
    assert code == 0 and iterations(run) == [1, 2, 3, 4]
    assert torch.equal(weights[1], weights[2]) and not torch.equal(weights[2], weights[3])
    assert any('l_pix is not finite at iteration 3 (rank 0): this step is left out; the batch' in m for m in messages)


def test_a_run_of_nothing_else_ends(start, monkeypatch, capsys):
    monkeypatch.setattr(nonfinite, '_IN_A_ROW', 3)
    monkeypatch.setattr(nonfinite, '_KEPT', 2)
    spoilt(monkeypatch, 1, 3, 4, 5)
    code, run = start('a', 'train.nonfinite=skip', 'train.total_iter=9')
    assert code == 2 and 'at iteration 5 (rank 0), as in 3 iterations in a row' in capsys.readouterr().err
    assert len(list((run / 'nonfinite').iterdir())) == 2


def test_a_rollback_goes_on_from_the_last_state_with_other_samples(start, monkeypatch, messages):
    resumed, resume = [], SRModel.resume_training

    def noting(self, state):
        resume(self, state)
        resumed.append(all(torch.equal(value, state['params'][key]) for key, value in self.net_g.state_dict().items()))

    monkeypatch.setattr(SRModel, 'resume_training', noting)
    seen = spoilt(monkeypatch, 4)
    code, run = start('a', 'train.nonfinite=rollback', 'train.total_iter=6')
    assert code == 0 and iterations(run) == [1, 2, 3, 4, 5, 6] and resumed == [True]
    assert len(seen) == 8  # 1 to 4, again 3 and 4 with what follows, 5 and 6
    state = torch.load(run / 'training_states/4.state')
    assert state['run_state']['epoch'] * state['run_state']['batches'] + state['run_state']['batches_done'] == 6
    assert not any('training stops' in m for m in messages)
    assert any(re.search(r"iteration 4 .* goes back to '.*/2\.state', and on with other samples", m) for m in messages)


def test_before_the_first_state_there_is_one_of_the_beginning(start, monkeypatch):
    spoilt(monkeypatch, 1)
    code, run = start('a', 'train.nonfinite=rollback')
    assert code == 0 and iterations(run) == [1, 2, 3, 4]
    assert sorted(p.name for p in (run / 'training_states').iterdir()) == ['0.state', '2.state', '4.state']


def test_the_state_of_another_run_is_taken_over(start, tmp_path, monkeypatch):
    assert start('other')[0] == 0
    spoilt(monkeypatch, 1)
    state = tmp_path / 'experiments/other/training_states/2.state'
    code, run = start('a', 'train.nonfinite=rollback', f'path.resume_state={state}')
    assert code == 0 and iterations(run) == [3, 4]
    assert sorted(p.name for p in (run / 'training_states').iterdir()) == ['2.state', '4.state']


def test_the_same_state_is_gone_back_to_three_times(start, monkeypatch, capsys):
    spoilt(monkeypatch, *range(3, 20))
    code, _run = start('a', 'train.nonfinite=rollback')
    assert code == 2 and 'has gone back to iteration 2 3 times before' in capsys.readouterr().err


def test_processes_judge_at_the_same_iteration():
    """However fast the flags of each arrive; and a loss that is not finite elsewhere is named as that."""
    told = []

    class Fast:

        def __init__(self, flags):
            self.flags = flags

        def arrived(self):
            return True

        def values(self):
            return self.flags.tolist()

    watch, names = FiniteWatch(told.append, limit=2, copy=Fast, in_step=True), ('l_pix', GRADIENT_NORM, ELSEWHERE)
    for number in range(1, 5):
        watch.add(Step(number, names, []), torch.tensor([True, number > 1, number > 1]))
        assert [step.iteration for step in told] == ([1] if number > 2 else [])
    assert told[0].names == [ELSEWHERE]
    watch = FiniteWatch(told.append)
    watch.add(Step(1, names, []), torch.tensor([True, False, True]))
    watch.add(Step(2, names, []), torch.tensor([False, False, False]))
    assert [step.names for step in told[1:]] == [[GRADIENT_NORM], ['l_pix']]


SPOILING = '''
import math
from basicsr.models.image_restoration_model import ImageCleanModel
from basicsr.utils.registry import MODEL_REGISTRY

@MODEL_REGISTRY.register()
class SpoilingModel(ImageCleanModel):
    left = 1

    def optimize_parameters(self, current_iter):
        if current_iter == 3 and self.opt['rank'] == 0 and self.left:
            self.left -= 1
            self.gt = self.gt * math.nan
        super().optimize_parameters(current_iter)
'''


@pytest.mark.parametrize('mode', ['skip', 'rollback'])
def test_two_processes_do_it_together(tiny_options, tmp_path, mode):
    (tmp_path / 'spoiling_model.py').write_text(SPOILING)
    network = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}
    options = tiny_options('two', network_g=network, model_type='SpoilingModel', train={'nonfinite': mode},
                           model_files=[str(tmp_path / 'spoiling_model.py')], val={'val_freq': 100},
                           datasets={'train': {'batch_size_per_gpu': 1}})
    done = run_python('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', ROOT / 'basicsr/train.py',
                      '--opt', options, '--launcher', 'pytorch')
    assert done.returncode == 0, done.stderr[-3000:]
    run = tmp_path / 'experiments/two'
    assert iterations(run) == [1, 2, 3, 4]
    assert sorted(p.name for p in (run / 'nonfinite').iterdir()) == ['3_rank0.pth', '3_rank1.pth']
    kept = torch.load(run / 'nonfinite/3_rank1.pth', weights_only=True)
    assert kept['not_finite'] == [ELSEWHERE] and kept['gt'].isfinite().all()
    assert (run / 'training_states/0.state').exists() == (mode == 'rollback')

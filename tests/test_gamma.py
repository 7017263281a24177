"""Inputs raised to a power: which, how often, the same for a batch; options, and training that resumes."""
import random

import cv2
import numpy as np
import pytest

from basicsr.data import build_dataset
from basicsr.data.gamma import draw_gamma
from basicsr.data.loader import SeededSamples, build_dataloader
from basicsr.data.samplers import EnlargedSampler
from basicsr.train import main as train
from basicsr.utils.errors import UserError
from basicsr.utils.seed import one_batch
from basicsr.utils.values import GammaAugs


@pytest.fixture
def greys(tmp_path):
    """Inputs of one grey, 128, with brighter ground truths."""
    for side, level in (('gt', 200), ('lq', 128)):
        (tmp_path / side).mkdir()
        for i in range(6):
            cv2.imwrite(str(tmp_path / side / f'{i}.png'), np.full((20, 24, 3), level, np.uint8))
    return {
        'type': 'PairedImageDataset', 'dataroot_gt': str(tmp_path / 'gt'), 'dataroot_lq': str(tmp_path / 'lq'),
        'phase': 'train', 'gt_size': 8, 'batch_size_per_gpu': 3
    }


def powers(batch):
    """Of each input; all its pixels have the same."""
    found = batch['lq'].double().log() / np.log(128 / 255)
    assert (found.amax((1, 2, 3)) - found.amin((1, 2, 3))).max() < 1e-5
    return found.mean((1, 2, 3)).tolist()


def test_the_published_powers_are_hundredths_from_60_to_120():
    random.seed(0)
    drawn = [draw_gamma(GammaAugs()) for _ in range(6000)]
    hundredths = {round(100 * g) for g in drawn}
    assert hundredths == set(range(60, 121)) and all(abs(100 * g - round(100 * g)) < 1e-9 for g in drawn)
    assert np.mean(drawn) == pytest.approx(0.9, abs=0.01)
    some = [draw_gamma(GammaAugs(probability=0.3, gamma=(2, 2))) for _ in range(3000)]
    assert set(some) == {1, 2} and some.count(2) / 3000 == pytest.approx(0.3, abs=0.03)
    assert {draw_gamma(GammaAugs(gamma=(0.5, 1), step=0.3)) for _ in range(99)} == {0.5, 0.8}


def test_a_batch_shares_its_power_whatever_else_is_drawn():
    options, own = GammaAugs(), GammaAugs(per='sample')
    for seed in (1, 2):
        drawn = []
        for i in range(5):
            random.seed(i)
            with one_batch(seed):
                drawn.append((draw_gamma(options), draw_gamma(own)))
        assert len({batch for batch, _ in drawn}) == 1 and len({sample for _, sample in drawn}) == 5


@pytest.mark.parametrize('workers', [0, 2])
def test_inputs_of_batches_and_samples(greys, workers):
    for per, different in (('batch', 1), ('sample', 3)):
        block = greys | {'gamma_augs': {'per': per, 'step': 1e-4}, 'num_worker_per_gpu': workers}
        dataset = build_dataset(block)
        loader = build_dataloader(dataset, block, sampler=EnlargedSampler(dataset, ratio=2, seed=4))
        batches = list(loader)
        found = [powers(batch) for batch in batches]
        assert [len({round(g, 5) for g in batch}) for batch in found] == [different] * 4
        assert len({round(batch[0], 5) for batch in found}) == 4
        assert all(0.6 <= g <= 1.2 for batch in found for g in batch)
        assert all((batch['gt'] == 200 / 255).all() for batch in batches)


def test_only_inputs_of_training_are_raised(greys):
    block = greys | {'phase': 'val', 'gamma_augs': {'gamma': [2, 2]}}
    assert (SeededSamples(build_dataset(block), {})[0]['lq'] == 128 / 255).all()


def test_a_run_resumes_with_the_same_inputs(tiny_options, tmp_path):
    augs = {'train': {'gamma_augs': {}, 'num_worker_per_gpu': 1}}
    assert train([str(tiny_options('whole', datasets=augs))]) == 0
    again = str(tiny_options('again', datasets=augs))
    assert train([again, 'train.total_iter=2', 'logger.save_checkpoint_freq=2']) == 0
    assert train([again, '--auto_resume']) == 0
    assert train([str(tiny_options('plain'))]) == 0
    losses = [(tmp_path / 'experiments' / name / 'losses.csv').read_text() for name in ('whole', 'again', 'plain')]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(('augs', 'reason'), [
    ({'gamma': [1.2, 0.6]}, 'gamma_augs.gamma: must begin with the smaller number'),
    ({'gamma': [0, 1]}, 'gamma_augs.gamma'),
    ({'step': 0}, 'gamma_augs.step: must be greater than 0'),
    ({'per': 'image'}, "gamma_augs.per: 'image' is not allowed; one of: batch or sample"),
    ({'gama': [1, 2]}, "Did you mean 'gamma'"),
    (0.5, 'gamma_augs'),
])
def test_mistakes_are_told_with_their_place(tiny_options, capsys, augs, reason):
    assert train([str(tiny_options('run', datasets={'train': {'gamma_augs': augs}}))]) == 2
    told = capsys.readouterr().err
    assert reason in told and 'run.yml:' in told


@pytest.mark.parametrize('other', [{'mean': [0.5]}, {'std': [0.5]}, {'color': 'y'}])
def test_values_must_lie_between_0_and_1(greys, other):
    with pytest.raises(UserError, match='gamma_augs'):
        build_dataset(greys | {'gamma_augs': {}} | other)

"""Runs that start from other runs: the stages of an option file, `path.fine_tune_from`."""
from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from conftest import option_error

from basicsr.commands.check_data import main as check_data
from basicsr.config import load_options, load_stages
from basicsr.test import main as run_test
from basicsr.train import main as train
from basicsr.training.trainer import Trainer

NETWORK = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}
STAGES = [{'name': 'first', 'train.total_iter': 3},
          {'name': 'all', 'train.optim_g.lr': 5e-4, 'train.scheduler.periods': [9]}]
SAVE_OFTEN = {'print_freq': 1, 'save_checkpoint_freq': 2}


def losses(run: Path) -> list[dict[str, str]]:
    with (run / 'losses.csv').open() as file:
        return list(csv.DictReader(file))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / 'models' / 'net_g_latest.pth', weights_only=True)['params']


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


@pytest.fixture
def staged(tiny_options):
    return lambda name='tiny', **changes: str(
        tiny_options(name, **{'network_g': NETWORK, 'stages': STAGES, 'logger': SAVE_OFTEN} | changes))


@pytest.fixture
def starts(monkeypatch) -> dict[str, dict[str, torch.Tensor]]:
    """The weights that each run starts with, by its name."""
    seen, run = {}, Trainer.run

    def noting(self):
        seen[self.opt['name']] = {k: v.clone() for k, v in self.model.net_g.state_dict().items()}
        return run(self)

    monkeypatch.setattr(Trainer, 'run', noting)
    return seen


@pytest.fixture
def stop_after_saving(monkeypatch):
    """`stop_after_saving(name)`: Ctrl-C in that run, once, after its first checkpoint."""

    def stop(name: str) -> None:
        save = Trainer._save

        def saving(self):
            save(self)
            if self.opt['name'] == name:
                monkeypatch.setattr(Trainer, '_save', save)
                raise KeyboardInterrupt

        monkeypatch.setattr(Trainer, '_save', saving)

    return stop


# ------------------------------------------------------------------------------------------------ stages


def test_each_stage_is_a_run_that_starts_from_the_weights_of_the_one_before(staged, starts, tmp_path):
    assert train([staged()]) == 0
    first, last = (tmp_path / 'experiments' / name for name in ('tiny_first', 'tiny_all'))
    assert [len(losses(run)) for run in (first, last)] == [3, 4]
    assert [losses(run)[0]['lr'] for run in (first, last)] == ['0.001', '0.0005']
    assert same(starts['tiny_all'], weights(first)) and not same(starts['tiny_first'], weights(first))
    assert not same(weights(last), weights(first))
    for run, name in ((first, 'tiny_first'), (last, 'tiny_all')):
        log = next(run.glob('train_*.log')).read_text()
        assert f'name: {name}\n' in log and 'Network: MSRResNet' in log  # nothing of it in the other's log
        assert log.count('Start training') == log.count('Network: MSRResNet') == 1
        assert (run / 'tiny.yml').is_file()


def test_a_stopped_run_skips_what_has_ended_and_resumes_the_rest(staged, stop_after_saving, tmp_path, capsys):
    assert train([staged('straight')]) == 0
    options = staged()
    stop_after_saving('tiny_all')
    assert train([options]) == 130
    first = tmp_path / 'experiments' / 'tiny_first' / 'models' / 'net_g_latest.pth'
    written = first.stat().st_mtime_ns
    assert train([options, '--auto_resume']) == 0
    assert first.stat().st_mtime_ns == written
    log = max((tmp_path / 'experiments' / 'tiny_all').glob('train_*.log'), key=lambda f: f.stat().st_mtime_ns)
    assert f"a stage that has ended is skipped: '{first}'" in log.read_text()
    runs = [tmp_path / 'experiments' / name for name in ('straight_all', 'tiny_all')]
    assert losses(runs[0]) == losses(runs[1]) and same(*map(weights, runs))
    assert train([options, '--auto_resume']) == 0
    assert 'every stage is finished' in capsys.readouterr().err


def test_later_stages_of_an_earlier_start_are_not_mistaken_for_finished(staged, starts, stop_after_saving, tmp_path):
    options = staged()
    assert train([options]) == 0
    stop_after_saving('tiny_first')
    assert train([options, 'manual_seed=4']) == 130
    assert train([options, 'manual_seed=4', '--auto_resume']) == 0
    runs = tmp_path / 'experiments'
    assert same(starts['tiny_all'], weights(runs / 'tiny_first'))
    assert len(list(runs.glob('tiny_first_archived_*'))) == len(list(runs.glob('tiny_all_archived_*'))) == 1


def test_a_stop_between_two_stages_does_not_bring_back_an_earlier_last_stage(staged, starts, monkeypatch, tmp_path):
    options = staged()
    assert train([options]) == 0
    run = Trainer.run

    def stopping(self):
        run(self)
        raise KeyboardInterrupt  # the first stage has ended, the next has no folder yet

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, 'run', stopping)
        assert train([options, 'manual_seed=4']) == 130
    starts.clear()
    assert train([options, 'manual_seed=4', '--auto_resume']) == 0
    assert list(starts) == ['tiny_all'] and same(starts['tiny_all'], weights(tmp_path / 'experiments' / 'tiny_first'))


def test_data_and_losses_of_all_stages_are_looked_up_before_the_first_trains(staged, pairs, tmp_path, capsys):
    (pairs / 'bad').mkdir()
    (pairs / 'bad' / '7.png').write_bytes((pairs / 'input' / '1.png').read_bytes())
    tasks = {'type': 'AllInOneDataset', 'name': 'x', 'dataroot': str(pairs), 'de_type': ['derain']}
    loss = {'type': 'PerceptualLoss', 'layer_weights': {'no_layer': 1.}}
    file = staged(
        stages=[{'name': 'a'}, {'name': 'b', 'datasets.train.dataroot_lq': str(pairs / 'bad'), 'datasets.val': tasks},
                {'name': 'c', 'train.perceptual_opt': loss}])
    assert train([file]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(('error', '  stage'))]
    assert lines[0] == f'error: 3 mistakes in {file}' and len(lines) == 4
    text = Path(file).read_text().splitlines()
    places = [
        next(i for i, line in enumerate(text, 1) if line.strip().startswith(key))
        for key in ('train:', 'datasets.val:', 'train.perceptual_opt:')
    ]
    assert lines[1].startswith(f"  stage 'tiny_b': {file}:{places[0]}: datasets.train: images do not pair")
    assert lines[2].startswith(f"  stage 'tiny_b': {file}:{places[1]}: datasets.val: the images of derain are not")
    assert lines[3].startswith(f"  stage 'tiny_c': {file}:{places[2]}: train.perceptual_opt: loss 'PerceptualLoss'")
    assert '7.png' in lines[1] and 'no_layer' in lines[3]
    assert not (tmp_path / 'experiments').exists()


def test_check_data_reads_the_data_of_every_stage_once(staged, pairs, capsys):
    (pairs / 'broken').mkdir()
    for name in ('1', '2', '3', '10'):
        data = (pairs / 'input' / f'{name}.png').read_bytes()
        (pairs / 'broken' / f'{name}.png').write_bytes(data[:-20] if name == '2' else data)
    file = staged(
        stages=[{'name': 'a', 'datasets.train.dataroot_lq': str(pairs / 'broken')}, {'name': 'b'}, {'name': 'c'}])
    assert check_data(['--opt', file]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: stage 'tiny_a': datasets.train: ") and 'broken/2.png' in captured.err
    assert captured.err.count('\n') == 1
    places = [line.split(' (')[0] for line in captured.out.splitlines()]
    assert places == ["stage 'tiny_a':", 'datasets.train', 'datasets.val', "stage 'tiny_b':", 'datasets.train']


def test_a_run_stopped_in_its_last_validation_can_be_ended(staged, stop_after_saving, tmp_path):
    options = staged(stages=None, train={'total_iter': 2})
    stop_after_saving('tiny')
    assert train([options]) == 130
    assert not (tmp_path / 'experiments' / 'tiny' / 'models' / 'net_g_latest.pth').exists()
    assert train([options, '--auto_resume']) == 0
    assert len(losses(tmp_path / 'experiments' / 'tiny')) == 2 and weights(tmp_path / 'experiments' / 'tiny')


def test_testing_a_file_with_stages_takes_the_last(staged, tmp_path):
    options = staged()
    best = tmp_path / 'experiments' / 'tiny_all' / 'best' / 'net_g_best.pth'
    assert train([options]) == 0
    assert run_test([options, f'path.pretrain_network_g={best}']) == 0
    assert (tmp_path / 'results' / 'tiny_all' / 'toy.csv').is_file()


def test_the_command_line_holds_for_all_stages_or_for_one(staged, tmp_path):
    file = staged(path={'pretrain_network_g': None})
    settings = {'is_train': True, 'root': tmp_path}
    first, last = (s.opt for s in load_stages(file, ['train.total_iter=2', 'name=other'], **settings))
    assert (first['train']['total_iter'], last['train']['total_iter']) == (2, 2)
    assert (first['name'], last['name']) == ('other_first', 'other_all')
    assert first['path'].get('pretrain_network_g') is None
    assert last['path']['pretrain_network_g'] == str(tmp_path / 'experiments/other_first/models/net_g_latest.pth')
    first, last = (s.opt for s in load_stages(file, ['stages.1.train.total_iter=2'], **settings))
    assert (first['train']['total_iter'], last['train']['total_iter']) == (3, 2)
    assert load_options(file, is_train=False).opt['name'] == 'tiny_all'
    assert [s.opt['name']
            for s in load_stages(file, is_train=True, debug=True)] == ['debug_tiny_first', 'debug_tiny_all']


def test_mistakes_of_all_stages_are_reported_with_their_lines_before_anything_starts(staged, tmp_path, capsys):
    file = staged(
        manual_sed=3, stages=[{'name': 'a', 'train.totl_iter': 3, 'train.pixel_opt.reduction': ['x']}, {
            'name': 'b', 'train.total_iter': 200, 'train.total_iter.x': 1, 'path.fine_tune_from': 'a',
            'datasets.train.gt_size': 'big'
        }])
    assert train([file]) == 2
    lines = capsys.readouterr().err.splitlines()
    text = Path(file).read_text().splitlines()
    assert lines[0] == f'error: 7 mistakes in {file}'
    for stage, option, key, message in (
        ('a', 'train.totl_iter', 'train.totl_iter', "Did you mean 'total_iter'?"),
        ('a', 'train.pixel_opt.reduction', 'train.pixel_opt.reduction', 'must be one of: mean, sum; not a list'),
        ('b', 'train.total_iter', 'train.total_iter: 200', 'the periods of the scheduler end after 100'),
        ('b', 'stages[1].train.total_iter.x', 'train.total_iter.x', "'total_iter' holds a single value"),
        ('b', 'stages[1].path.fine_tune_from', 'path.fine_tune_from', 'starts from the weights of the stage before'),
        ('b', 'datasets.train.gt_size', 'datasets.train.gt_size', "must be a whole number, not 'big'"),
    ):
        number = next(i for i, line in enumerate(text, 1) if key in line)
        found = [line for line in lines if line.startswith(f"  stage '{stage}': {file}:{number}: {option}: ")]
        assert len(found) == 1 and message in found[0], (key, lines)
    assert sum(line.startswith(f'  {file}:') and ': manual_sed: ' in line for line in lines) == 1  # it is one of all
    assert not (tmp_path / 'experiments').exists()


@pytest.mark.parametrize(
    'overrides, option, origin',
    [
        # the list comes from the command line, not from the lines that it replaces
        (['stages=[{name: a, train.totl_iter: 3}, {name: b}]'], 'train.totl_iter', 0),
        (['stages=[{name: a, train.pixel_opt.reduction: [x]}, {name: b}]'], 'train.pixel_opt.reduction', 0),
        (['stages.0={name: a, train.optim_g.lr: fast}'], 'train.optim_g.lr', 0),
        (['stages=[{name: a, train.totl_iter: 3}, {name: b}]', 'stages.0.train.total_iter=2'], 'train.totl_iter', 0),
        # a mapping replaces what was set inside it, and keeps what is changed inside it apart
        (['train.scheduler.periods=[1]', 'train.scheduler={type: CosineAnnealingRestartLR, periods: [x]}'
          ], 'train.scheduler.periods[0]', 1),
        (['val={metrics: {psnr: {type: calculate_psnr, crop_bordr: 1}}}', 'val.metrics.psnr.test_y_channel=true'
          ], 'val.metrics.psnr.crop_bordr', 0),
        (['train.totl_iter=3', 'train.total_iter=3'], 'train.totl_iter', 0),
    ])
def test_mistakes_of_the_command_line_are_reported_as_such(staged, overrides, option, origin):
    text = option_error(load_stages, staged(), overrides, is_train=True)
    assert f"override '{overrides[origin]}': {option}: " in text, text


@pytest.mark.parametrize('stages, message', [
    ([], 'must be a list of stages'),
    ({'name': 'a'}, 'must be a list of stages'),
    (['a'], 'must be a mapping with a name'),
    ([{'train.total_iter': 3}], 'must be a mapping with a name'),
    ([{'name': 'a/b'}], 'must be a mapping with a name'),
    ([{'name': 'a'}, {'name': 'a'}], "there are two stages called 'a'"),
    ([{'name': 'a'}, {'name': 'A'}], "there are two stages called 'A', or 'a', one folder on macOS and Windows"),
    ([{'name': 'a', 'stages.0.name': 'b'}], 'cannot change'),
])
def test_lists_that_are_no_stages(staged, stages, message):
    assert message in option_error(load_stages, staged(stages=stages), is_train=True)


def test_a_training_state_is_not_for_stages(staged):
    text = option_error(load_stages, staged(), ['path.resume_state=x.state'], is_train=True, check_files=False)
    assert '--auto_resume finds the stage' in text and text.count('resume_state') == 2


# ------------------------------------------------------------------------------------------------ fine-tuning


def test_fine_tuning_starts_from_the_last_weights_of_a_run(staged, starts, tmp_path):
    assert train([staged('earlier', stages=None)]) == 0
    earlier = tmp_path / 'experiments' / 'earlier'
    file = earlier / 'models' / 'net_g_4.pth'
    for i, start in enumerate(('earlier', str(file))):
        assert train([staged(f'tuned{i}', stages=None, path={'fine_tune_from': start}), 'manual_seed=9']) == 0
        assert same(starts[f'tuned{i}'], weights(earlier))
    first, last = load_stages(staged('both', path={'fine_tune_from': 'earlier'}), is_train=True)
    assert first.opt['path']['pretrain_network_g'] == str(earlier / 'models' / 'net_g_latest.pth')
    assert last.opt['path']['pretrain_network_g'].endswith('both_first/models/net_g_latest.pth')
    # what is tested is the run's own result
    assert 'pretrain_network_g' not in load_options(staged('x', path={'fine_tune_from': 'earlier'}),
                                                    is_train=False).opt['path']


def test_mistakes_in_fine_tune_from(staged, tmp_path):
    models = tmp_path / 'experiments' / 'my_earlier_run' / 'models'
    models.mkdir(parents=True)
    (models / 'net_g_latest.pth').touch()

    def mistake(start, *overrides):
        return option_error(load_stages, staged(stages=None, path={'fine_tune_from': start}), list(overrides),
                            is_train=True)

    text = mistake('my_earlyer_run')
    assert text.startswith('1 mistake') and "Did you mean 'my_earlier_run'?" in text and 'Runs: my_earlier_run' in text
    assert 'give one of the two' in mistake('my_earlier_run', f'path.pretrain_network_g={models}/net_g_latest.pth')
    assert 'takes all weights or none' in mistake('my_earlier_run', 'path.strict_load_g=false')

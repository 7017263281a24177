"""The search for options: spaces and their mistakes, trials, pruning, failures, several processes, restarts, results."""
import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT

from basicsr.config import load_options
from basicsr.engine.early_stop import Stop
from basicsr.train import main as train
from basicsr.utils.errors import UserError

optuna = pytest.importorskip('optuna')

from basicsr.search import run as search_run  # noqa: E402
from basicsr.search import study as studies  # noqa: E402
from basicsr.search.command import main as search  # noqa: E402
from basicsr.search.command import parse, prepare  # noqa: E402
from basicsr.search.space import read_space  # noqa: E402

SPACE = """
space:
  train.optim_g.lr: {low: 1e-4, high: 1e-2, log: true}
  network_g.num_feat: {low: 2, high: 6, step: 2}
  train.optim_g.betas: {choices: [[0.9, 0.99], [0.5, 0.9]]}
fixed:
  train.grad_clip_norm: 1.0
trial_only:
  train.total_iter: 4
  val.val_freq: 2
sampler: {seed: 0}
"""
NETWORK = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}


@pytest.fixture
def files(tiny_options, tmp_path):
    """Arguments of a search: `files(trials, space text)`."""

    def arguments(trials: int, space: str = SPACE, *more: str) -> list[str]:
        options = tiny_options(network_g=NETWORK, train={'total_iter': 9})
        (tmp_path / 'space.yml').write_text(space)
        return ['--opt', str(options), '--space', str(tmp_path / 'space.yml'), '--trials', str(trials), *more]

    return arguments


def database(tmp_path: Path) -> optuna.Study:
    return optuna.load_study(study_name='tiny', storage=f'sqlite:///{tmp_path}/experiments/tiny_search/study.db')


def states(tmp_path: Path) -> list[str]:
    return [t.state.name for t in database(tmp_path).trials]


# ------------------------------------------------------------------------------------------------ whole searches


def test_a_search_ends_with_options_ready_to_train(files, tmp_path, capsys):
    assert search(files(3)) == 0
    out, experiments = capsys.readouterr().out, tmp_path / 'experiments'
    folder = experiments / 'tiny_search'
    assert {p.name
            for p in folder.iterdir()} == {'best.yml', 'best_params.json', 'history.png', 'importance.png', 'study.db'}
    assert (folder / 'history.png').stat().st_size > 5000 and (folder / 'importance.png').stat().st_size > 5000
    study = database(tmp_path)
    assert [t.state.name for t in study.trials] == ['COMPLETE'] * 3
    for trial in study.trials:  # reported at every validation; the value is the best of them
        assert list(trial.intermediate_values) == [2, 4]
        assert trial.value == max(trial.intermediate_values.values())
        run = experiments / f'tiny_trial{trial.number}'
        assert 'train.optim_g.betas=' in (run / 'tiny.yml').read_text()
        assert float((run / 'metrics.csv').read_text().split(',')[-1]) == trial.intermediate_values[4]
    assert out.count('complete') == 3 and out.count('  best\n') == 1 and '3 of 3 trials are finished' in out
    best = json.loads((folder / 'best_params.json').read_text())
    assert best['value'] == study.best_value == max(t.value for t in study.trials)
    assert best['params']['network_g.num_feat'] in (2, 4, 6) and best['fixed'] == {'train.grad_clip_norm': 1.0}
    opt = load_options(folder / 'best.yml', is_train=True).opt
    assert opt['name'] == 'tiny_best' and opt['train']['grad_clip_norm'] == 1 and opt['train']['total_iter'] == 9
    assert opt['train']['optim_g']['lr'] == best['params']['train.optim_g.lr']
    assert list(opt['train']['optim_g']['betas']) == best['params']['train.optim_g.betas']
    assert train(['--opt', str(folder / 'best.yml'), 'train.total_iter=1']) == 0
    assert (experiments / 'tiny_best' / 'models' / 'net_g_latest.pth').is_file()


def test_a_trial_is_the_run_that_its_command_names(files, tmp_path):
    assert search(files(1)) == 0
    command = next(line for line in (tmp_path / 'experiments' / 'tiny_trial0' / 'tiny.yml').read_text().splitlines()
                   if line.startswith('# basicsr train'))  # yapf: disable
    losses = (tmp_path / 'experiments' / 'tiny_trial0' / 'losses.csv').read_text()
    assert train([*shlex.split(command)[3:], 'name=again']) == 0
    assert (tmp_path / 'experiments' / 'again' / 'losses.csv').read_text() == losses


def test_a_single_trial_has_no_importance(files, tmp_path, capsys):
    assert search(files(1)) == 0
    assert 'No importance.png' in capsys.readouterr().out
    assert not (tmp_path / 'experiments' / 'tiny_search' / 'importance.png').exists()


def test_lower_is_better_where_the_metric_says_so(files, tmp_path):
    assert search(files(2, SPACE, 'val.metrics.psnr.better=lower')) == 0
    study = database(tmp_path)
    assert study.direction.name == 'MINIMIZE' and study.best_value == min(t.value for t in study.trials)
    assert all(t.value == min(t.intermediate_values.values()) for t in study.trials)


def test_pruned_trials_end_early_and_in_order(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(studies, 'make_pruner', lambda *_: optuna.pruners.ThresholdPruner(lower=1e6))
    assert search(files(2)) == 2
    assert 'none of 2 trials was completed' in capsys.readouterr().err
    assert states(tmp_path) == ['PRUNED', 'PRUNED']
    run = tmp_path / 'experiments' / 'tiny_trial1'
    assert len(
        (run / 'losses.csv').read_text().splitlines()) == 1 + 2 and (run / 'models' / 'net_g_latest.pth').is_file()
    assert 'Training stops at iteration 2: the search has pruned trial 1' in next(run.glob('*.log')).read_text()


def test_a_diverging_trial_fails_and_is_explained(files, tmp_path, capsys):
    assert search(files(2, 'space: {train.optim_g.lr: {choices: [1e30]}}')) == 2
    assert 'none of 2 trials was completed; the last that failed: UserError: ' in capsys.readouterr().err
    assert states(tmp_path) == ['FAIL', 'FAIL']


# ------------------------------------------------------------------------------------------------ without training


def scripted(values: dict[int, list[float] | BaseException]):
    """In place of training: the validations of trial k, or what it raises."""

    def run(loaded, launcher, callbacks):
        given = values[int(loaded.opt['name'].rpartition('trial')[2])]
        if isinstance(given, BaseException):
            raise given
        try:
            for i, value in enumerate(given):
                callbacks[0].on_validation(2 * i + 2, {'toy': {'psnr': value}})
        except Stop:
            pass

    return run


def test_the_search_goes_on_after_a_failed_trial(files, tmp_path, monkeypatch, capsys):
    values = {
        0: [1., 5., 2.],
        1: torch.OutOfMemoryError('no memory'),
        2: UserError('not finite'),
        3: [float('nan')],
        4: [4.]
    }
    monkeypatch.setattr(search_run, 'train', scripted(values))
    assert search(files(5)) == 0
    assert states(tmp_path) == ['COMPLETE', 'FAIL', 'FAIL', 'FAIL', 'COMPLETE']
    trials = database(tmp_path).trials
    assert trials[1].user_attrs['error'] == 'OutOfMemoryError: no memory' and trials[0].value == 5
    assert 'never a number' in trials[3].user_attrs['error']
    out = capsys.readouterr().out
    assert 'OutOfMemoryError: no memory' in out and '5 of 5 trials are finished' in out


def test_a_defect_is_not_swallowed_and_does_not_count(files, tmp_path, monkeypatch):
    monkeypatch.setattr(search_run, 'train', scripted({0: [1.], 1: ZeroDivisionError()}))
    with pytest.raises(ZeroDivisionError):
        search(files(2))
    monkeypatch.setattr(search_run, 'train', scripted({2: [2.]}))
    assert search(files(2)) == 0
    assert states(tmp_path) == ['COMPLETE', 'FAIL', 'COMPLETE']


def test_an_interrupt_keeps_the_results_and_the_next_start_goes_on(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(search_run, 'train', scripted({0: [1.], 1: [2.], 2: KeyboardInterrupt()}))
    assert search(files(4)) == 130
    assert states(tmp_path) == ['COMPLETE', 'COMPLETE', 'FAIL']
    assert '2 of 4 trials are finished' in capsys.readouterr().out
    monkeypatch.setattr(search_run, 'train', scripted({3: [3.], 4: [0.]}))
    assert search(files(4)) == 0
    assert states(tmp_path) == ['COMPLETE', 'COMPLETE', 'FAIL', 'COMPLETE', 'COMPLETE']
    assert json.loads((tmp_path / 'experiments/tiny_search/best_params.json').read_text())['trial'] == 3
    assert search(files(4)) == 0 and len(states(tmp_path)) == 5  # nothing left to do


@pytest.mark.parametrize(('pruner', 'pruned_at'), [('{type: median, startup_trials: 1}', 4), ('{type: none}', None),
                                                   ('{type: median, startup_trials: 1, min_iter: 6}', 6),
                                                   ('{type: hyperband, min_iter: 2, reduction_factor: 2}', None)])
def test_pruners(files, tmp_path, monkeypatch, pruner, pruned_at):
    """The second trial is worse from its start; a median prunes it at the first validation after the warm-up."""
    monkeypatch.setattr(search_run, 'train', scripted({0: [3., 4., 5., 6.], 1: [1., 2., 3., 4.]}))
    space = SPACE.replace('total_iter: 4', 'total_iter: 8').replace('val_freq: 2',
                                                                    'val_freq: 4') + f'pruner: {pruner}\n'
    assert search(files(2, space)) == 0
    last = database(tmp_path).trials[1]
    if 'hyperband' not in pruner:  # whose brackets are drawn by the name of the study
        assert last.state.name == ('COMPLETE' if pruned_at is None else 'PRUNED')
        assert last.last_step == (pruned_at or 8)
    made = studies.make_pruner(read_space(tmp_path / 'space.yml').pruner, 4, 8)
    assert type(made).__name__ == {'med': 'MedianPruner', 'non': 'NopPruner', 'hyp': 'HyperbandPruner'}[pruner[7:10]]


def test_a_seeded_search_is_repeatable(files, tmp_path, monkeypatch):
    monkeypatch.setattr(search_run, 'train', scripted({i: [float(i)] for i in range(3)}))
    for name in ('a', 'b'):
        assert search(files(3, SPACE, '--study', name, '--storage', f'sqlite:///{tmp_path}/all.db')) == 0
    a, b = (optuna.load_study(study_name=n, storage=f'sqlite:///{tmp_path}/all.db').trials for n in ('a', 'b'))
    assert [t.params for t in a] == [t.params for t in b] and a[0].params != a[1].params


def test_the_last_process_waits_for_trials_of_others(files, tmp_path, monkeypatch):
    monkeypatch.setattr(search_run, 'train', scripted({1: [1.], 2: [2.]}))
    mine, _ = prepare(parse(files(2)))
    other = database(tmp_path)
    theirs, waits = other.ask(), []

    def wait():
        waits.append(1)
        if len(waits) == 3:
            other.tell(theirs, 7.)

    mine.run(wait)
    assert len(waits) == 3 and states(tmp_path) == ['COMPLETE', 'COMPLETE'] and mine.study.best_value == 7


def test_two_processes_that_take_the_last_trial_at_once_leave_one(files, tmp_path, monkeypatch):
    """The other one comes between our look at the study and the start of our trial."""
    monkeypatch.setattr(search_run, 'train', scripted({0: [1.], 1: [1.]}))
    mine, _ = prepare(parse(files(1)))
    other, taken = database(tmp_path), []

    def late(study, before=None):
        if before is None and not taken:
            taken.append(other.ask())
            return 0
        return studies.taken(study, before)

    monkeypatch.setattr(search_run, 'taken', late)
    mine.run(lambda: other.tell(taken[0], 3.))
    assert states(tmp_path) == ['COMPLETE', 'FAIL'] and mine.finished() == 1


# ------------------------------------------------------------------------------------------------ several processes


@pytest.fixture
def start():
    """Starts searches in processes of their own, which end with the test, however it ends."""
    started = []

    def inner(arguments: list[str]) -> subprocess.Popen:
        env = os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
        started.append(
            subprocess.Popen([sys.executable, '-m', 'basicsr.cli', 'search', *arguments], env=env, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True))  # yapf: disable
        return started[-1]

    yield inner
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_two_processes_share_one_database(files, tmp_path, start):
    arguments = files(5, SPACE.replace('seed: 0', 'type: random'))
    processes = [start(arguments) for _ in range(2)]
    for process in processes:
        out, error = process.communicate()
        assert process.returncode == 0, error
        assert '5 of 5 trials are finished' in out
    trials = database(tmp_path).trials
    assert sum(t.state.name == 'COMPLETE' for t in trials) == 5
    assert len({t.params['train.optim_g.lr'] for t in trials if t.state.name == 'COMPLETE'}) == 5
    assert len(list((tmp_path / 'experiments').glob('tiny_trial*'))) == 5


def test_the_trial_of_a_killed_process_is_replaced(files, tmp_path, start):
    forever = 10**8  # however late this process sees that the other one trains
    process = start(
        files(2, SPACE.replace('total_iter: 4', f'total_iter: {forever}'), f'train.scheduler.periods=[{forever}]'))
    while not (tmp_path / 'experiments' / 'tiny_trial0' / 'losses.csv').exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert states(tmp_path) == ['RUNNING']
    with sqlite3.connect(tmp_path / 'experiments' / 'tiny_search' / 'study.db') as connection:
        changed = connection.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')").rowcount
    assert changed == 1
    study = database(tmp_path)
    study.set_user_attr('identity', study.user_attrs['identity'] | {'space file.trial_only.train.total_iter': 4,
                                                                    'options.train.scheduler.periods': [100]})  # yapf: disable
    assert search(files(2)) == 0
    assert states(tmp_path) == ['FAIL', 'COMPLETE', 'COMPLETE']


# ------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(('space', 'expected'), [
    ('space: {train.optim_g.lrr: {low: 1, high: 2}}', "train.optim_g.lrr: unknown key 'lrr'. Did you mean 'lr'?"),
    ('space: {network_g.num_feat: {choices: [2, 4, many]}}', 'network_g.num_feat: must be a valid integer'),
    ('space: {train.losses.3.loss_weight: {low: 1, high: 2}}', 'train.losses.3.loss_weight'),
    ('space: {train.optim_g.lr: {low: 2, high: 1}}', 'space.yml:1: space.train.optim_g.lr:'),
    ('space: {train.optim_g.lr: {low: 0.0, high: 1, log: true}}', 'space.yml:1: space.train.optim_g.lr:'),
    ('space: {train.optim_g.lr: {low: 1}}', 'give choices: [...], or low and high'),
    ('space: {train.optim_g.lr: {low: 1, high: 2, choices: [1]}}', 'not both'),
    ('space: {train.optim_g.lr: {lo: 1, high: 2}}', "unknown key 'lo'. Did you mean 'low'?"),
    ('space: {}', 'space.yml:1: space:'),
    ('fixed: {manual_seed: 1}', 'space: is required'),
    (SPACE + 'prunner: {}', "unknown key 'prunner'. Did you mean 'pruner'?"),
    (SPACE + 'pruner: {type: medium}', "'medium' is not allowed; one of: median, hyperband or none"),
    (SPACE.replace('grad_clip_norm', 'optim_g.lr'), 'fixed.train.optim_g.lr: is searched already'),
    (SPACE.replace('grad_clip_norm', 'grad_clip'), "unknown key 'grad_clip'"),
])  # yapf: disable
def test_mistakes_in_the_space_are_told_before_anything_starts(files, tmp_path, capsys, space, expected):
    assert search(files(2, space)) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / 'experiments').exists()


@pytest.mark.parametrize(('more', 'expected'), [
    (['--metric', 'psrn'], "--metric 'psrn' is none of the metrics: psnr. Did you mean 'psnr'?"),
    (['--trials', '0'], '--trials 0: must be at least 1'),
    (['--storage', 'search.db'], "--storage 'search.db' cannot be used: "),
    (['--storage', 'sqlite:////nowhere/search.db'], "cannot be used: unable to open database file"),
    (['val.metrics=~'], 'has no validation to search by'),
    (['stages=[{name: a}]'], 'has stages; a search needs an option file of one run'),
    (['train.total_itr=4'], "unknown key 'total_itr'"),
])  # yapf: disable
def test_mistakes_on_the_command_line_are_told(files, capsys, more, expected):
    assert search(files(2, SPACE, *more)) == 2
    assert expected in capsys.readouterr().err


def test_a_study_is_not_continued_with_other_options_or_another_space(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(search_run, 'train', scripted({0: [1.], 1: [2.]}))
    assert search(files(1)) == 0
    for space, more, change in ((SPACE, ['train.optim_g.lr=0.5'], 'options.train.optim_g.lr: 0.001 then, 0.5 now'),
                                (SPACE.replace('high: 6', 'high: 8'), [], 'num_feat.high: 6 then, 8 now')):
        assert search(files(2, space, *more)) == 2
        error = capsys.readouterr().err
        assert "holds a study 'tiny' of other options or another space" in error and change in error
    assert search(files(2)) == 0 and states(tmp_path) == ['COMPLETE', 'COMPLETE']


def test_files_beside_the_option_file_are_still_found_from_the_result(files, tmp_path, monkeypatch):
    monkeypatch.setattr(search_run, 'train', scripted({0: [1.]}))
    arguments = files(1)
    options = yaml.safe_load((tmp_path / 'tiny.yml').read_text())
    options['datasets']['val']['dataroot_lq'] = 'data/input'
    (tmp_path / 'tiny.yml').write_text(yaml.safe_dump(options))
    assert search(arguments) == 0
    best = load_options(tmp_path / 'experiments' / 'tiny_search' / 'best.yml', is_train=True)
    assert best.opt['datasets']['val']['dataroot_lq'] == str(tmp_path / 'data' / 'input')

"""The search for options: spaces and their mistakes, trials, pruning, failures, restarts, results."""
import json
import shlex

import pytest
import torch
import yaml

from basicsr.config import load_options
from basicsr.train import main as train
from basicsr.utils.errors import UserError

optuna = pytest.importorskip('optuna')

from searches import SPACE, database, files_of, scripted, states  # noqa: E402

from basicsr.commands.search import main as search  # noqa: E402
from basicsr.search import run as search_run  # noqa: E402
from basicsr.search import study as studies  # noqa: E402
from basicsr.search.space import read_space  # noqa: E402


@pytest.fixture
def files(tiny_options, tmp_path):
    return files_of(tiny_options, tmp_path)


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
                   if line.startswith('# basicsr train'))
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
    assert 'none of 2 trials was completed; the last that failed: NotFinite: ' in capsys.readouterr().err
    assert states(tmp_path) == ['FAIL', 'FAIL']


# ------------------------------------------------------------------------------------------------ without training


def test_the_search_goes_on_after_a_failed_trial(files, tmp_path, monkeypatch, capsys):
    values = {
        0: [1., 5., 2.], 1: torch.OutOfMemoryError('no memory'), 2: UserError('not finite'), 3: [float('nan')], 4: [4.]
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
    space = SPACE.replace('total_iter: 4', 'total_iter: 8').replace('val_freq: 2', 'val_freq: 4')
    space += f'pruner: {pruner}\n'
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


# ------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(('space', 'expected'), [
    ('space: {train.optim_g.lrr: {low: 1, high: 2}}', "train.optim_g.lrr: unknown key 'lrr'. Did you mean 'lr'?"),
    ('space: {network_g.num_feat: {choices: [2, 4, many]}}', 'network_g.num_feat: must be a whole number'),
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
])
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
])
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

"""Space files of a search: kinds of parameters, and the shipped ones."""
import argparse
import json

import pytest
from conftest import ROOT, run_python

optuna = pytest.importorskip('optuna')

from basicsr.commands.search import prepare  # noqa: E402
from basicsr.search import study as studies  # noqa: E402
from basicsr.search.space import PrunerOptions, SamplerOptions, check_space, read_space  # noqa: E402
from basicsr.utils.errors import UserError  # noqa: E402


def test_the_kinds_of_parameters(tmp_path):
    file = tmp_path / 's.yml'
    file.write_text('space: {a: {low: 1, high: 9, step: 4}, b: {low: 1, high: 2.0}, c: {choices: [~, [1, 2], x]},'
                    ' d: {low: 1e-5, high: 1e-3, log: true}, e: {low: 1, high: 2, step: 0.25}}')
    space = read_space(file)
    study = optuna.create_study(sampler=studies.make_sampler(SamplerOptions(type='random', seed=1), 0))
    drawn = [{p: v.suggest(t, p) for p, v in space.parameters.items()} for t in (study.ask() for _ in range(60))]
    assert {d['a'] for d in drawn} == {1, 5, 9} and all(type(d['a']) is int for d in drawn)
    assert all(type(d['b']) is float and 1 <= d['b'] <= 2 for d in drawn)
    assert {json.dumps(d['c']) for d in drawn} == {'null', '[1, 2]', '"x"'}
    assert sum(d['d'] < 1e-4 for d in drawn) == pytest.approx(30, abs=12)  # half of them, on a logarithmic scale
    assert {d['e'] for d in drawn} == {1., 1.25, 1.5, 1.75, 2.}
    assert space.parameters['c'].decode('[1, 2]') == [1, 2] and space.pruner == PrunerOptions()


@pytest.mark.parametrize('file', sorted((ROOT / 'Options' / 'search').glob('*.yml')), ids=lambda p: p.stem)
def test_shipped_spaces_are_well_formed(file):
    assert read_space(file).parameters


def test_the_shipped_space_fits_the_demo_options(tmp_path):
    args = argparse.Namespace(opt=str(ROOT / 'Options' / 'RetinexMamba_demo.yml'), trials=1, storage=None, study=None,
                              space=str(ROOT / 'Options' / 'search' / 'retinexmamba.yml'), metric='ssim',
                              overrides=[f'path.experiments_root={tmp_path}'])
    found, folder = prepare(args)
    assert found.metric == 'ssim' and folder == tmp_path / 'RetinexMamba_demo_search'
    assert isinstance(found.study.pruner, optuna.pruners.MedianPruner)


def test_the_masrnet_space_fits_its_option_file(pairs):
    roots = [
        f'datasets.{block}.dataroot_{side}={pairs / folder}' for block in ('train', 'val')
        for side, folder in (('lq', 'input'), ('gt', 'target'))
    ]
    file = ROOT / 'Options' / 'search' / 'masrnet.yml'
    opt = check_space(read_space(file), file, ROOT / 'Options' / 'MASRNet_LOL_v1.yml', roots)
    weights = [(t['type'], t.get('loss_weight') or t['perceptual_weight']) for t in opt['train']['losses']]
    assert weights == [('CharbonnierLoss', 1.48), ('PerceptualLoss', 0.07733333), ('MoEBalanceLoss', 0.107),
                       ('PSNRHingeLoss', 0.08), ('SSIMLoss', 0.126), ('LabLoss', 0.006)]
    assert opt['train'].get('grad_clip_norm') is None


@pytest.mark.parametrize(('parameter', 'says'), [
    ('{low: 0, high: 1, log: true}', 'log: true needs a low above 0, not 0'),
    ('{low: 2, high: 1}', 'low: 2 is above high: 1'),
    ('{low: 1, high: 2, log: true, step: 1}', 'log: true takes no step'),
    ('{low: 1, high: 2, step: 0}', 'step must be above 0, not 0'),
    ('{low: .nan, high: 1}', 'low: must be a finite number, not .nan'),
    ('{low: 1, high: .inf}', 'high: must be a finite number, not .inf'),
    ('{low: true, high: 3}', 'low: must be a number, not true'),
])
def test_a_range_that_is_none_is_one_sentence(tmp_path, parameter, says):
    file = tmp_path / 's.yml'
    file.write_text(f'space:\n  a: {parameter}')
    with pytest.raises(UserError) as caught:
        read_space(file)
    head, line = str(caught.value).splitlines()
    assert head.startswith('1 mistake') and line.startswith(f'  {file}:2: space.a') and line.endswith(says)


def test_trials_that_interrupt_themselves_are_refused():
    file = ROOT / 'Options' / 'search' / 'retinexmamba.yml'
    with pytest.raises(UserError, match='time_limit interrupts runs, and a trial is not resumed'):
        check_space(read_space(file), file, ROOT / 'Options' / 'RetinexMamba_demo.yml', ['train.time_limit=5'])


def test_without_optuna_one_sentence_says_what_to_install():
    code = ("import sys; sys.modules['optuna'] = None; from basicsr.cli import main;"
            "sys.exit(main(['search', '--opt', 'x', '--space', 'y', '--trials', '1']))")
    done = run_python('-c', code, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr == ("error: searching needs Optuna, which is not installed; pip install 'retinexmamba[hpo]'\n")

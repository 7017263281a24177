"""Studies: what their files may say, what is a mistake, and what runs they make."""
from __future__ import annotations

import pytest
import yaml

from basicsr.ablation.study import read_study
from basicsr.commands.ablate import main as ablate
from basicsr.config.shorten import shortened
from basicsr.utils.errors import UserError

FULL = {'name': 'full', 'paper': {'psnr': 24.03, 'ssim': 0.827, 'source': 'the paper'}}


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
    study = read_study(ROOT / 'Ablation_Model' / 'photos_recipe.yml', 2, None, tmp_path)
    assert len(study.runs) == 34 and study.reference == 'base'
    assert {run.opt['network_g']['type'] for run in study.runs} == {'RetinexFormer', 'RetinexMamba', 'CIDNet'}
    assert all(run.opt['datasets']['val']['dataroot_lq'].endswith('data/LOLv1/Train/input') for run in study.runs)

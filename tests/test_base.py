"""Option files on one another: what is merged, where values stand, and what a run keeps of them."""
from __future__ import annotations

import json
import shutil

import pytest
from conftest import GOOD_OPTIONS, ROOT, run_python

from basicsr.ablation.study import read_study
from basicsr.commands.evaluate import main as evaluate
from basicsr.config import load_options, load_stages
from basicsr.config.base import read_options
from basicsr.config.json_schema import option_schema
from basicsr.config.yaml_reader import dump_yaml, read_yaml
from basicsr.test import main as run_test
from basicsr.train import main as train
from basicsr.utils.errors import UserError


@pytest.fixture
def write(tmp_path):
    """`write(name, text)`: an option file; `good.yml` is there."""

    def inner(name: str, text: str):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding='utf-8')
        return file

    inner('good.yml', GOOD_OPTIONS)
    return inner


def load(file, *overrides, is_train=True):
    return load_options(file, list(overrides), is_train=is_train, check_files=False).opt


def mistakes(file, *overrides) -> str:
    with pytest.raises(UserError) as caught:
        load(file, *overrides)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ what is merged


def test_blocks_are_merged_and_the_rest_is_replaced(write):
    file = write(
        'mine.yml', 'base: good.yml\nmanual_seed: 7\ntrain: {optim_g: {lr: 3e-4, betas: [0.8, 0.9]}}\n'
        'datasets: {test: {type: PairedImageDataset, dataroot_gt: g, dataroot_lq: l}}\n')
    opt, before = load(file), load(file.with_name('good.yml'))
    assert (opt['name'], before['name']) == ('mine', 'good')  # the run of a file is not that of its base
    assert opt['manual_seed'] == 7 and list(opt['datasets']) == ['train', 'val', 'test']
    assert opt['train']['optim_g'] == {'type': 'Adam', 'lr': 3e-4, 'betas': (0.8, 0.9)}
    for key in ('network_g', 'val', 'logger'):
        assert opt[key] == before[key]
    assert opt['train']['scheduler'] == before['train']['scheduler']


def test_null_takes_blocks_and_lists_away_and_is_a_value_elsewhere(write):
    write(
        'full.yml',
        GOOD_OPTIONS.replace(
            '  pixel_opt:', '  losses: [{type: SSIMLoss}]\n  grad_clip_norm: 1\n'
            '  mixing_augs: {mixup: true}\n  pixel_opt:'))
    opt = load(
        write(
            'mine.yml',
            'base: full.yml\ndatasets: {val: ~}\nval: {val_freq: ~, metrics: {psnr: ~}}\n'
            'train: {losses: ~, mixing_augs: ~, grad_clip_norm: ~}\nnetwork_g: {num_block: ~}\n',
        ).with_name('mine.yml'), 'network_g.num_block=2')
    assert list(opt['datasets']) == ['train'] and opt['val']['metrics'] == {} and opt['val']['val_freq'] is None
    assert 'losses' not in opt['train'] and 'mixing_augs' not in opt['train'] and opt['train']['grad_clip_norm'] is None
    text = mistakes(write('none.yml', 'base: full.yml\n\nnetwork_g: ~\n'))
    assert 'none.yml:3: network_g: is required' in text
    back = load(write('back.yml', 'base: mine.yml\nnetwork_g: {num_block: 3}\ntrain: {mixing_augs: {mixup_beta: 2}}\n'))
    assert back['train']['mixing_augs'] == {'mixup': False, 'mixup_beta': 2, 'use_identity': False}


@pytest.mark.parametrize(('text', 'path', 'found'), [
    ('network_g: {type: MSRResNet, num_feat: 16}',
     ('network_g', ), {'type': 'MSRResNet', 'num_feat': 16, 'num_block': 1, 'upscale': 2}),
    ('network_g: {type: RetinexMamba, n_feat: 8}', ('network_g', ), {'type': 'RetinexMamba', 'n_feat': 8}),
    ('train: {scheduler: {type: LinearLR}}', ('train', 'scheduler'), {'type': 'LinearLR'}),
    ('train: {pixel_opt: {type: SSIMLoss}}', ('train', 'pixel_opt'), {'type': 'SSIMLoss'}),
    ('train: {pixel_opt: {reduction: sum}}',
     ('train', 'pixel_opt'), {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'sum'}),
    ('val: {metrics: {psnr: {type: calculate_ssim}}}', ('val', 'metrics', 'psnr'), {'type': 'calculate_ssim'}),
])
def test_a_block_of_another_type_is_replaced_as_a_whole(write, text, path, found):
    block = load(write('mine.yml', f'base: good.yml\n{text}\n'))
    for key in path:
        block = block[key]
    assert block == found


def test_bases_have_bases_and_the_command_line_comes_last(write):
    write('below/middle.yml', 'base: ../good.yml\nmanual_seed: 1\nlogger: {print_freq: 5}\n')
    file = write('top.yml', 'base: below/middle.yml\nmanual_seed: 2\n')
    opt = load(file, 'logger.print_freq=9', 'train.optim_g.lr=1')
    assert (opt['manual_seed'], opt['logger']['print_freq'], opt['train']['optim_g']['lr']) == (2, 9, 1)
    assert load(file)['logger']['print_freq'] == 5
    data, source = read_options(file)
    assert 'base' not in data and [name.rpartition('/')[2] for name in source.bases] == ['middle.yml', 'good.yml']
    assert load(write('none.yml', GOOD_OPTIONS + 'base: ~\n'))['name'] == 'good'


def test_a_base_is_changed_nowhere_else(write):
    """Blocks that stand in the base twice by an alias are two blocks."""
    write('twice.yml', GOOD_OPTIONS.replace('  val:\n', '  val: &v\n').replace('network_g:', '  test: *v\nnetwork_g:'))
    opt = load(write('mine.yml', 'base: twice.yml\ndatasets: {val: {dataroot_lq: other}}\n'))
    assert [opt['datasets'][key]['dataroot_lq'] for key in ('val', 'test')] == ['other', 'lq']


def test_the_stages_of_a_base(write):
    staged = GOOD_OPTIONS + 'stages:\n  - {name: a, train.optim_g.lr: 1e-2}\n  - {name: b, train.total_iter: 50}\n'
    write('staged.yml', staged)
    runs = load_stages(write('mine.yml', 'base: staged.yml\ntrain: {optim_g: {lr: 3e-3}}\n'), is_train=True,
                       check_files=False)
    assert [run.opt['name'] for run in runs] == ['mine_a', 'mine_b']
    assert [run.opt['train']['optim_g']['lr'] for run in runs] == [1e-2, 3e-3]
    one = write('one.yml', 'base: staged.yml\nstages: ~\n')
    assert [run.opt['name'] for run in load_stages(one, is_train=True, check_files=False)] == ['one']
    other = write('other.yml', 'base: staged.yml\nstages: [{name: c}]\n')
    assert [run.opt['name'] for run in load_stages(other, is_train=True, check_files=False)] == ['other_c']
    write('staged.yml', staged.replace('train.optim_g.lr', 'train.optim_g.lrr'))
    line = staged[:staged.index('{name: a')].count('\n') + 1
    assert f"staged.yml:{line}: train.optim_g.lrr: unknown key 'lrr'" in mistakes(one.with_name('mine.yml'))


@pytest.mark.parametrize('dialect', ['basicsr', 'retinexformer'])
def test_a_base_in_another_dialect(write, dialect):
    base = ROOT / 'tests' / 'option_files' / f'{dialect}_train.yml'
    file = write('mine.yml', f'base: {base}\nmanual_seed: 5\ntrain: {{optim_g: {{lr: 5e-5}}}}\n')
    mine, theirs = (load_options(f, is_train=True, check_files=False) for f in (file, base))
    assert mine.opt['train'] == theirs.opt['train'] | {'optim_g': theirs.opt['train']['optim_g'] | {'lr': 5e-5}}
    for key in ('model_type', 'datasets', 'network_g', 'val'):
        assert mine.opt[key] == theirs.opt[key]
    assert set(mine.notices) == {note for note in theirs.notices if ': name: ' not in note}  # at the lines of the base


# ------------------------------------------------------------------------------------------------ mistakes


def test_each_mistake_is_reported_where_it_stands(write):
    write('wrong.yml', GOOD_OPTIONS.replace('num_feat: 8', 'num_feats: 8').replace('print_freq: 10', 'print_freq: x'))
    file = write('mine.yml', 'base: wrong.yml\nmanual_sed: 3\n\ntrain:\n  optim_g:\n    lrr: 1\n')
    lines = GOOD_OPTIONS.splitlines()
    text = mistakes(file, 'val.val_frq=2').splitlines()
    assert text[0] == f'5 mistakes in {file}'
    feat, freq = (next(i for i, line in enumerate(lines, 1) if part in line) for part in ('num_feat:', 'print_freq:'))
    places = [line.strip().rsplit('/', 1)[-1].split(': ')[:2] for line in text[1:]]
    assert sorted(places) == sorted([['mine.yml:2', 'manual_sed'], ['mine.yml:6', 'train.optim_g.lrr'],
                                     [f'wrong.yml:{feat}', 'network_g.num_feats'],
                                     [f'wrong.yml:{freq}', 'logger.print_freq'],
                                     ["override 'val.val_frq=2'", 'val.val_frq']])
    assert [place[0] for place in places if '.yml' in place[0]][:2] == ['mine.yml:2', 'mine.yml:6']  # the file first


@pytest.mark.parametrize(('text', 'says'), [
    ('a: 1\nbase: god.yml\n', "mine.yml:2: base: there is no option file 'god.yml' (looked in "),
    ('base: [good.yml]\n', 'mine.yml:1: base: must be the path of one option file'),
    ('base: {a: 1}\n', 'mine.yml:1: base: must be the path of one option file'),
    ('base: below\n', "mine.yml:1: base: there is no option file 'below'"),
    ('\nbase: list.yml\n', 'mine.yml:2: base: '),
    ('base: broken.yml\n', 'broken.yml:3: not valid YAML'),
    ('base: mine.yml\n', 'mine.yml:1: base: goes in a circle: '),
    ('base: loop.yml\n', 'loop.yml:2: base: goes in a circle: '),
])
def test_a_base_that_is_none_is_one_sentence(write, text, says):
    write('list.yml', '- a\n')
    write('broken.yml', 'a: 1\nb: [1\n')
    write('loop.yml', '\nbase: below/../mine.yml\n')
    write('below/x.yml', '')
    found = mistakes(write('mine.yml', text))
    assert says in found and '\n' not in found
    if 'god' in text:
        assert "Did you mean 'good.yml'?" in found
    if 'list' in text:
        assert "list.yml' holds no options" in found


def test_a_base_comes_from_option_files_alone(write):
    file = write('good.yml', GOOD_OPTIONS)
    assert "override 'base=x.yml': base: stands in option files alone" in mistakes(file, 'base=x.yml')
    staged = write('staged.yml', GOOD_OPTIONS + 'stages:\n  - {name: a, base: x.yml}\n')
    assert 'base: stands in option files alone' in mistakes(staged)


# ------------------------------------------------------------------------------------------------ files


def test_a_base_is_looked_for_beside_the_file_first(write, tmp_path, monkeypatch):
    write('elsewhere/good.yml', GOOD_OPTIONS.replace('manual_seed: 0', 'manual_seed: 8'))
    monkeypatch.chdir(tmp_path / 'elsewhere')
    assert load(write('mine.yml', 'base: good.yml\n'))['manual_seed'] == 0
    assert load(write('far/mine.yml', 'base: good.yml\n'))['manual_seed'] == 8  # from the working directory
    shipped = load(write('far/shipped.yml', 'base: Options/RetinexMamba_LOL_v1.yml\n'))  # below the checkout
    assert shipped['network_g']['type'] == 'RetinexMamba'


def test_a_base_is_looked_for_from_the_working_directory_before_the_checkout_and_nowhere_else(
        write, tmp_path, monkeypatch):
    name = 'RetinexMamba_LOL_v1.yml'
    write(f'here/Options/{name}', GOOD_OPTIONS.replace('manual_seed: 0', 'manual_seed: 8'))
    monkeypatch.chdir(tmp_path / 'here')
    assert load(write('far/mine.yml', f'base: Options/{name}\n'))['manual_seed'] == 8
    monkeypatch.chdir(tmp_path)
    write('Options/mine.yml', f'base: {name}\n')
    with pytest.raises(UserError,
                       match='there is no option file'):  # the folder of that name in the checkout is another
        load('Options/mine.yml')


def test_files_are_looked_for_beside_the_file_that_names_them(write, tmp_path):
    for folder in ('recipes/gt', 'recipes/lq', 'mine/lq'):
        (tmp_path / folder).mkdir(parents=True)
    write('recipes/net.py', '')
    write('recipes/good.yml', GOOD_OPTIONS + 'loss_files: [net.py]\n')
    file = write('mine/a.yml', 'base: ../recipes/good.yml\ndatasets: {val: {dataroot_lq: lq}}\n')
    blocks = load_options(file, is_train=True).opt['datasets']
    assert blocks['train']['dataroot_lq'] == blocks['val']['dataroot_gt'].replace('gt',
                                                                                  'lq') == f'{tmp_path}/recipes/lq'
    assert blocks['val']['dataroot_lq'] == f'{tmp_path}/mine/lq'
    (tmp_path / 'recipes' / 'gt').rmdir()
    (tmp_path / 'mine' / 'gt').mkdir()  # a file's own folder is for what its base names as well
    assert load_options(file, is_train=True).opt['datasets']['val']['dataroot_gt'] == f'{tmp_path}/mine/gt'
    (tmp_path / 'mine' / 'gt').rmdir()
    with pytest.raises(UserError) as caught:
        load_options(file, is_train=True)
    assert "recipes/good.yml:" in str(caught.value) and f"'{tmp_path}/recipes', '{tmp_path}/mine'" in str(caught.value)


@pytest.mark.parametrize('value', ['1e-4', '1.5', 'yes', '~', '461:', '', 'a: b', 'é'])
def test_what_is_written_is_read_again(tmp_path, value):
    data = {'text': value, 'list': [value, 1e-4, 1e-20, None, True], 'block': {'losses': [{'a': [1, [2, 3]]}, {}]}}
    (tmp_path / 'x.yml').write_text(dump_yaml(data), encoding='utf-8')
    assert read_yaml(tmp_path / 'x.yml')[0] == data


# ------------------------------------------------------------------------------------------------ runs


def test_what_a_run_keeps_needs_no_base(tiny_options, pairs, tmp_path, capsys):
    """Resuming, testing and evaluating from the run's folder, when base and data beside it say something else."""
    (tmp_path / 'own').mkdir()
    base = tiny_options('recipe', train={'total_iter': 2}, logger={'save_checkpoint_freq': 1})
    shutil.copy(base, tmp_path / 'own' / 'recipe.yml')
    text = (tmp_path / 'own' / 'recipe.yml').read_text().replace(str(pairs), '../data')
    (tmp_path / 'own' / 'recipe.yml').write_text(text)
    file = tmp_path / 'own' / 'mine.yml'
    file.write_text('# a variant\nbase: recipe.yml\ntrain: {optim_g: {lr: 5e-4}}\n')
    assert train(['--opt', str(file), 'manual_seed=9']) == 0
    run = tmp_path / 'experiments' / 'mine'
    kept = run / 'mine.yml'
    assert [p.name for p in run.glob('*.yml')] == ['mine.yml']  # the one option file of a run
    assert f'# {file} on {file.with_name("recipe.yml")}\n' in kept.read_text()
    did = json.loads((run / 'options.json').read_text())
    assert (did['train']['optim_g']['lr'], did['manual_seed']) == (5e-4, 9)
    said = load(file)
    shutil.rmtree(tmp_path / 'own')
    assert load(kept) == said and said['manual_seed'] == 3  # what the files say, without the command line
    assert train(['--opt', str(kept), '--auto_resume', 'train.total_iter=3', 'manual_seed=9']) == 0
    assert json.loads((run / 'options.json').read_text())['train']['total_iter'] == 3
    weights = run / 'models' / 'net_g_latest.pth'
    assert run_test([str(kept), f'path.pretrain_network_g={weights}']) == 0
    assert evaluate(['--opt', str(kept), '--weights', str(weights), '--output_dir', str(tmp_path / 'o')]) == 0
    assert (tmp_path / 'o' / 'metrics.json').is_file(), capsys.readouterr()


def test_a_file_without_a_base_is_kept_as_it_is(tiny_options, tmp_path):
    file = tiny_options(train={'total_iter': 1})
    file.write_text('# with its comments\n' + file.read_text())
    assert load_options(file, is_train=True).text == file.read_text()


def test_what_reads_option_files_reads_their_bases(tiny_options, pairs, tmp_path):
    """Studies and the packing of data look into option files before they are checked."""
    (tmp_path / 'own').mkdir()
    base = tiny_options('recipe', stages=[{'name': 'a'}, {'name': 'b'}])
    (tmp_path / 'own' / 'recipe.yml').write_text(base.read_text().replace(str(pairs), '../data'))
    (tmp_path / 'staged.yml').write_text('base: own/recipe.yml\n')
    (tmp_path / 'single.yml').write_text('base: own/recipe.yml\nstages: ~\n')
    study = tmp_path / 'study.yml'
    for name in ('staged', 'single'):
        study.write_text(f'variants: [{{name: x, opt: {name}.yml}}, {{name: y, opt: {name}.yml}}]\n')
        if name == 'staged':
            with pytest.raises(UserError, match='has stages'):
                read_study(study, 1, None, tmp_path)
    assert [run.opt['name'] for run in read_study(study, 1, None, tmp_path).runs] == ['x_seed3', 'y_seed3']
    script = [ROOT / 'scripts' / 'train_in_pieces.py', 'pack', '--root', tmp_path / 'here', '--to', tmp_path / 'up']
    done = run_python(*map(str, script), '--opt', str(tmp_path / 'single.yml'), cwd=ROOT)
    assert done.returncode == 0 and 'data: 1 of 1 parts' in done.stdout, done.stderr
    done = run_python(*map(str, script), '--opt', str(tmp_path / 'staged.yml'), cwd=ROOT)
    assert done.returncode == 2 and 'has stages' in done.stderr


# ------------------------------------------------------------------------------------------------ the tree


def test_the_schema_asks_files_on_a_base_for_nothing(write, tmp_path):
    jsonschema = pytest.importorskip('jsonschema')
    check = jsonschema.Draft202012Validator(option_schema())
    whole = read_yaml(tmp_path / 'good.yml')[0]
    assert check.is_valid(whole) and check.is_valid({'base': 'x.yml'})
    for change in ({'network_g': {'num_feat': 3}}, {'network_g': {'type': 'MSRResNet', 'num_feat': 3}},
                   {'datasets': {'val': None, 'train': {'gt_size': 8}}}, {'train': {'optim_g': {'lr': 1}}},
                   {'train': {'scheduler': {'type': 'MultiStepLR'}, 'pixel_opt': None, 'losses': None}}):
        assert check.is_valid(change | {'base': 'x.yml'}) and not check.is_valid(change), change
    assert not check.is_valid(whole | {'base': 3})
    for wrong in ({'network_g': {'type': 'MSRResNet', 'num_feats': 3}}, {'train': {'total_iters': 3}}, {'nme': 'x'},
                  {'datasets': {'val': {'type': 'PairedImageDatase'}}}):
        assert not check.is_valid(wrong | {'base': 'x.yml'}), wrong
    for block in (whole['network_g'], whole['train'], whole['train']['optim_g'], whole['datasets']['val']):
        for key in ('type', 'total_iter', 'lr', 'dataroot_gt'):
            if key in block:
                value = block.pop(key)
                assert not check.is_valid(whole), key
                block[key] = value
    assert check.is_valid(whole)


def test_the_example_of_the_docs(write):
    text = (ROOT / 'docs' / 'options.md').read_text(encoding='utf-8').split('## One file on another')[1]
    opt = load(write('my_lol.yml', text.split('```yaml\n')[1].split('```')[0]))
    assert opt['train']['pixel_opt'] == {'type': 'MSELoss'} and 'mixing_augs' not in opt['train']
    assert opt['datasets']['train']['batch_size_per_gpu'] == 4 and opt['datasets']['train']['gt_size'] == 128


def test_variants_of_the_tree_say_only_what_differs():
    files = [f for folder in ('Options', 'Ablation_Model') for f in (ROOT / folder).glob('*.yml')]
    based = {f: read_yaml(f)[0] for f in files if isinstance(read_yaml(f)[0].get('base'), str)}
    variants = {f: own for f, own in based.items() if 'variants' not in own}
    assert len(variants) > 40

    def repeated(own, base, path=()):
        for key, value in own.items():
            if isinstance(value, dict) and isinstance(base.get(key), dict):
                if value.get('type', base[key].get('type')) == base[key].get('type'):
                    yield from repeated(value, base[key], (*path, key))
            elif key in base and value == base[key]:
                yield '.'.join((*path, key))

    for file, own in variants.items():
        assert list(repeated(own, read_options(file.parent / own['base'])[0])) == [], file.name

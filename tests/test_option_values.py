"""What is read from option files: numbers, overrides, defaults, folders, frozen options, the JSON schema."""
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import GOOD_OPTIONS as GOOD
from conftest import option_error as message

from basicsr.config import freeze, json_schema, load_stages
from basicsr.config.schema import with_defaults
from basicsr.config.yaml_reader import read_yaml

ROOT = Path(__file__).resolve().parents[1]
OFFICIAL = sorted((ROOT / 'Options').glob('*.yml'))
ABLATIONS = [f for f in sorted((ROOT / 'Ablation_Model').glob('*.yml'))
             if 'variants' not in read_yaml(f)[0]]  # no studies
SHIPPED = OFFICIAL + ABLATIONS


@pytest.mark.parametrize('spelling', ['1e-4', '1E-4', '1.0e-4', '!!float 1e-4', "'1e-4'", '0.0001', '.1e-3'])
def test_numbers(load, spelling):
    assert load(GOOD, ('lr: 1e-4', f'lr: {spelling}')).opt['train']['optim_g']['lr'] == pytest.approx(1e-4)


@pytest.mark.parametrize('spelling', ['5e3', '5E3', '5.0e+3', '!!float 5e3', "'5e3'", '5000', '5_000'])
def test_whole_numbers(load, spelling):
    opt = load(GOOD, ('val_freq: 50', f'val_freq: {spelling}'), ('num_feat: 8', f'num_feat: {spelling}')).opt
    for value in (opt['val']['val_freq'], opt['network_g']['num_feat']):
        assert value == 5000 and type(value) is int


# ------------------------------------------------------------------------------------------------ overrides


@pytest.mark.parametrize(('text', 'path', 'expected'), [
    ('train.total_iter=7', ('train', 'total_iter'), 7),
    ('train:total_iter=7', ('train', 'total_iter'), 7),
    ('train.warmup_iter=-1', ('train', 'warmup_iter'), -1),
    ('train.optim_g.lr=2e-5', ('train', 'optim_g', 'lr'), 2e-5),
    ('train:optim_g:lr=!!float 2e-5', ('train', 'optim_g', 'lr'), 2e-5),
    ('train.scheduler.periods=[90, 10]', ('train', 'scheduler', 'periods'), [90, 10]),
    ('train.scheduler.periods.0=500', ('train', 'scheduler', 'periods'), [500, 40]),
    ('path.pretrain_network_g=~', ('path', 'pretrain_network_g'), None),
    ('val.suffix=a=b', ('val', 'suffix'), 'a=b'),
    ('val.pbar=false', ('val', 'pbar'), False),
    ('logger.wandb.project=mine', ('logger', 'wandb', 'project'), 'mine'),
    ('name=other', ('name', ), 'other'),
])
def test_overrides(load, text, path, expected):
    value = load(overrides=[text]).opt
    for part in path:
        value = value[part]
    assert value == expected and type(value) is type(expected)


def test_null_takes_a_block_away(load):
    assert 'val' not in load(overrides=['datasets.val=~']).opt['datasets']
    assert 'network_g: ' in message(load, GOOD, overrides=['network_g=~'])


@pytest.mark.parametrize('text', [
    'train.totl_iter=5', 'trian.total_iter=5', 'network_g={type: MSRResNt}', 'train.scheduler.periods.0=x',
    'train.scheduler.periods.7=3', 'train.scheduler.periods.-1=3', 'train.total_iter.x=3', 'total_iter', '=3',
    'train.total_iter=[1', 'train.total_iter=!!float abc', 'train.scheduler.²=1', 'datasets.train.gt_siz=4'
])
def test_a_mistaken_override_is_named(load, text):
    assert f"override '{text}'" in message(load, overrides=[text])


# ------------------------------------------------------------------------------------------------ what comes out


def test_defaults_names_and_folders(load, tmp_path):
    loaded = load(GOOD, ('name: good\n', ''), root=tmp_path)
    opt = loaded.opt
    assert opt['name'] == 'run'  # the file's name up to the first dot
    assert opt['is_train'] is True and loaded.file == tmp_path / 'run.x4.yml'
    assert opt['train']['warmup_iter'] == -1 and opt['train']['ema_decay'] == 0 and opt['val']['window_size'] == 0
    assert opt['path']['param_key_g'] == 'params' and opt['datasets']['val']['phase'] == 'val'
    assert opt['datasets']['train']['scale'] == 2 and opt['train']['optim_g']['betas'] == (0.9, 0.99)
    run = tmp_path / 'experiments' / 'run'
    folders = {key: run / key for key in ('models', 'training_states', 'visualization')}
    folders |= {'experiments_root': run, 'log': run, 'tb_logger': tmp_path / 'tb_logger' / 'run'}
    for key, folder in folders.items():
        assert opt['path'][key] == str(folder)
    test = load(is_train=False, root=tmp_path).opt['path']
    assert test['results_root'] == test['log'] == str(tmp_path / 'results' / 'good')
    assert test['visualization'] == str(tmp_path / 'results' / 'good' / 'visualization')
    custom = load(overrides=[f'path.experiments_root={tmp_path}/mine'], root=tmp_path).opt['path']
    assert custom['models'] == str(tmp_path / 'mine' / 'good' / 'models')
    assert not (tmp_path / 'experiments').exists()  # loading creates nothing


def test_debug(load):
    for opt in (load(debug=True).opt, load(GOOD, ('name: good', 'name: my_debug_run')).opt,
                load(GOOD[:GOOD.index('val:\n  val_freq')] + 'val: ~\nlogger: ~\n', debug=True).opt):
        assert opt['val']['val_freq'] == 8
        assert opt['logger']['print_freq'] == 1 and opt['logger']['save_checkpoint_freq'] == 8
    assert load(debug=True).opt['name'] == 'debug_good'
    assert load(GOOD, ('name: good', 'name: debug_it'), debug=True).opt['name'] == 'debug_it'


def test_the_frozen_options(load):
    opt = freeze(load().opt)
    assert opt['train'].get('no_such_key') is None and opt['train'].get('no_such_key', 3) == 3
    assert opt.train.optim_g.lr == opt['train']['optim_g']['lr'] == 1e-4
    for read in (lambda: opt['nothing'], lambda: opt.nothing, lambda: opt.train.nothing):
        with pytest.raises(KeyError):
            read()
    with pytest.raises(KeyError):
        opt['train']['more'] = 1
    with pytest.raises(KeyError):
        opt.more = 1
    assert 'more' not in opt and 'more' not in opt['train']


def test_data_paths_are_found_from_the_working_directory_beside_the_file_and_in_the_checkout(
        load, tmp_path, monkeypatch):
    home, here = tmp_path / 'home', tmp_path / 'here'
    for folder in (home / 'lq', here / 'gt', here / 'lq', tmp_path / 'gt', tmp_path / 'beside'):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv('HOME', str(home))
    demo = 'data/demo/test/input'
    pairs = (
        '  train:\n    name: pairs\n    type: PairedImageDataset\n    dataroot_gt: gt\n    dataroot_lq: lq',
        f'  train:\n    name: pairs\n    type: PairedImageDataset\n    dataroot_gt: beside\n    dataroot_lq: {demo}')
    text = GOOD.replace(*pairs).replace('dataroot_lq: lq', 'dataroot_lq: ~/lq')
    opt = load(text, check_files=True).opt['datasets']
    assert opt['train']['dataroot_gt'] == str(tmp_path / 'beside')
    assert opt['train']['dataroot_lq'] == str(ROOT / demo)
    assert opt['val']['dataroot_gt'] == str(here / 'gt')  # the working directory comes first
    assert opt['val']['dataroot_lq'] == str(home / 'lq')


def test_options_are_checked_without_torch_and_opencv(tmp_path):
    (tmp_path / 'bad.yml').write_text(GOOD.replace('num_feat', 'num_feet'))
    code = f'''
import sys
from basicsr.config import load_options
from basicsr.utils.errors import UserError
assert load_options({str(SHIPPED[0])!r}, is_train=True, check_files=False).opt['name']
try:
    load_options({str(tmp_path / 'bad.yml')!r}, is_train=True)
    raise SystemExit('no mistake found')
except UserError as error:
    assert "Did you mean 'num_feat'?" in str(error), error
print(sorted({{'torch', 'cv2', 'torchvision'}} & set(sys.modules)))
'''
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, '[]\n'), result.stderr


@pytest.mark.parametrize('given', ['absent', 'null'])
@pytest.mark.parametrize('is_train', [True, False])
def test_blocks_exist_with_their_defaults(load, is_train, given):
    data = yaml.safe_load(GOOD)
    for block in ('path', 'val', 'logger', 'dist_params'):
        data.pop(block, None)
        if given == 'null':
            data[block] = None
    opt = freeze(load(yaml.safe_dump(data), is_train=is_train, debug=is_train).opt)
    assert opt['logger']['save_checkpoint_freq'] == (8 if is_train else 5000)
    assert (opt['val']['save_img'], opt['val']['window_size']) == (False, 0)
    assert (opt['dist_params'], opt['path']['strict_load_g']) == ({'backend': 'nccl', 'port': 29500}, True)
    assert opt['val']['metrics'] == {} and 'pretrain_network_g' not in opt['path']


def test_a_record_of_an_earlier_version_equals_todays_options(load):
    data = yaml.safe_load(GOOD)
    del data['logger']
    data['val'] = {'val_freq': 50}
    opt = load(yaml.safe_dump(data)).opt
    record = {k: v for k, v in opt.items() if k not in ('logger', 'dist_params')}
    assert record != opt and with_defaults(record) == opt
    assert with_defaults(record | {'logger': {'print_freq': 7}}) != opt


# ------------------------------------------------------------------------------------------------ the files of the tree


@pytest.mark.parametrize('file', SHIPPED, ids=lambda f: f.name)
def test_shipped_options(file):
    schema = 'schema.json' if file in OFFICIAL else '../Options/schema.json'
    assert file.read_text(encoding='utf-8').startswith(f'# yaml-language-server: $schema={schema}\n')
    names = [f"{file.stem}_{stage['name']}" for stage in read_yaml(file)[0].get('stages', [])] or [file.stem]
    for is_train in (True, False):
        runs = load_stages(file, is_train=is_train, check_files=False)
        assert [run.opt['name'] for run in runs] == names
        for run in runs:
            train, data = run.opt['train'], run.opt['datasets']['train']
            assert run.notices == []
            assert sum(train['scheduler'].get('periods') or [train['total_iter']]) == train['total_iter']
            assert sum(data.get('iters') or [train['total_iter']]) == train['total_iter']


def test_the_json_schema_is_current():
    assert (ROOT / 'Options' / 'schema.json').read_text(encoding='utf-8') == json_schema.render(), 'run: basicsr schema'


def test_the_json_schema_accepts_the_options_and_rejects_mistakes():
    jsonschema = pytest.importorskip('jsonschema')
    schema = json.loads(json_schema.render())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for file in SHIPPED:
        assert [e.message for e in validator.iter_errors(read_yaml(file)[0])] == []
    for old, new in (('manual_seed', 'manual_sed'), ('n_feat', 'n_feet'), ('total_iter', 'total_iters'),
                     ('L1Loss', 'L1Los'), ('gt_size', 'gt_sice'), ('protocol: retinexformer', 'protocl: x')):
        text = (ROOT / 'Options' / 'RetinexMamba_LOL_v1.yml').read_text(encoding='utf-8')
        assert old in text
        assert not validator.is_valid(yaml.safe_load(text.replace(old, new))), new


def test_every_reference_of_the_json_schema_resolves():
    schema = json_schema.option_schema()
    references = {part.split('"')[0] for part in json.dumps(schema).split('#/$defs/')[1:]}
    assert references and references <= schema['$defs'].keys()
    assert schema['additionalProperties'] is False


@pytest.mark.parametrize('key, words', [('cuda_graphs', 'auto, true or false'),
                                        ('compile', 'true, false, reduce-overhead or max-autotune')])
def test_switches_with_further_words_name_them_all(load, key, words):
    text = GOOD.replace('total_iter:', f'{key}: maybe\n  total_iter:', 1)
    assert f"train.{key}: 'maybe' is not allowed; one of: {words}." in message(load, text)
    for value in (True, False):
        good = GOOD.replace('total_iter:', f'{key}: {str(value).lower()}\n  total_iter:', 1)
        assert load(good).opt['train'][key] is value

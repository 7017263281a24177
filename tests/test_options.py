"""Mistakes in option files: all at once, each with its line, its path and the nearest spelling."""
import copy
from pathlib import Path

import pytest
import yaml
from conftest import GOOD_OPTIONS as GOOD
from conftest import option_error as message

from basicsr.config import freeze, load_options
from basicsr.config.yaml_reader import read_yaml
from basicsr.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def line_of(text, part):
    numbers = [i for i, line in enumerate(text.splitlines(), 1) if part in line]
    assert len(numbers) == 1
    return numbers[0]


# ------------------------------------------------------------------------------------------------ mistakes


def test_every_mistake_is_reported_at_once_with_its_place_and_the_nearest_spelling(load):
    slips = [  # part of the file, what stands there instead, option path, what the message must say
        ('manual_seed:', 'manual_sed:', 'manual_sed', "Did you mean 'manual_seed'?"),
        ('batch_size_per_gpu:', 'batch_size_per_gpus:', 'datasets.train.batch_size_per_gpus', "'batch_size_per_gpu'?"),
        ('num_block:', 'num_blocks:', 'network_g.num_blocks', "Did you mean 'num_block'?"),
        ('strict_load_g:', 'strict_laod_g:', 'path.strict_laod_g', "Did you mean 'strict_load_g'?"),
        ('total_iter: 100', 'total_iter: 100\n  warmup_iters: 5', 'train.warmup_iters', "'warmup_iter'?"),
        ('betas:', 'beta:', 'train.optim_g.beta', "Did you mean 'betas'?"),
        ('eta_min:', 'eta_mins:', 'train.scheduler.eta_mins', "Did you mean 'eta_min'?"),
        ('loss_weight:', 'los_weight:', 'train.pixel_opt.los_weight', "Did you mean 'loss_weight'?"),
        ('val_freq:', 'val_frequ:', 'val.val_frequ', "Did you mean 'val_freq'?"),
        ('crop_border:', 'crop_bordr:', 'val.metrics.psnr.crop_bordr', "Did you mean 'crop_border'?"),
        ('print_freq:', 'print_frq:', 'logger.print_frq', "Did you mean 'print_freq'?"),
    ]
    text = GOOD
    for old, new, *_ in slips:
        assert text.count(old) == 1
        text = text.replace(old, new)
    lines = message(load, text).splitlines()
    assert lines[0].startswith(f'{len(slips)} mistakes in ')
    for _, new, path, hint in slips:
        line = next(line for line in lines if f': {path}: ' in line)
        number = line_of(text, new.split('\n')[-1].strip())
        assert f'run.x4.yml:{number}: ' in line
        assert hint in line and 'Allowed here: ' in line
    numbers = [int(line.split('run.x4.yml:')[1].split(':')[0]) for line in lines[1:]]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(('old', 'new', 'path', 'says'), [
    ('type: MSRResNet', 'type: MSRResnt', 'network_g.type', "Did you mean 'MSRResNet'?"),
    ('model_type: SRModel', 'model_type: SRModell', 'model_type', "Did you mean 'SRModel'?"),
    ('type: L1Loss', 'type: L2Loss', 'train.pixel_opt.type', "no loss called 'L2Loss'"),
    ('type: calculate_psnr', 'type: calculate_pnsr', 'val.metrics.psnr.type', "Did you mean 'calculate_psnr'?"),
    ('type: CosineAnnealingRestartLR', 'type: CosineRestartLR', 'train.scheduler.type', 'Known: '),
    ('type: Adam', 'type: Adm', 'train.optim_g.type', "Did you mean 'Adam'?"),
    ('type: MSRResNet', 'kind: 3', 'network_g.type', 'is required'),
    ('    lr: 1e-4\n', '', 'train.optim_g.lr', 'is required'),
    ('  total_iter: 100\n', '', 'train.total_iter', 'is required'),
    ('    periods: [60, 40]\n', '', 'train.scheduler.periods', 'is required'),
    ('total_iter: 100', 'total_iter: many', 'train.total_iter', "must be a whole number, not 'many'"),
    ('total_iter: 100', 'total_iter: 0', 'train.total_iter', 'greater than 0'),
    ('total_iter: 100', 'total_iter: 101', 'train.total_iter', '101 iterations, but the periods'),
    ('num_feat: 8', 'num_feat: wide', 'network_g.num_feat', "must be a whole number, not 'wide'"),
    ('num_gpu: 0', 'num_gpu: -1', 'num_gpu', 'greater than or equal to 0, not -1'),
    ('num_gpu: 0', 'num_gpu: atuo', 'num_gpu', "Did you mean 'auto'?"),
    ('betas: [0.9, 0.99]', 'betas: 0.9', 'train.optim_g.betas', 'must be a list, not 0.9'),
    ('type: CosineAnnealingRestartLR\n    periods: [60, 40]\n    restart_weights: [1, 1]',
     'type: LinearWarmupCosineAnnealingLR\n    warmup_iter: 100', 'train.scheduler.warmup_iter',
     '100 is not less than total_iter: 100'),
    ('type: CosineAnnealingRestartLR\n    periods: [60, 40]\n    restart_weights: [1, 1]\n    eta_min: 1e-7',
     'type: LinearWarmupCosineAnnealingLR\n    warmup_iter: 10\n  warmup_iter: 5', 'train.warmup_iter',
     'give one of the two'),
    ('restart_weights: [1, 1]', 'restart_weights: [1]', 'train.scheduler.restart_weights', '1 value for 2 periods'),
    ('    restart_weights: [1, 1]\n', '', 'train.scheduler.restart_weights', 'is required: 2 values for 2 periods'),
    ('type: CosineAnnealingRestartLR\n    periods: [60, 40]\n    restart_weights: [1, 1]\n    eta_min: 1e-7',
     'type: CosineAnnealingRestartCyclicLR\n    periods: [60, 40]\n    restart_weights: [1, 1]',
     'train.scheduler.eta_mins', 'is required: 2 values for 2 periods'),
    ('type: CosineAnnealingRestartLR\n    periods: [60, 40]\n    restart_weights: [1, 1]\n    eta_min: 1e-7',
     'type: MultiStepLR\n    milestones: [50]\n    restarts: [0, 50]', 'train.scheduler.restart_weights',
     'is required: 2 values for 2 restarts'),
    ('loss_weight: 1.0', 'reduction: none', 'train.pixel_opt.reduction',
     "must be mean or sum (training needs one number), not 'none'"),
    ('total_iter: 100', 'total_iter: 100\n  losses: [{type: MixedLoss, terms: [{type: MSELoss, reduction: none}]}]',
     'train.losses[0].terms[0].reduction', 'must be mean or sum'),
    ('betas: [0.9, 0.99]', 'differentiable: true', 'train.optim_g.differentiable', 'must be false'),
    ('crop_border: 2', 'input_order: CHW', 'val.metrics.psnr.input_order', "'CHW' is not allowed; one of: HWC."),
    ('crop_border: 2', 'better: high', 'val.metrics.psnr.better', "Did you mean 'higher'?"),
    ('val_freq: 50', 'val_freq: 50\n  best_metric: ssim', 'val.best_metric', "'ssim' is none of the metrics: psnr"),
    ('  val:\n', '  valid:\n', 'datasets.valid', "Did you mean 'val'?"),
    ('print_freq: 10', 'print_freq: [10]', 'logger.print_freq', 'must be a whole number, not a list'),
    ('gt_size: 32', 'gt_size: 33', 'datasets.train.gt_size', '33 is not a multiple of scale: 2'),
    ('gt_size: 32', 'gt_size: 32\n    mini_batch_sizes: [4, 2]\n    gt_sizes: [16, 32]\n    iters: [5]',
     'datasets.train', 'one length'),
    ('gt_size: 32', 'gt_size: 32\n    mini_batch_sizes: [4]\n    gt_sizes: [64]\n    iters: [5]',
     'datasets.train.gt_sizes', '64 is larger than gt_size: 32'),
    ('gt_size: 32', 'gt_size: 32\n    mini_batch_sizes: [4]', 'datasets.train', 'given together'),
])
def test_one_mistake(load, old, new, path, says):
    text = message(load, GOOD, (old, new))
    found = [line for line in text.splitlines() if f': {path}: ' in line]
    assert len(found) == 1 and says in found[0] and 'run.x4.yml:' in found[0]


@pytest.mark.parametrize(('old', 'new', 'path', 'right'), [
    ('batch_size_per_gpu: 4', 'batch_size: 4', 'datasets.train.batch_size', 'batch_size_per_gpu'),
    ('total_iter: 100', 'total_iter: 100\n  lr: 1e-4', 'train.lr', 'train.optim_g.lr'),
    ('total_iter: 100', 'total_iter: 100\n  epochs: 5', 'train.epochs', 'total_iter'),
    ('num_gpu: 0', 'num_gpu: 0\nbatch_size: 4', 'batch_size', 'datasets.train.batch_size_per_gpu'),
    ('num_gpu: 0', 'num_gpu: 0\nlr: 1', 'lr', 'train.optim_g.lr'),
    ('total_iter: 100', 'total_iter: 100\n  iters: 5', 'train.iters', 'total_iter'),
    ('num_gpu: 0', 'num_gpu: 0\nniter: 5', 'niter', 'train.total_iter'),
    ('num_gpu: 0', 'num_gpu: 0\nepoch: 5', 'epoch', 'train.total_iter'),
    ('batch_size_per_gpu: 4', 'batchsize: 4', 'datasets.train.batchsize', 'batch_size_per_gpu'),
    ('batch_size_per_gpu: 4', 'bs: 4', 'datasets.train.bs', 'batch_size_per_gpu'),
    ('num_gpu: 0', 'num_gpu: 0\ndevice: cuda', 'device', 'num_gpu'),
    ('gt_size: 32', 'patch_size: 32', 'datasets.train.patch_size', 'gt_size'),
    ('type: calculate_psnr', 'type: psnr', 'val.metrics.psnr.type', 'calculate_psnr'),
    ('type: calculate_psnr', 'type: PSNR', 'val.metrics.psnr.type', 'calculate_psnr'),
    ('type: MSRResNet', 'type: retinexmamba', 'network_g.type', 'RetinexMamba'),
    ('type: MSRResNet', 'type: retinexmamba_arch', 'network_g.type', 'RetinexMamba'),
    ('type: MSRResNet', 'type: srresnet', 'network_g.type', 'MSRResNet'),
    ('type: L1Loss', 'type: l1', 'train.pixel_opt.type', 'L1Loss'),
])
def test_words_that_people_bring(load, old, new, path, right):
    found = [line for line in message(load, GOOD, (old, new)).splitlines() if f': {path}: ' in line]
    assert len(found) == 1 and f"Did you mean '{right}'?" in found[0]


def test_shuffling_is_no_option(load):
    text = message(load, GOOD, ('gt_size: 32', 'gt_size: 32\n    shuffle: true'))
    assert "'shuffle'. Not needed: training images are shuffled, and others never." in text


@pytest.mark.parametrize(('override', 'says'), [
    ('model_type=-1', 'model_type: must be text, not -1'),
    ('val.best_metric={a: 1}', 'val.best_metric: must be text, not a mapping'),
    ('datasets.val=5', 'datasets.val: must be a mapping (key: value), not 5'),
    ('train.total_iter=~', 'train.total_iter: must be a whole number, not null'),
    ('train.total_iter=true', 'train.total_iter: must be a whole number, not true'),
    ('train.total_iter=2024-01-01', 'train.total_iter: must be a whole number, not 2024-01-01'),
    ('train.total_iter=1.5', 'train.total_iter: must be a whole number, not 1.5'),
    ('train.total_iter=!!set {a}', 'train.total_iter: must be a whole number, not a set'),
    ('val.save_img=maybe', "val.save_img: must be true or false, not 'maybe'"),
    ('train.optim_g.lr=.nan', 'train.optim_g.lr: must be a finite number, not .nan'),
    ('name={a: 1}', 'name: must be text, not a mapping'),
    ('logger=[1]', 'logger: must be a mapping (key: value), not a list'),
    ('network_g={type: MSRResNet, upscale: true}', 'network_g.upscale: must be a whole number, not true'),
    ('path.resume_state=""', 'path.resume_state: must not be empty'),
    ('path.experiments_root=""', 'path.experiments_root: must not be empty'),
    ('path.fine_tune_from=""', 'path.fine_tune_from: must not be empty'),
    ('datasets.train.dataroot_gt=""', 'datasets.train.dataroot_gt: must not be empty'),
    ('arch_files=[""]', 'arch_files[0]: must not be empty'),
])
def test_one_mistake_is_one_sentence_in_the_words_of_yaml(load, override, says):
    head, line = message(load, overrides=[override]).splitlines()
    assert head.startswith('1 mistake in ') and line == f"  override '{override}': {says}"


def test_stages_on_the_command_line_are_the_place_of_their_mistakes(load):
    override = 'stages=[{name: a, train.total_iter: x, 5: 3}]'
    lines = message(load, overrides=[override]).splitlines()[1:]
    assert len(lines) == 2 and all(line.startswith(f"  override '{override}': ") for line in lines), lines


@pytest.mark.parametrize(('old', 'new', 'says'), [
    ('total_iter: 100', 'total_iter: 100\n  warmup_iter: 100',
     'train.warmup_iter: the run ends after 100 iterations, before or with the warm-up of 100'),
    ('type: CosineAnnealingRestartLR\n    periods: [60, 40]\n    restart_weights: [1, 1]\n    eta_min: 1e-7',
     'type: MultiStepLR\n    milestones: [50, 100, 200]',
     'train.scheduler.milestones: without effect, as the run ends after 100 iterations: 100, 200'),
    ('type: CosineAnnealingRestartLR\n    periods: [60, 40]\n    restart_weights: [1, 1]\n    eta_min: 1e-7',
     'type: MultiStepLR\n    milestones: [50]\n    restarts: [0, 300]\n    restart_weights: [1, 1]',
     'train.scheduler.restarts: without effect, as the run ends after 100 iterations: 300'),
    *(('total_iter: 100', f'total_iter: 100\n  {key}: {{type: X}}', f'train.{key}: not read by SRModel')
      for key in ('optim_d', 'gan_opt', 'ldl_opt', 'feature_matching_opt')),
])
def test_what_a_run_does_not_reach_or_read_is_said_in_one_line(load, old, new, says):
    notice, = load(GOOD, (old, new)).notices
    assert notice.endswith(says) and 'run.x4.yml:' in notice


def test_a_run_that_ends_before_its_periods_is_said_in_one_line(load):
    notices = load(GOOD, ('total_iter: 100', 'total_iter: 90')).notices
    assert len(notices) == 1 and 'train.total_iter: 90 iterations end before the periods' in notices[0]
    assert load(GOOD).notices == []


def test_missing_files_and_folders_are_mistakes_too(load, tmp_path):
    text = message(load, GOOD + 'arch_files: [no_arch.py]\nnme: x\n', check_files=True)
    assert text.startswith('6 mistakes')
    for path in ('datasets.train.dataroot_gt', 'datasets.val.dataroot_lq', 'arch_files[0]', 'nme'):
        assert f': {path}: ' in text
    assert f"'{tmp_path}'" in text  # where it was looked for


def test_no_form_of_a_value_gives_anything_but_a_sentence(load):
    base = yaml.safe_load(GOOD)
    base['train']['losses'] = [{'type': 'MSELoss'}]
    base['val']['best_metric'] = 'psnr'

    def places(node, path=()):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield (*path, key)
            if isinstance(value, (dict, list)):
                yield from places(value, (*path, key))

    refused = 0
    blocks = [p for p in places(base) if len(p) < 3 or p[-1] in ('type', 'psnr', 'periods', 0)]
    for path in blocks:
        for wrong in (None, 5, 'x', [[1]], {'type': [1]}, {1: 2}):
            data = copy.deepcopy(base)
            target = data
            for part in path[:-1]:
                target = target[part]
            target[path[-1]] = wrong
            try:
                freeze(load(yaml.safe_dump(data), debug=True).opt)
            except UserError as error:  # any other exception is the defect looked for
                refused += 1
                assert 'run.x4.yml' in str(error)
    assert refused > len(blocks)


# ------------------------------------------------------------------------------------------------ the file itself


@pytest.mark.parametrize(('text', 'says'), [
    ('', 'holds no options'),
    ('# only a comment\n', 'holds no options'),
    ('- a\n- b\n', 'holds no options'),
    ('just words\n', 'holds no options'),
    ('a: 1\nb: [1, 2\n', ':3: not valid YAML'),
    ('a: 1\nb:\n\tc: 3\n', ':3: not valid YAML'),
    ('a: 1\nb: {c: 1}\na: 2\n', ":3: 'a' is given twice, first on line 1"),
    ('a: 1\nb: {c: 1, c: 2}\n', ":2: 'c' is given twice, first on line 2"),
    ('a: 1\nb: !!float abc\n', ':2: not valid YAML: could not convert'),
    ('a: 1\nb: 2024-13-45\n', ':2: not valid YAML: month'),
    ('a: !!python/object:os.system x\n', ':1: not valid YAML'),
    ('? [a, b]\n: 3\n', ':1: a key must be a word'),
    ('a: &x\n  b: *x\n', 'refers to itself'),
])
def test_a_file_that_is_no_option_file(tmp_path, text, says):
    file = tmp_path / 'bad.yml'
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        read_yaml(file)
    assert 'bad.yml' in str(caught.value) and says in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / 'other.yml').write_text('a: 1\n')
    with pytest.raises(UserError, match=r'there is no option file .*other\.yml'):
        load_options(tmp_path / 'othr.yml', is_train=True)
    with pytest.raises(UserError, match='there is no option file'):
        load_options(tmp_path, is_train=True)
    (tmp_path / 'latin.yml').write_bytes('name: caf\xe9\n'.encode('latin-1'))
    with pytest.raises(UserError, match='not a text file in UTF-8'):
        load_options(tmp_path / 'latin.yml', is_train=True)
    (tmp_path / 'bom.yml').write_bytes(b'\xef\xbb\xbfname: \xc3\xa9t\xc3\xa9\n')
    assert read_yaml(tmp_path / 'bom.yml')[0] == {'name': 'été'}


def test_merged_blocks_may_be_changed(load):
    text = GOOD.replace('  val:\n', '  val: &val\n').replace(
        'network_g:\n', '  val_2:\n    <<: *val\n    name: second\n    dataroot_lq: other\nnetwork_g:\n')
    opt = load(text).opt['datasets']
    assert (opt['val']['name'], opt['val_2']['name'], opt['val_2']['dataroot_lq']) == ('test', 'second', 'other')
    assert opt['val_2']['dataroot_gt'] == 'gt'
    wrong = text.replace('dataroot_lq: other', 'dataroot_lqs: other')
    assert f'run.x4.yml:{line_of(wrong, "dataroot_lqs")}: datasets.val_2.dataroot_lqs' in message(load, wrong)


@pytest.mark.parametrize(
    'written, path',
    [
        (r'"D:\data\new"', 'D:/data/new'),  # \d is no escape
        (r'"D:\train\new"', 'D:/train/new'),  # \t and \n are
        (r'"C:\Users\me"', 'C:/Users/me'),  # \U wants eight digits
        (r'"D:\my data\new 1"', 'D:/my data/new 1'),
        (r'"\\server\share"', '//server/share'),
        (r'"data\new"', 'data/new'),
        (r'["D:\train"]', 'D:/train'),
        (r'{夜: "D:\train\é"}', 'D:/train/é'),
        (r'"D:\data', 'D:/data'),
    ])
def test_windows_path_in_double_quotes_is_explained(tmp_path, written, path):
    file = tmp_path / 'x.yml'
    file.write_text(f'# 夜é\nname: x\ndataroot_lq: {written}\n', encoding='utf-8')
    with pytest.raises(UserError) as caught:
        read_yaml(file)
    assert str(caught.value) == f'{file}:3: in double quotes \\ begins an escape; write {path}, or use single quotes'


@pytest.mark.parametrize('written, value', [
    (r"'D:\train\new'", r'D:\train\new'),
    (r'D:\train\new', r'D:\train\new'),
    (r'"D:\\train\\new"', r'D:\train\new'),
    (r'"\\\\server\\share"', r'\\server\share'),
    (r'"D:/train/new"', 'D:/train/new'),
    (r'"one line\nand another"', 'one line\nand another'),
    (r'"caf\u00e9"', 'café'),
])
def test_escapes_that_are_meant_stay(tmp_path, written, value):
    (tmp_path / 'x.yml').write_text(f'note: {written}\n', encoding='utf-8')
    assert read_yaml(tmp_path / 'x.yml')[0] == {'note': value}

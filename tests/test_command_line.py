"""The command lines: train.py and test.py in every spelling of the family, and the sub-commands of `basicsr`."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from basicsr import cli
from basicsr.config.command_line import parse_command_line
from basicsr.registry import ARCH_REGISTRY
from basicsr.utils.errors import UserError
from basicsr.utils.img import imwrite

ROOT = Path(__file__).resolve().parents[1]


def parse(*argv):
    return parse_command_line('text', list(argv))


def run(*argv, cwd=ROOT, **environment):
    """A fresh process of the interpreter with the checkout on the path."""
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **environment}
    command = [sys.executable, *map(str, argv)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


# ------------------------------------------------------------------------------------------------ train.py, test.py


@pytest.mark.parametrize(
    'argv', [['-opt', 'X.yml'], ['--opt', 'X.yml'], ['-opt=X.yml'], ['--opt=X.yml'], ['-o', 'X.yml'], ['X.yml'],
             ['--launcher', 'none', 'X.yml'], ['X.yml', '--launcher=none'], ['--local_rank', '3', '-opt', 'X.yml'],
             ['--local-rank=3', '-opt', 'X.yml'], ['--local_rank=3', 'X.yml'], ['-opt', 'X.yml', '--local-rank', '0']])
def test_spellings(argv):
    args = parse(*argv)
    assert (args.opt, args.launcher, args.overrides) == ('X.yml', 'none', [])
    assert args.auto_resume is False and args.debug is False


def test_flags():
    args = parse('-opt', 'X.yml', '--launcher', 'pytorch', '--auto_resume', '--debug')
    assert (args.launcher, args.auto_resume, args.debug) == ('pytorch', True, True)
    assert parse('X.yml', '--launcher=slurm').launcher == 'slurm'


@pytest.mark.parametrize('argv', [
    ['X.yml', 'train.total_iter=5', 'name=a=b'],
    ['train.total_iter=5', 'X.yml', 'name=a=b'],
    ['-opt', 'X.yml', '--force_yml', 'train.total_iter=5', 'name=a=b'],
    ['--force_yml', 'train.total_iter=5', 'name=a=b', '--opt', 'X.yml'],
    ['train.total_iter=5', '--opt', 'X.yml', '--debug', 'name=a=b'],
    ['train.total_iter=5', '--opt', 'X.yml', '--force_yml', 'name=a=b'],
])
def test_overrides_stand_anywhere(argv):
    args = parse(*argv)
    assert (args.opt, args.overrides) == ('X.yml', ['train.total_iter=5', 'name=a=b'])


def test_overrides_in_the_spelling_of_basicsr_and_with_negative_numbers():
    args = parse('-opt', 'X.yml', '--force_yml', 'train:warmup_iter=-1', 'train:optim_g:lr=1e-5', 'val:suffix=~')
    assert args.overrides == ['train:warmup_iter=-1', 'train:optim_g:lr=1e-5', 'val:suffix=~']


@pytest.mark.parametrize('argv', [['A.yml', 'B.yml'], ['-opt', 'A.yml', 'B.yml'], ['-opt', 'A.yml', '--opt', 'B.yml'],
                                  ['-opt', 'A.yml', '--debug', 'B.yml'], ['A.yml', '--launcher', 'none', 'B.yml']])
def test_two_option_files_are_a_mistake(argv):
    with pytest.raises(UserError, match=r"'B\.yml' is neither .* the option file is 'A\.yml'"):
        parse(*argv)


@pytest.mark.parametrize('argv', [[], ['train.total_iter=5'], ['--debug'], ['--force_yml', 'a=1']])
def test_no_option_file_is_a_mistake(argv):
    with pytest.raises(UserError, match='no option file'):
        parse(*argv)


@pytest.mark.parametrize('argv',
                         [['X.yml', '--launcher', 'mpi'], ['X.yml', '--no_such_flag'], ['--opt'], ['X.yml', '--auto']])
def test_unknown_flags_and_values(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(*argv)
    assert caught.value.code == 2 and 'usage:' in capsys.readouterr().err


@pytest.mark.parametrize('script', ['train.py', 'test.py'])
def test_help_is_quick_and_mistakes_exit_with_2(script):
    code = ("import runpy, sys; sys.modules['torch'] = None; sys.modules['cv2'] = None; "
            f"sys.argv = ['{script}', *sys.argv[1:]]; runpy.run_path('basicsr/{script}', run_name='__main__')")
    shown = run('-c', code, '--help')
    assert shown.returncode == 0 and '--auto_resume' in shown.stdout and shown.stderr == ''
    failed = run('-c', code, 'no_such_file.yml')
    assert failed.returncode == 2 and failed.stderr.startswith("error: there is no option file 'no_such_file.yml'")
    assert failed.stderr.count('\n') == 1


def test_scripts_work_from_elsewhere_and_are_not_fooled_by_another_basicsr(tmp_path):
    other = tmp_path / 'site' / 'basicsr'
    other.mkdir(parents=True)
    (other / '__init__.py').write_text("raise RuntimeError('the wrong basicsr')\n")
    options = tmp_path / 'o.yml'
    options.write_text('name: x\n')
    for script in ('train.py', 'test.py'):
        result = run(ROOT / 'basicsr' / script, '-opt', 'o.yml', cwd=tmp_path, PYTHONPATH=str(other.parent))
        assert result.returncode == 2 and 'o.yml: network_g: is required' in result.stderr
        assert 'wrong basicsr' not in result.stderr


# ------------------------------------------------------------------------------------------------ basicsr COMMAND


@pytest.fixture
def basicsr(capsys, monkeypatch):
    """`basicsr('list', ...)`: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, 'argv', ['basicsr'])

    def inner(*argv):
        try:
            code = cli.main([str(a) for a in argv])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return inner


def test_unknown_and_missing_commands(basicsr):
    code, out, err = basicsr('chek-data')
    assert code == 2 and out == '' and "no command 'chek-data'. Did you mean 'check-data'?" in err
    code, out, err = basicsr()
    assert code == 2 and out == '' and 'usage: basicsr COMMAND' in err
    code, out, err = basicsr('--help')
    assert code == 0 and err == '' and 'check-data' in out and 'list' in out
    assert basicsr('--version')[:2] == (0, f'retinexmamba {cli.__version__}\n')


def test_the_module_form_needs_no_torch_to_answer(tmp_path):
    """As users start it, from another folder."""
    for module in ('basicsr', 'basicsr.cli'):
        result = run('-m', module, 'trian', cwd=tmp_path)
        assert result.returncode == 2 and "Did you mean 'train'?" in result.stderr
    code = ("import sys; sys.modules['torch'] = sys.modules['cv2'] = None; from basicsr.cli import main; "
            "sys.exit(main(['list', 'networks']))")
    result = run('-c', code, cwd=tmp_path)
    assert result.returncode == 0 and 'RetinexMamba' in result.stdout, result.stderr


@pytest.mark.parametrize('command', sorted(cli._COMMANDS))
def test_every_command_has_help(basicsr, command):
    code, out, err = basicsr(command, '--help')
    assert code == 0 and err == '' and out.startswith(f'usage: basicsr {command}')


def test_the_package_is_the_console_script(tmp_path):
    assert run('-m', 'basicsr', '--version', cwd=tmp_path).stdout == f'retinexmamba {cli.__version__}\n'
    result = run('-m', 'basicsr', 'list', '--help', cwd=tmp_path)
    assert result.returncode == 0 and result.stdout.startswith('usage: basicsr list')
    result = run('-m', 'basicsr', 'train', 'no_such_file.yml', cwd=tmp_path)
    assert result.returncode == 2 and result.stderr == "error: there is no option file 'no_such_file.yml'\n"


def test_the_columns_of_list_stay_apart_whatever_the_names(basicsr, monkeypatch, tmp_path):
    name = 'NetworkWithANameThatIsLongerThanAnyColumnCouldEverBe'
    (tmp_path / 'own_arch.py').write_text(f'class {name}:\n    pass\n')
    monkeypatch.setattr(ARCH_REGISTRY, '_extra', [])
    monkeypatch.setattr(ARCH_REGISTRY, '_index', None)
    ARCH_REGISTRY.add_file(tmp_path / 'own_arch.py')
    lines = [line for line in basicsr('list', 'networks')[1].splitlines() if line.startswith('  ') and line[2] != ' ']
    places = {line.split()[0]: line.index(line.split()[1]) for line in lines}
    assert len(lines) > 8 and set(places.values()) == {len(name) + 4}
    for kind in ('datasets', 'losses', 'schedulers', 'protocols'):
        rows = [line for line in basicsr('list', kind)[1].splitlines() if line.startswith('  ') and line[2] != ' ']
        assert rows and all('  ' in row[2:] for row in rows)


def test_list(basicsr):
    code, out, _ = basicsr('list')
    assert code == 0
    for title in ('networks', 'datasets', 'models', 'losses', 'metrics', 'schedulers', 'protocols', 'weights'):
        assert f'{title}:\n' in out
    code, out, _ = basicsr('list', 'losses')
    assert code == 0 and 'networks' not in out
    assert 'CharbonnierLoss' in out and 'basicsr/losses/pixel_loss.py' in out and "form='basicsr'" in out
    code, out, err = basicsr('list', 'loses')
    assert code == 2 and out == '' and 'losses' in err


@pytest.fixture
def pairs(tmp_path):
    """An option file beside two pairs."""
    rng = np.random.default_rng(0)
    for i in range(2):
        for kind in ('lq', 'gt'):
            imwrite(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8), tmp_path / kind / f'{i}.png')
    (tmp_path / 'data.yml').write_text('''\
name: check
model_type: SRModel
network_g: {type: MSRResNet, upscale: 1}
datasets:
  test_1: {type: PairedImageDataset, name: two, dataroot_gt: gt, dataroot_lq: lq}
''')
    return tmp_path


def test_check_data_on_good_data(basicsr, pairs, monkeypatch):
    monkeypatch.chdir('/')  # found beside the option file
    code, out, err = basicsr('check-data', '--opt', pairs / 'data.yml')
    assert (code, err) == (0, '')
    assert out == 'datasets.test_1 (PairedImageDataset): 2 samples, 0 mistakes; sizes: 24x16 (2)\n'


def test_check_data_on_damaged_data(basicsr, pairs):
    whole = (pairs / 'lq' / '1.png').read_bytes()
    (pairs / 'lq' / '1.png').write_bytes(whole[:len(whole) // 2])
    code, out, err = basicsr('check-data', '-opt', pairs / 'data.yml')
    assert code == 2 and '2 samples, 1 mistake;' in out
    assert err.count('\n') == 1 and err.startswith('error: datasets.test_1: ') and '1.png' in err


def test_check_data_on_sizes_that_do_not_belong_together(basicsr, pairs):
    imwrite(np.zeros((20, 24, 3), np.uint8), pairs / 'gt' / '0.png')
    code, _, err = basicsr('check-data', '--opt', pairs / 'data.yml')  # in test sets as in training
    assert code == 2 and err.count('\n') == 1 and err.startswith('error: datasets.test_1: ') and '0.png' in err
    text = (pairs / 'data.yml').read_text().replace('test_1:', 'train:')
    (pairs / 'data.yml').write_text(text.replace('Dataset, ', 'Dataset, gt_size: 8, use_rot: true, '))
    code, out, err = basicsr('check-data', '--opt', pairs / 'data.yml')
    assert code == 2 and err.count('\n') == 1 and err.startswith('error: datasets.train: ') and '0.png' in err
    assert 'sizes: 24x16' in out
    imwrite(np.zeros((8, 8, 3), np.uint8), pairs / 'gt' / '1.png')
    code, _, err = basicsr('check-data', '--opt', pairs / 'data.yml')
    assert code == 2 and err.count('\n') == 2 and '0.png' in err and '1.png' in err


def test_check_data_without_partner(basicsr, pairs):
    (pairs / 'lq' / '0.png').unlink()
    code, _, err = basicsr('check-data', '--opt', pairs / 'data.yml')
    assert code == 2 and '0.png' in err and 'datasets.test_1' in err
    code, _, err = basicsr('check-data', '--opt', pairs / 'data.yml', 'datasets.test_1.dataroot_lq=nowhere')
    assert code == 2 and "override 'datasets.test_1.dataroot_lq=nowhere'" in err and 'does not exist' in err


def test_schema_command(basicsr, tmp_path):
    file = tmp_path / 'schema.json'
    assert basicsr('schema', '--check', file)[0] == 2
    code, out, err = basicsr('schema', file)
    assert (code, err) == (0, '') and str(file) in out
    assert basicsr('schema', '--check', file) == (0, '', '')
    file.write_text(file.read_text() + ' ')
    code, _, err = basicsr('schema', '--check', file)
    assert code == 2 and 'is stale' in err


@pytest.mark.parametrize('arguments, message', [
    (['--minutes', 'nan'], '--minutes above 0'),
    (['--minutes', 'inf'], '--minutes above 0'),
    (['--json', '{folder}'], 'cannot be written'),
    (['--candidates', 'bf17'], "there is no 'bf17'"),
])
def test_throughput_tells_mistakes_before_it_measures(tmp_path, capsys, arguments, message):
    arguments = [text.format(folder=tmp_path) for text in arguments]
    assert cli.main(['throughput', '--opt', 'nowhere.yml', *arguments]) == 2
    assert message in capsys.readouterr().err

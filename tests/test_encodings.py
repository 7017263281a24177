"""Names in any encoding and Unicode form, on any console: files are written, databases packed, pairs found."""
import csv
import io
import json
import os
import subprocess
import sys
import unicodedata

import lmdb
import numpy as np
import pytest
from conftest import ROOT

from basicsr import cli
from basicsr.config.yaml_reader import dump_yaml, parse_value
from basicsr.data.all_in_one_tasks import pair_stems
from basicsr.data.packing import make_lmdb
from basicsr.data.pairing import pair_by_name, pair_lmdb
from basicsr.data.pairing_schemes import pair_by_number
from basicsr.data.single_image_dataset import SingleImageDataset
from basicsr.data.synthetic import noise_generator
from basicsr.utils.errors import UserError, run_main
from basicsr.utils.files import as_stored, atomic_write, write_json
from basicsr.utils.img import imread, imwrite
from basicsr.utils.storage import read_lmdb_keys
from basicsr.utils.weights import load_weights

LATIN = os.fsdecode(b'caf\xe9')  # as archives made on older Windows leave names on Linux
NFC, NFD = (unicodedata.normalize(form, 'café') for form in ('NFC', 'NFD'))

OTHER = {NFC: NFD, NFD: NFC}


def folder(path, *names):
    for i, name in enumerate(names):
        imwrite(np.full((40, 48, 3), 40 * i + 20, np.uint8), path / f'{name}.png')
    return str(path)


def basicsr(*args, **environment):
    return subprocess.run([sys.executable, '-m', 'basicsr.cli', *map(os.fsencode, args)], cwd=ROOT, capture_output=True,
                          env=os.environ | {'OMP_NUM_THREADS': '1'} | environment)


def stems(pairs):
    return [tuple(os.path.basename(p).partition('.')[0] for p in pair) for pair in pairs]


# ---------------------------------------------------------------- bytes that are no UTF-8


def test_a_database_keeps_the_bytes_of_a_name(tmp_path):
    root = folder(tmp_path / LATIN, LATIN, '2')
    assert make_lmdb(root, tmp_path / f'{LATIN}.lmdb') == 2
    with lmdb.open(os.fsencode(tmp_path / f'{LATIN}.lmdb')) as env, env.begin() as transaction:
        assert transaction.get(b'caf\xe9') is not None
    assert read_lmdb_keys(f'{tmp_path}/{LATIN}.lmdb') == ['2', LATIN]
    items = list(SingleImageDataset(f'{tmp_path}/{LATIN}.lmdb'))
    assert [item['lq_path'] for item in items] == ['2', LATIN]


def test_names_with_a_line_break_are_named(tmp_path):
    with pytest.raises(UserError, match=r"'a\\nb' .* has a line break in its name"):
        make_lmdb(folder(tmp_path / 'in', 'a\nb'), tmp_path / 'out.lmdb')


def test_evaluation_and_measurement_of_such_names(tmp_path):
    for side in ('input', 'target'):
        folder(tmp_path / side, '2', LATIN)
    done = basicsr('evaluate', '--weights', 'retinexmamba_tiny', '--degraded_dir', f'{tmp_path}/input', '--clean_dir',
                   f'{tmp_path}/target', '--output_dir', f'{tmp_path}/{LATIN}')
    assert done.returncode == 0, done.stderr
    out = tmp_path / LATIN
    assert (out / f'{LATIN}.png').is_file()
    names = [row['image'] for row in csv.DictReader(io.StringIO((out / 'metrics.csv').read_text(encoding='utf-8')))]
    assert names == ['2', r'caf\udce9'] and json.loads((out / 'metrics.json').read_bytes())['images'] == 2
    done = basicsr('measure', f'{tmp_path}/input', f'{tmp_path}/target', '--csv', f'{tmp_path}/m.csv', '--json',
                   f'{tmp_path}/m.json')
    assert done.returncode == 0 and rb'caf\udce9' in done.stdout and b'caf\\udce9' in (tmp_path / 'm.csv').read_bytes()


def test_lists_of_names_may_be_in_the_encoding_of_the_names(tmp_path):
    roots = [folder(tmp_path / side, '2', LATIN) for side in ('lq', 'gt')]
    (tmp_path / 'list.txt').write_bytes(b'\xef\xbb\xbfcaf\xe9.png\n')
    assert stems(pair_by_name(*roots, meta_info_file=f'{tmp_path}/list.txt')) == [(LATIN, LATIN)]
    assert len(SingleImageDataset(roots[0], meta_info_file=f'{tmp_path}/list.txt')) == 1


def test_random_numbers_of_such_names():
    assert noise_generator(LATIN).random() != noise_generator('cafe').random()
    assert noise_generator(NFC).random() == noise_generator(NFD).random()


def test_options_with_such_paths(tmp_path):
    assert parse_value(f'/data/{LATIN}') == f'/data/{LATIN}' and parse_value('1e-4') == 1e-4
    assert 'caf' in dump_yaml({'dataroot_lq': f'/data/{LATIN}'})
    (tmp_path / f'{LATIN}.safetensors').touch()
    with pytest.raises(UserError, match='safetensors takes only paths in UTF-8'):
        load_weights(tmp_path / f'{LATIN}.safetensors')


def test_augmented_copies_of_such_names(tmp_path):
    low, normal = (folder(tmp_path / side, f'{LATIN}1') for side in ('a', 'b'))
    assert cli.main([
        'augment', '--input_low', low, '--input_normal', normal, '--output', f'{tmp_path}/out', '--height', '16',
        '--width', '16'
    ]) == 0
    assert imread(tmp_path / 'out' / 'Low' / f'{LATIN}1.jpg').shape == (16, 16, 3)


# ---------------------------------------------------------------- Unicode forms


def test_both_forms_of_a_name_are_the_same(tmp_path):
    lq, gt = folder(tmp_path / 'lq', NFD, '2'), folder(tmp_path / 'gt', NFC, '2')
    assert stems(pair_by_name(lq, gt)) == [('2', '2'), (NFD, NFC)]
    folder(tmp_path / 'lq2', f'{NFD}_low')
    assert stems(pair_by_name(str(tmp_path / 'lq2'), folder(tmp_path / 'gt2', NFC), '{}_low')) == [(f'{NFD}_low', NFC)]
    (tmp_path / 'list.txt').write_text(f'{NFD}.png\n', encoding='utf-8')
    assert stems(pair_by_name(lq, gt, meta_info_file=f'{tmp_path}/list.txt')) == [(NFD, NFC)]
    assert len(SingleImageDataset(gt, meta_info_file=f'{tmp_path}/list.txt')) == 1
    found = pair_stems(sorted((tmp_path / 'lq').iterdir()), sorted((tmp_path / 'gt').iterdir()), 'task')
    assert len(found.samples) == 2 and not found.mistakes


def test_both_forms_by_number_and_in_databases(tmp_path):
    low, high = folder(tmp_path / 'low', f'Low{NFD}'), folder(tmp_path / 'high', f'Normal{NFC}')
    assert stems(pair_by_number(low, high)) == [(f'Low{NFD}', f'Normal{NFC}')]
    for side, name in (('lq', NFD), ('gt', NFC)):
        with lmdb.open(str(tmp_path / f'{side}.lmdb')) as env, env.begin(write=True) as transaction:
            transaction.put(name.encode(), b'')
        (tmp_path / f'{side}.lmdb' / 'meta_info.txt').write_text(f'{name}.png (4,5,3) 1\n', encoding='utf-8')
    assert pair_lmdb(f'{tmp_path}/lq.lmdb', f'{tmp_path}/gt.lmdb') == [(NFD, NFC)]


def test_both_forms_in_one_folder_are_a_mistake(tmp_path):
    both = folder(tmp_path / 'gt', NFC, NFD)
    if len(os.listdir(both)) == 2:  # not on file systems to which they are one file
        with pytest.raises(UserError, match='have the same name in two Unicode forms'):
            pair_by_name(both, both)


# ---------------------------------------------------------------- consoles


@pytest.mark.parametrize('encoding', ['cp1252', 'ascii', 'ascii:strict'])
def test_any_console_takes_any_name(tmp_path, encoding):
    for side in ('input', 'target'):
        folder(tmp_path / side, '照片')
    done = basicsr('measure', f'{tmp_path}/input', f'{tmp_path}/target', '--csv', f'{tmp_path}/夜.csv', LC_ALL='C.UTF-8',
                   PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and rb'\u7167\u7247' in done.stdout, done.stderr
    assert '照片' in (tmp_path / '夜.csv').read_text(encoding='utf-8')
    done = basicsr('measure', f'{tmp_path}/无', LC_ALL='C.UTF-8', PYTHONIOENCODING=encoding)
    assert done.returncode == 2 and rb'\u65e0' in done.stderr and b'Traceback' not in done.stderr


@pytest.mark.parametrize('command', [['list'], ['--help'], ['train', '--help'], ['measure', '--help'], ['doctor']])
def test_a_reader_that_has_read_enough(command):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, '-m', 'basicsr.cli', *command], cwd=ROOT, stdout=writer,
                          stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b'')


def test_a_mistake_is_told_also_where_nobody_reads_the_rest():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, '-m', 'basicsr.cli', 'measure', '/nowhere'], cwd=ROOT, stdout=writer,
                          stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 2 and b"'/nowhere' is not a folder" in done.stderr


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no such device here')
def test_a_terminal_that_takes_nothing_is_named():
    with open('/dev/full', 'wb') as full:
        done = subprocess.run([sys.executable, '-m', 'basicsr.cli', 'list', 'protocols'], cwd=ROOT, stdout=full,
                              stderr=subprocess.PIPE)
    said = b"error: cannot use the file 'standard output': the disk is full; what was already saved is kept\n"
    assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.parametrize('arguments',
                         [['measure', '{folder}', '{folder}', '--csv', '{out}/m.csv', '--json', '{out}/m.json'],
                          [
                              'evaluate', '--weights', 'retinexmamba_tiny', '--degraded_dir', '{folder}', '--clean_dir',
                              '{folder}', '--output_dir', '{out}'
                          ]])
def test_results_are_written_before_they_are_printed(tmp_path, monkeypatch, arguments):

    def lost(*args, **kwargs):
        raise BrokenPipeError

    root = folder(tmp_path / 'in', '1')
    monkeypatch.setattr('builtins.print', lost)
    assert cli.main([text.format(folder=root, out=tmp_path) for text in arguments]) == 0
    assert {'m.csv', 'm.json'} <= {p.name for p in tmp_path.iterdir()} or (tmp_path / 'metrics.json').is_file()


def test_run_main_leaves_streams_of_others_alone(monkeypatch):
    monkeypatch.setattr(sys, 'stdout', None)  # as under pythonw
    assert run_main(lambda: None) == 0


# ---------------------------------------------------------------- text and JSON


def test_text_is_written_whatever_it_is(tmp_path):
    with atomic_write(tmp_path / 'a.txt', 'w') as file:
        file.write(f'{LATIN} 夜\n')
    assert (tmp_path / 'a.txt').read_text(encoding='utf-8') == 'caf\\udce9 夜\n'


def test_json_is_json(tmp_path):
    write_json(tmp_path / 'a.json',
               {LATIN: [float('nan'), (1.5, {'x': float('-inf')})], 'n': 3, 'ok': True, 'no': None})

    def refuse(word):
        raise AssertionError(word)

    content = json.loads((tmp_path / 'a.json').read_bytes(), parse_constant=refuse)
    assert content == {r'caf\udce9': [None, [1.5, {'x': None}]], 'n': 3, 'ok': True, 'no': None}


def test_every_json_of_the_package_is_written_that_way():
    direct = [
        file.relative_to(ROOT).as_posix() for file in (ROOT / 'basicsr').rglob('*.py')
        if 'json.dump(' in file.read_text(encoding='utf-8')
    ]
    assert direct == ['basicsr/utils/files.py']


@pytest.mark.parametrize('outer, inner', [(NFC, NFC), (NFD, NFD), (NFC, NFD), (NFD, NFC)], ids=['CC', 'DD', 'CD', 'DC'])
def test_a_path_in_another_form_is_found(tmp_path, monkeypatch, outer, inner):
    there = tmp_path / outer / inner / 'x.txt'
    there.parent.mkdir(parents=True)
    there.write_text('')
    monkeypatch.chdir(tmp_path)
    for first in (NFC, NFD):
        for second in (NFC, NFD):
            assert as_stored(tmp_path / first / second / 'x.txt') == str(there)
            assert as_stored(f'{first}/{second}/x.txt') == f'{outer}/{inner}/x.txt'
            assert as_stored(f'{first}/{second}/y.txt') == f'{first}/{second}/y.txt'
    (tmp_path / OTHER[outer]).mkdir()
    assert as_stored(tmp_path / OTHER[outer]) == str(tmp_path / OTHER[outer])


@pytest.mark.parametrize('form', [NFC, NFD], ids=['NFC', 'NFD'])
def test_every_command_finds_a_folder_in_the_other_form(tiny_options, pairs, tmp_path, form, capsys):
    home, given = tmp_path / OTHER[form], tmp_path / form
    home.mkdir()
    pairs.rename(home / 'data')
    data = {'dataroot_lq': str(given / 'data/input'), 'dataroot_gt': str(given / 'data/target')}
    tiny_options(datasets={'train': data, 'val': data}).rename(home / 'tiny.yml')
    assert cli.main(['train', '--opt', str(given / 'tiny.yml'), 'train.total_iter=1']) == 0
    (tmp_path / 'experiments/tiny/models/net_g_latest.pth').rename(home / 'w.pth')
    inputs = [str(given / 'data' / side) for side in ('input', 'target')]
    for argv in ([
            'evaluate', '--weights',
            str(given / 'w.pth'), '--degraded_dir', inputs[0], '--clean_dir', inputs[1], '--output_dir',
            str(tmp_path / 'o'), '--metrics', 'psnr'
    ], ['enhance', inputs[0], '-o', str(tmp_path / 'e'), '--weights',
            str(given / 'w.pth')], ['measure', *inputs, '--metrics',
                                    'psnr'], ['lmdb', inputs[0], str(tmp_path / 'in.lmdb')],
                 ['augment', '--input_low', inputs[0], '--input_normal', inputs[1], '--output',
                  str(tmp_path / 'a')]):
        assert cli.main(argv) == 0, (argv, capsys.readouterr().err)
    assert not given.exists()

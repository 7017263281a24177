"""What a folder holds beside images, lists that are long, and disks that fail: told in one sentence, with the file."""
import errno
import io
import os
import pathlib
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from basicsr import cli
from basicsr.config.yaml_reader import read_yaml
from basicsr.data.cdd11_dataset import CDD11Dataset
from basicsr.data.loader import ImageLoader
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.data.pairing import image_folder, pair_by_name
from basicsr.data.single_image_dataset import SingleImageDataset
from basicsr.train import main as train
from basicsr.utils.errors import UserError, describe_os_error, naming, some
from basicsr.utils.files import list_images, scan_images
from basicsr.utils.img import imread
from basicsr.utils.notes import collect_notes
from basicsr.utils.weights import load_weights


def picture(*files):
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.full((24, 28, 3), 90, np.uint8))


def error_of(call, *args, **kwargs):
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    return caught.value


def options(folder, lq='lq', gt='gt'):
    (folder / 'x.yml').write_text(f'''\
name: check
model_type: SRModel
network_g: {{type: MSRResNet, upscale: 1}}
datasets:
  val_1: {{type: PairedImageDataset, name: one, dataroot_gt: {folder / gt}, dataroot_lq: {folder / lq}}}
  val_2: {{type: SingleImageDataset, name: two, dataroot_lq: {folder / gt}}}
''')
    return str(folder / 'x.yml')


# ---------------------------------------------------------------- what is passed over


def test_linked_subfolders_are_looked_into(tmp_path):
    picture(tmp_path / 'elsewhere' / 'deep' / '2.png', tmp_path / 'root' / 'a' / '1.png')
    (tmp_path / 'root' / 'linked').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'root' / 'again').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'root' / 'a' / 'up').symlink_to(tmp_path / 'root')  # would go round in a circle
    names = [p.relative_to(tmp_path / 'root').as_posix() for p in list_images(tmp_path / 'root', recursive=True)]
    assert names == ['a/1.png', 'again/deep/2.png', 'linked/deep/2.png']
    assert scan_images(tmp_path / 'root', recursive=True).folders == [Path('a/up')]
    (tmp_path / 'root link').symlink_to(tmp_path / 'root')
    assert len(list_images(tmp_path / 'root link', recursive=True)) == 3


def test_what_lies_beside_images_is_counted(tmp_path, messages):
    picture(tmp_path / '1.png', tmp_path / 'sub' / '2.png')
    for name in ('a.jfif', 'b.JFIF', 'c.heic', 'notes', '.hidden.xyz', '._1.png'):
        (tmp_path / name).touch()
    assert [p.name for p in image_folder(str(tmp_path), 'dataroot_lq')] == ['1.png']
    assert messages == [
        f"'{tmp_path}': 1 image; passed over: 2 .jfif, c.heic, notes, 1 subfolder (sub), 1 hidden image (._1.png)"
    ]


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    (tmp_path / 'in').mkdir()
    for i in range(30):
        (tmp_path / 'in' / f'{i}.heic').touch()
    message = str(error_of(image_folder, str(tmp_path / 'in'), 'dataroot_lq'))
    assert '.png, .jpg' in message and message.endswith('it holds 30 .heic')
    picture(tmp_path / 'up' / 'sub' / '1.png')
    assert 'recursive: true' in str(error_of(image_folder, str(tmp_path / 'up'), 'dataroot_lq'))
    assert 'recursive' not in str(error_of(image_folder, str(tmp_path / 'up'), 'RESULT_DIR'))
    for part in ('clear', 'haze'):
        (tmp_path / 'cdd' / 'test' / part).mkdir(parents=True)
    (tmp_path / 'cdd' / 'test' / 'haze' / '1.heic').touch()
    assert "haze' (1.heic)" in str(error_of(CDD11Dataset, str(tmp_path / 'cdd'), 'haze', phase='test'))


def test_links_to_nowhere_are_doubtful(tmp_path, capsys):
    picture(tmp_path / 'lq' / '1.png', tmp_path / 'gt' / '1.png')
    for side in ('lq', 'gt'):
        (tmp_path / side / '2.png').symlink_to(tmp_path / 'gone.png')
    with collect_notes() as notes:
        image_folder(str(tmp_path / 'lq'), 'dataroot_lq')
    assert [n.doubtful for n in notes] == [True] and '1 broken link: 2.png' in notes[0].text
    assert cli.main(['check-data', '--opt', options(tmp_path)]) == 2
    assert '2.png' in capsys.readouterr().err
    (tmp_path / 'gt' / '2.png').unlink()
    picture(tmp_path / 'gt' / '2.png')
    assert cli.main(['check-data', '--opt', options(tmp_path)]) == 2
    assert '1 broken link: 2.png' in capsys.readouterr().err  # and not only that there is no input


# ---------------------------------------------------------------- long lists


def test_a_list_is_cut_with_a_count():
    assert some('abc') == 'a, b, c' and some('abcdefg') == 'a, b, c, d, e and 2 more'
    assert some('abc', 2, '; ') == 'a; b and 1 more'


def named_lines(text: str) -> list[str]:
    """The lines of the file that a message names."""
    return Path(re.search("all of them are in '(.+)'", text)[1]).read_text(encoding='utf-8').splitlines()


@pytest.fixture
def many(tmp_path):
    """Folders of 300 names each that do not pair."""
    picture(tmp_path / '1.png')
    for side, word in (('lq', 'low'), ('gt', 'normal')):
        (tmp_path / side).mkdir()
        for i in range(300):
            (tmp_path / side / f'{word}_{i}.png').symlink_to(tmp_path / '1.png')
    return tmp_path


def test_names_that_do_not_pair_are_counted(many):
    error = error_of(pair_by_name, str(many / 'lq'), str(many / 'gt'))
    assert len(str(error)) < 1000 + 4 * len(str(many)) and len(error.details) == 600
    for text in ('300 of dataroot_gt', 'normal_4.png and 295 more', 'low_4.png and 295 more', 'filename_tmpl'):
        assert text in str(error)
    assert "dataroot_lq: no ground truth for 'low_299.png'" in error.details


def test_check_data_has_them_all(many, capsys):
    assert cli.main(['check-data', '--opt', options(many)]) == 2
    err = capsys.readouterr().err
    assert err.count('error: ') == 20 and err.count('\n') == 21 and len(named_lines(err)) == 601
    assert cli.main(['check-data', '--opt', options(many), '--report', str(many / 'report.txt')]) == 2
    lines = (many / 'report.txt').read_text(encoding='utf-8').splitlines()
    assert len(lines) == 601 and lines[-1] == "dataroot_lq: no ground truth for 'low_299.png'"
    err = capsys.readouterr().err
    assert err.count('error: ') == 20 and f"and 581 more; all of them are in '{many / 'report.txt'}'" in err


@pytest.mark.parametrize('command', ['measure', 'evaluate'])
def test_a_file_has_all_that_a_message_cuts(many, capsys, command):
    argv = {
        'measure': [many / 'lq', many / 'gt'],
        'evaluate': ['--weights', 'retinexmamba_tiny', '--degraded_dir', many / 'lq', '--clean_dir', many / 'gt']
    }[command]
    assert cli.main([command, *map(str, argv)]) == 2
    err = capsys.readouterr().err
    assert err.count('error: ') == 1 and len(err) < 2000
    lines = named_lines(err)
    assert len(lines) == 600 and lines[0].endswith("no input for 'normal_0.png'")


def test_a_report_of_good_data_is_empty(tmp_path, capsys):
    picture(tmp_path / 'lq' / '1.png', tmp_path / 'gt' / '1.png')
    assert cli.main(['check-data', '--opt', options(tmp_path), '--report', str(tmp_path / 'report.txt')]) == 0
    assert (tmp_path / 'report.txt').read_text() == '' and capsys.readouterr().err == ''


def test_missing_names_of_lists(many):
    (many / 'list.txt').write_text(''.join(f'{i}.png\n' for i in range(50)))
    for call in (lambda: pair_by_name(str(many / 'lq'), str(many / 'gt'), meta_info_file=f'{many}/list.txt'),
                 lambda: SingleImageDataset(str(many / 'lq'), meta_info_file=f'{many}/list.txt')):
        error = error_of(call)
        assert '4.png and 45 more' in str(error) and len(error.details) == 50


# ---------------------------------------------------------------- disks that fail


class Failing(io.RawIOBase):
    """A file that can be opened, on a disk that cannot be read."""

    def readable(self):
        return True

    def readinto(self, buffer):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def failing(monkeypatch):
    """Reading a file with 'bad' in its name fails in the middle, where the operating system names no file."""
    real = io.open

    def opened(file, mode='r', *args, **kwargs):
        stream = real(file, mode, *args, **kwargs)
        if 'bad' not in str(file) or 'w' in mode:
            return stream
        stream.close()
        return io.BufferedReader(Failing())

    monkeypatch.setattr('builtins.open', opened)
    monkeypatch.setattr('io.open', opened)
    if hasattr(pathlib, '_NormalAccessor'):  # of Python 3.10, which keeps its own
        monkeypatch.setattr('pathlib._NormalAccessor.open', staticmethod(opened))


def test_the_file_of_a_failure_in_the_middle(tmp_path, failing):
    for name in ('bad.png', 'bad.pth', 'bad.yml'):
        (tmp_path / name).write_bytes(b'PK')
        read = {'.png': imread, '.pth': load_weights, '.yml': read_yaml}[Path(name).suffix]
        with pytest.raises(OSError) as caught:
            read(tmp_path / name)
        text = describe_os_error(caught.value)
        assert text.startswith(f"cannot use the file '{tmp_path / name}': input/output error")


def test_training_and_check_data_name_the_file(pairs, tiny_options, failing, capsys):
    (pairs / 'input' / '2.png').rename(pairs / 'input' / 'bad.png')
    (pairs / 'target' / '2.png').rename(pairs / 'target' / 'bad.png')
    assert train(['--opt', str(tiny_options())]) == 2
    err = capsys.readouterr().err
    assert f"'{pairs / 'input' / 'bad.png'}': input/output error" in err and 'Traceback' not in err
    assert cli.main(['check-data', '--opt', str(tiny_options())]) == 2
    out, err = capsys.readouterr()
    assert out.count('4 samples, 1 mistake; sizes: 28x24 (3)') == 2
    assert err.count('input/output error') == 4  # input and target, in both data sets


def test_all_files_of_a_sample_that_cannot_be_read_are_named(tmp_path):
    for side in ('lq', 'gt'):
        picture(tmp_path / side / '1.png')
        (tmp_path / side / '1.png').write_bytes(b'no image')
    dataset = PairedImageDataset(str(tmp_path / 'gt'), str(tmp_path / 'lq'), phase='val')
    message = str(error_of(next, iter(ImageLoader(dataset, {}))))
    assert f"{tmp_path / 'lq' / '1.png'}" in message and f"{tmp_path / 'gt' / '1.png'}" in message


def test_a_failure_of_a_data_set_that_names_no_file(tmp_path):

    class Failing(torch.utils.data.Dataset):

        def __len__(self):
            return 3

        def __getitem__(self, index):
            raise OSError(errno.ESTALE, 'Stale file handle')

    message = str(error_of(next, iter(ImageLoader(Failing(), {}))))
    assert message == 'cannot use the file: the network file system has lost it (sample 0 of Failing)'


@pytest.mark.parametrize('code, words', [(errno.EIO, 'may be failing'), (errno.ESTALE, 'has lost it'),
                                         (errno.EISDIR, 'it is a folder'), (errno.ENAMETOOLONG, 'too long')])
def test_reasons_in_words(code, words):
    with pytest.raises(OSError) as caught, naming('a/b.png'):
        raise OSError(code, os.strerror(code))
    assert describe_os_error(caught.value).startswith("cannot use the file 'a/b.png': ")
    assert words in describe_os_error(caught.value)


def test_a_folder_called_as_an_image(tmp_path, capsys):
    (tmp_path / 'x.png').mkdir()
    with pytest.raises(OSError) as caught:
        imread(tmp_path / 'x.png')
    assert caught.value.filename == str(tmp_path / 'x.png')
    picture(tmp_path / '1.png')
    assert [p.name for p in list_images(tmp_path)] == ['1.png']
    assert scan_images(tmp_path).folders == [Path('x.png')]
    if sys.platform != 'win32':
        assert describe_os_error(caught.value) == f"cannot use the file '{tmp_path / 'x.png'}': it is a folder"

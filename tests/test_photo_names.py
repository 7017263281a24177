"""Which photos are meant, and where their results go: nothing is passed over or overwritten without a word."""
from __future__ import annotations

import io
import os
import sys
from pathlib import Path, PurePath

import pytest
from photo_files import encoded, picture

from basicsr.data.pairing import own_names
from basicsr.photos.inputs import find
from basicsr.photos.naming import plan, summary
from basicsr.utils.errors import UserError
from basicsr.utils.names import distinct

PNG = encoded(picture(), 'PNG')


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """`in/` with photos of several kinds and what is none, `in/sub/d.png`; it is the working directory's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'in' / 'sub').mkdir(parents=True)
    for name in ('a.png', 'b.jfif', 'c.gif', '10.PNG', '9.png', 'sub/d.png'):
        (tmp_path / 'in' / name).write_bytes(PNG)
    (tmp_path / 'in' / 'notes.txt').write_text('words')
    (tmp_path / 'in' / '.hidden.png').write_bytes(PNG)
    return tmp_path


def targets(words: list[str], output: str, recursive: bool = False, **options) -> list[str]:
    jobs = plan(find(words, recursive, output), output, **options).todo
    return [Path(job.target).as_posix() for job in jobs]


def test_a_folder_in_natural_order_and_what_is_passed_over(folder):
    found = find(['in'])
    assert [source.path.name for source in found.sources] == ['9.png', '10.PNG', 'a.png', 'b.jfif', 'c.gif']
    assert found.passed_over == [
        "'in': 5 images; passed over: notes.txt, 1 subfolder (sub), 1 hidden image (.hidden.png);"
        ' --recursive looks into subfolders'
    ]


def test_subfolders_keep_their_structure(folder):
    assert targets(['in'], 'out', recursive=True)[-1] == 'out/sub/d.png'
    assert find(['in'], True).passed_over == ["'in': 6 images; passed over: notes.txt, 1 hidden image (.hidden.png)"]


def test_several_inputs_patterns_and_the_same_twice(folder):
    assert targets(['in/a.png', 'in/sub'], 'out') == ['out/a.png', 'out/d.png']
    assert targets(['in/*.png'], 'out') == ['out/9.png', 'out/a.png']
    assert targets(['in/**/*.png'], 'out') == ['out/9.png', 'out/a.png', 'out/d.png']
    assert targets(['in/a.png', 'in', './in/a.png'], 'out').count('out/a.png') == 1
    (folder / 'in' / 'x[1].png').write_bytes(PNG)
    assert targets(['in/x[1].png'], 'out') == ['out/x[1].png']  # a file of that name wins


def test_a_file_that_is_named_is_tried_whatever_its_suffix(folder):
    for name, result in (('photo', 'photo.png'), ('photo.dat', 'photo.dat.png'), ('photo.cr2', 'photo.cr2.png')):
        (folder / name).write_bytes(PNG)
        assert targets([name], 'out') == [f'out/{result}']


@pytest.mark.parametrize(('words', 'message'), [
    (['no.png'], "there is no file or folder 'no.png'"),
    (['no*.png'], "no file or folder fits 'no*.png'"),
    (['in/sub/e'], "there is no file or folder 'in/sub/e'"),
])
def test_what_is_not_there(folder, words, message):
    with pytest.raises(UserError) as caught:
        find(words)
    assert message in str(caught.value)


def test_a_folder_without_photos_says_what_it_holds(folder):
    (folder / 'none' / 'deeper').mkdir(parents=True)
    (folder / 'none' / 'a.txt').write_text('')
    with pytest.raises(UserError) as caught:
        find(['none'])
    assert "there are no images in 'none'" in str(caught.value) and '--recursive' in str(caught.value)


def test_results_of_an_earlier_call_are_no_inputs(folder):
    (folder / 'in' / 'bright').mkdir()
    (folder / 'in' / 'bright' / 'a.png').write_bytes(PNG)
    assert 'in/bright/bright/a.png' not in targets(['in'], 'in/bright', recursive=True, overwrite=True)


# --- names


def test_equal_stems_keep_their_suffix():

    def names(files, suffix=''):
        return distinct([PurePath(file) for file in files], [suffix] * len(files))

    assert names(['a.png', 'a.jpg', 'b.png']) == ['a.png', 'a.jpg', 'b']
    assert names(['a.jpg', 'a.webp', 'b.png'], '.png') == ['a.jpg.png', 'a.webp.png', 'b.png']
    assert names(['a.png', 'a.jpg'], '.png') == ['a.png', 'a.jpg.png']  # whose name it is keeps it
    assert names(['A.png', 'a.png'], '.png') == ['A.png', 'a_2.png']  # one file on macOS and Windows
    assert names(['\u00e9.png', 'e\u0301.png'], '.png') == ['\u00e9.png', 'e\u0301_2.png']
    assert names(['a.jpg', 'a.png', 'a.jpg.png'], '.png') == ['a.jpg_2.png', 'a.png', 'a.jpg.png']
    many = names([f'a.{n}' for n in range(50)] + ['a.3.png'], '.png')
    assert len(set(many)) == 51


def test_names_of_results_below_folders(tmp_path):
    files = [tmp_path / name for name in ('x/a.png', 'x/a.jpg', 'y/a.png')]
    assert own_names(files, tmp_path) == ['x/a.png', 'x/a.jpg', 'y/a']


def test_names_of_clean_images_of_equal_folders(tmp_path):
    """Results of two roots of one name, and of images of one stem, are files of their own."""
    from basicsr.data.gaussian_denoising_dataset import GaussianDenoisingDataset
    roots = [tmp_path / 'rain' / 'clean', tmp_path / 'haze' / 'clean']
    for root in roots:
        root.mkdir(parents=True)
        for name in ('a.png', 'a.bmp', 'b.png'):
            (root / name).write_bytes(encoded(picture(), 'PNG' if name.endswith('png') else 'BMP'))
    data = GaussianDenoisingDataset(list(map(str, roots)), sigma_test=15, phase='val')
    names = [data[index]['name'] for index in range(len(data))]
    assert names == [f'{root}/{name}' for root in ('clean', 'clean_2') for name in ('a.bmp', 'a.png', 'b')]
    alone = GaussianDenoisingDataset(str(roots[0]), sigma_test=15, phase='val')
    assert [alone[index].get('name') for index in range(3)] == ['a.bmp', 'a.png', None]


def test_inputs_of_one_name_are_no_two_pairs(tmp_path):
    from basicsr.data.pairing_schemes import pair_by_number
    for name in ('low/Low3.png', 'low/Low3.bmp', 'normal/Normal3.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    with pytest.raises(UserError, match="have the same name"):
        pair_by_number(str(tmp_path / 'low'), str(tmp_path / 'normal'))


def test_raw_becomes_png_and_keeps_its_suffix(folder):
    for name in ('r.nef', 'r.png', 's.dng'):
        (folder / 'in' / 'sub' / name).write_bytes(PNG)
    assert targets(['in/sub'], 'out') == ['out/d.png', 'out/r.nef.png', 'out/r.png', 'out/s.dng.png']


@pytest.mark.parametrize(('name', 'result'), [('r.DNG', 'r.DNG.png'), ('r.cr2', 'r.cr2.png'), ('r.pbm', 'r.pbm.pgm'),
                                              ('r.png', 'r.png'), ('r.jpg', 'r.jpg')])
@pytest.mark.parametrize('beside', ['r.png', 'r.jpg', 'r.pgm', 'r.nef', 'r.tif', 's'])
def test_what_lies_beside_a_photo_does_not_change_the_name_of_its_result(folder, name, result, beside):
    """An earlier result is never taken for that of another photo."""
    (folder / 'in' / 'sub' / name).write_bytes(b'P4\n8 1\n\0')
    assert f'out/{result}' in targets(['in/sub'], 'out')
    (folder / 'out').mkdir()
    (folder / 'out' / result).write_bytes(PNG)
    (folder / 'in' / 'sub' / beside).write_bytes(b'P4\n8 1\n\0')  # grey
    words = ['in/sub', f'in/sub/{beside}']
    assert f'out/{result}' in targets(words, 'out', overwrite=True)
    todo = plan(find(words), 'out', skip_existing=True).todo
    assert {job.source.path.name for job in todo} == {'d.png', beside} - {name}


@pytest.mark.parametrize('first', ['r.dng', 'r.dng.png', 'r'])
def test_two_photos_of_one_name_are_refused(folder, first):
    second = {'r.dng': 'r.dng.png', 'r.dng.png': 'r.dng', 'r': 'r.png'}[first]
    for name in (first, second):
        (folder / name).write_bytes(PNG)
    with pytest.raises(UserError, match=f"'{first}' and '{second}' would both be written as 'r.*png'; rename one"):
        plan(find([first, second]), 'out', skip_existing=True)


def test_sheets_have_names_of_their_own(folder):
    for name in ('a.jpg', 'a.webp', '9_sheet.png'):
        (folder / 'in' / name).write_bytes(PNG)
    jobs = plan(find(['in']), 'out', sheet=True).todo
    names = [path.name for job in jobs for path in (job.target, job.sheet)]
    assert len({name.casefold() for name in names}) == len(names) == 16
    assert {'a.png_sheet.png', 'a.jpg_sheet.png', 'a.webp_sheet.png', 'b_sheet.png', '9_sheet.png'} <= set(names)


def test_names_as_long_as_a_file_system_takes(folder):
    long = 'n' * 251
    (folder / 'in' / f'{long}.png').write_bytes(PNG)
    (folder / 'in' / f'{long}.jpg').write_bytes(PNG)
    (folder / 'in' / f'{long}.nef').write_bytes(PNG)
    for job in plan(find(['in']), 'out', sheet=True).todo:
        for path in (job.target, job.sheet):
            path.parent.mkdir(exist_ok=True)
            path.open('xb').close()  # all differ, and none is too long


def test_names_in_another_encoding(folder):
    name = os.fsdecode(b'caf\xe9.png')
    (folder / 'in' / name).write_bytes(PNG)
    assert f'out/{name}' in targets(['in'], 'out')


# --- what would be overwritten


def test_outputs_that_exist_are_refused_skipped_or_replaced(folder):
    (folder / 'out').mkdir()
    for name in ('a.png', 'b.jfif'):
        (folder / 'out' / name).write_bytes(b'old')
    with pytest.raises(UserError,
                       match=r'2 of the output files exist: out/a.png, out/b.jfif; --skip_existing leaves them'):
        plan(find(['in']), 'out')
    jobs = plan(find(['in']), 'out', skip_existing=True)
    assert [job.target.name for job in jobs.todo] == ['9.png', '10.PNG', 'c.gif'] and jobs.there == 2
    assert summary(jobs, 1, 'out') == '2 of 3 images written to out; 2 others were there'
    assert len(plan(find(['in']), 'out', overwrite=True).todo) == 5
    (folder / 'out' / 'a.png').unlink()
    with pytest.raises(UserError,
                       match=r"'out/b.jfif' exists; --skip_existing leaves it as it is, --overwrite replaces it"):
        plan(find(['in']), 'out')


def test_many_outputs_that_exist_are_cut(folder):
    (folder / 'out').mkdir()
    for n in range(9):
        (folder / 'in' / f'{n}.bmp').write_bytes(PNG)
        (folder / 'out' / f'{n}.bmp').write_bytes(b'')
    with pytest.raises(UserError, match='9 of the output files exist') as caught:
        plan(find(['in']), 'out')
    assert 'and 4 more' in str(caught.value) and len(caught.value.details) == 9


def test_sheets_that_exist_are_refused(folder):
    (folder / 'out').mkdir()
    (folder / 'out' / 'a_sheet.png').write_bytes(b'')
    plan(find(['in']), 'out')
    with pytest.raises(UserError, match=r"'out/a_sheet.png' exists"):
        plan(find(['in']), 'out', sheet=True)
    jobs = plan(find(['in']), 'out', sheet=True, skip_existing=True).todo
    assert [job.sheet is None for job in jobs] == [job.target.name == 'a.png' for job in jobs]  # stays as it is


def test_a_link_to_nowhere_is_there(folder):
    (folder / 'new.png').symlink_to(folder / 'nowhere.png')
    with pytest.raises(UserError, match=r"'new.png' exists"):
        plan(find(['in/a.png']), 'new.png')


@pytest.mark.parametrize('options', [{}, {'overwrite': True}, {'skip_existing': True}])
@pytest.mark.parametrize(('words', 'output'), [(['in/a.png'], 'in/a.png'), (['in'], 'in'), (['in/a.png'], 'in/../in'),
                                               (['in/a.png', 'in/sub/d.png'], 'in/sub'), (['link.png'], 'in/a.png'),
                                               (['in/a.png'], 'hard.png')])
def test_no_input_is_ever_an_output(folder, words, output, options):
    (folder / 'link.png').symlink_to('in/a.png')
    os.link(folder / 'in' / 'a.png', folder / 'hard.png')
    with pytest.raises(UserError, match='would be written over'):
        plan(find(words), output, **options)


def test_two_folders_with_one_name(folder):
    (folder / 'in' / 'sub' / 'A.PNG').write_bytes(PNG)
    with pytest.raises(UserError, match=r"'in/a.png' and 'in/sub/A.PNG' would both be written to 'out/A.PNG'"):
        plan(find(['in/a.png', 'in/sub']), 'out')


# --- where they go


@pytest.mark.parametrize(('words', 'output', 'message'), [
    (['in'], 'out.png', "'in' is a folder, so -o must name a folder"),
    (['in/a.png', 'in/9.png'], 'out.png', 'there are 2 inputs, so -o must name a folder'),
    (['in/a.png'], 'out.xyz', "cannot write 'out.xyz': unknown image type '.xyz'; one of: .jpg"),
    (['in/a.png'], 'out.tfif', ". Did you mean '.tif'?"),
    (['in/a.png'], 'out.nef', 'camera RAW files are only read'),
    (['in/a.png'], 'in/notes.txt/x.png', "'in/notes.txt' is a file, no folder"),
    (['in/a.png'], 'file', "-o 'file' is a file; name a folder"),
    (['in'], 'file', "-o 'file' is a file; name a folder"),
    (['in/a.png'], 'out.pgm', ".pgm holds grey images; choose .ppm or .png"),
    (['in/a.png', 'in/9.png'], '-', '-o - writes one photo'),
    (['in/a.png'], 'taken', 'there is a folder of that name'),
])
def test_mistakes_before_any_work(folder, words, output, message):
    (folder / 'file').write_text('')
    (folder / 'taken' / 'a.png').mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        plan(find(words), output)
    assert message in str(caught.value)


def test_a_name_without_suffix_or_with_a_slash_is_a_folder(folder):
    assert targets(['in/a.png'], 'out') == ['out/a.png']
    assert targets(['in/a.png'], 'out.png/') == ['out.png/a.png']
    assert targets(['in'], 'holiday 2024.05') == [
        f'holiday 2024.05/{name}' for name in ('9.png', '10.PNG', 'a.png', 'b.jfif', 'c.gif')
    ]


def test_a_folder_that_may_not_be_written_to(folder, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: False)  # root may write anywhere
    with pytest.raises(UserError, match='no permission to write'):
        plan(find(['in/a.png']), 'out')


def test_grey_photos_may_become_pgm(folder):
    (folder / 'grey.png').write_bytes(encoded(picture(channels=1), 'PNG'))
    assert targets(['grey.png'], 'out.pgm') == ['out.pgm']


@pytest.mark.parametrize('data', [b'P4\n9 2\n' + bytes(4), b'P1 2 1\n01', b'P1\n# words\n2 1 0 1\n'])
def test_bitmaps_are_grey_and_found_in_folders(folder, data):
    (folder / 'bits').mkdir()
    (folder / 'bits' / 'e.pbm').write_bytes(data)
    found = find(['bits'])
    assert len(found.sources) == 1 and found.passed_over == []
    assert targets(['bits'], 'out') == ['out/e.pbm.pgm']
    assert targets(['bits/e.pbm'], 'e.pgm') == ['e.pgm']
    with pytest.raises(UserError, match=r"cannot write 'x.pbm': .pbm files, .* are only read; choose .pgm"):
        plan(find(['bits/e.pbm']), 'x.pbm')


@pytest.mark.parametrize(('data', 'suffix'), [(b'P5\n1 1\n255\n\0', '.pgm'), (b'P4\n1 1\n\0', '.pgm'),
                                              (b'P6\n1 1\n255\n\0\0\0', '.ppm')])
def test_what_has_no_suffix_gets_that_of_its_channels(folder, data, suffix):
    (folder / 'photo').write_bytes(data)
    assert targets(['photo'], 'out') == [f'out/photo{suffix}']


def test_standard_input_and_output(folder, monkeypatch):

    class Stdin:
        buffer = io.BytesIO(encoded(picture(), 'JPEG'))

    monkeypatch.setattr(sys, 'stdin', Stdin)
    job, = plan(find(['-']), '-').todo
    assert job.target is None and job.suffix == '.jpg' and job.source.data[:2] == b'\xff\xd8'
    Stdin.buffer = io.BytesIO(PNG)
    assert targets(['-'], 'out') == ['out/stdin.png']

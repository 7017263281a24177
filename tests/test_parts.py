"""Files in parts: what is cut is joined again; parts that are missing, damaged or of another packing."""
import hashlib
import io
import json
import os
import sys
import tarfile

import pytest
from conftest import ROOT

from basicsr.utils.errors import UserError

sys.path.append(str(ROOT / 'scripts'))
from pieces.parts import collect, cut, join, remove, waiting

SIZE = 30_000


@pytest.fixture
def files(tmp_path):
    sizes = {'a/large.bin': 100_001, 'a/empty': 0, 'b ä.txt': 12_345}
    for name, size in sizes.items():
        (tmp_path / 'source' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'source' / name).write_bytes(os.urandom(size))
    (tmp_path / 'source' / 'link').symlink_to(tmp_path / 'source' / 'b ä.txt')
    return {f'x/{name}': tmp_path / 'source' / name for name in (*sizes, 'link')}


def test_parts_have_the_size_asked_for_and_join_to_the_same_files(files, tmp_path):
    names = cut(files, tmp_path / 'out', 'data', SIZE)
    assert names == [f'data_{i:03d}.part' for i in range(len(names))] and len(names) > 4
    sizes = [(tmp_path / 'out' / name).stat().st_size for name in names]
    assert set(sizes[:-1]) == {SIZE} and sizes[-1] <= SIZE
    assert json.loads((tmp_path / 'out' / 'data.parts.json').read_text())['files'] == 4
    assert collect([tmp_path / 'out'], tmp_path / 'in') == {'data': []}
    assert join(tmp_path / 'in', 'data', tmp_path / 'target') == list(files)
    assert all((tmp_path / 'target' / name).read_bytes() == path.read_bytes() for name, path in files.items())
    assert not (tmp_path / 'target' / 'x' / 'link').is_symlink()
    remove(tmp_path / 'in', 'data')
    assert not any((tmp_path / 'in').iterdir())


def test_the_same_files_give_the_same_parts_whichever_are_wanted(files, tmp_path):
    names = cut(files, tmp_path / 'all', 'data', SIZE)
    os.utime(files['x/a/empty'], (0, 0))
    for wanted in (range(2), range(2, 4), range(4, 99)):
        assert cut(files, tmp_path / 'some', 'data', SIZE, wanted) == names
        assert sorted(p.name
                      for p in (tmp_path / 'some').glob('*.part')) == [n for i, n in enumerate(names) if i in wanted]
        some, all_ = ((tmp_path / folder / 'data.parts.json').read_bytes() for folder in ('some', 'all'))
        assert some == all_
        missing = collect([tmp_path / 'some'], tmp_path / 'in')['data']
    assert missing == []


def test_parts_arrive_in_any_order_and_several_loads(files, tmp_path):
    names = cut(files, tmp_path / 'out', 'data', SIZE)
    loads = [[names[2], 'data.parts.json'], [names[0], names[4]], [names[1], *names[3:]]]
    missing = []
    for i, load in enumerate(loads):
        (tmp_path / f'load{i}').mkdir()
        (tmp_path / f'load{i}' / 'probe.json').write_text('{}')  # other files beside them do not matter
        for name in load:
            (tmp_path / f'load{i}' / name).write_bytes((tmp_path / 'out' / name).read_bytes())
        missing.append(collect([tmp_path / f'load{i}'], tmp_path / 'in')['data'])
        assert waiting(tmp_path / 'in') == {'data': missing[-1]}
    assert missing == [[n for n in names if n != names[2]], [names[1], names[3], *names[5:]], []]


def test_a_damaged_part_is_named_and_asked_for_again(files, tmp_path):
    second = tmp_path / 'out' / cut(files, tmp_path / 'out', 'data', SIZE)[1]
    good = second.read_bytes()
    second.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(UserError, match=r"'data_001\.part' is damaged"):
        collect([tmp_path / 'out'], tmp_path / 'in')
    second.write_bytes(good)
    assert collect([tmp_path / 'out'], tmp_path / 'in') == {'data': []}


def test_another_packing_of_the_label_replaces_the_first(files, tmp_path):
    names = cut(files, tmp_path / 'out', 'data', SIZE, range(3))
    assert collect([tmp_path / 'out'], tmp_path / 'in')['data'] == names[3:]
    cut({'one': files['x/b ä.txt']}, tmp_path / 'out', 'data', SIZE)
    assert collect([tmp_path / 'out'], tmp_path / 'in') == {'data': []}
    assert join(tmp_path / 'in', 'data', tmp_path / 'target') == ['one']
    assert [p.name for p in (tmp_path / 'in').glob('*.part')] == ['data_000.part']


def packed(folder, archive: bytes, count: int = 1, label: str = 'run_4', **part) -> None:
    """An archive as one part with its list, whatever it holds."""
    folder.mkdir(exist_ok=True)
    (folder / f'{label}_000.part').write_bytes(archive)
    entry = {'file': f'{label}_000.part', 'sha256': hashlib.sha256(archive).hexdigest()} | part
    (folder / f'{label}.parts.json').write_text(json.dumps({'files': count, 'parts': [entry]}))


def tar(*members: tuple[str, bytes, str]) -> bytes:
    """An archive of (name, type, what it links to)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as archive:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, 0 if link or kind != tarfile.REGTYPE else 4
            archive.addfile(member, io.BytesIO(b'evil'))
    return out.getvalue()


FILE = tarfile.REGTYPE
ARCHIVES = {
    'above': tar(('../outside', FILE, '')), 'in the middle': tar(('a/../../outside', FILE, '')),
    'absolute': tar(('/tmp/outside', FILE, '')), 'link': tar(('outside', tarfile.SYMTYPE, '..')),
    'hard link': tar(('outside', tarfile.LNKTYPE, '../kept')), 'device': tar(('outside', tarfile.CHRTYPE, '')),
    'pipe': tar(('outside', tarfile.FIFOTYPE, '')), 'folder': tar(('outside', tarfile.DIRTYPE, '')),
    'a file and a folder': tar(('a', FILE, ''), ('a/b', FILE, '')), 'a long name': tar(('a' * 300, FILE, '')),
    'no archive': b'garbage' * 300, 'nothing': b'', 'cut in a file': tar(('a', FILE, ''))[:514],
    'cut in a header': tar(('a', FILE, ''))[:300], 'one file of two': tar(('a', FILE, '')),
    'twice': tar(('a', FILE, ''), ('a', FILE, '')), 'no member': tar()
}  # yapf: disable


@pytest.mark.parametrize('name', ARCHIVES)
def test_an_archive_of_others_is_refused(tmp_path, name):
    (tmp_path / 'kept').write_text('kept')
    packed(tmp_path / 'in', ARCHIVES[name], 2 if name in ('one file of two', 'twice', 'a file and a folder') else 1)
    with pytest.raises(UserError, match=r"the parts of '.*run_4\.parts\.json'"):
        join(tmp_path / 'in', 'run_4', tmp_path / 'target')
    assert (tmp_path / 'kept').read_text() == 'kept' and not list(tmp_path.rglob('outside'))


LISTS = [
    '', '[', '[]', '[1]', '[' * 100_000, '{"files": 0, "parts": []}', '{"files": 0, "parts": {}}', '{"parts": [{}]}'
]


@pytest.mark.parametrize('text', LISTS, ids=lambda text: text[:30])
def test_a_list_that_is_none_is_not_taken(files, tmp_path, text):
    cut(files, tmp_path / 'out', 'data', SIZE)
    (tmp_path / 'bad').mkdir()
    (tmp_path / 'bad' / 'run_4.parts.json').write_text(text)
    (tmp_path / 'bad' / 'run_4_000.part').write_text('part')
    with pytest.raises(UserError, match=r"run_4\.parts\.json' is damaged, or no list of parts"):
        collect([tmp_path / 'bad', tmp_path / 'out'], tmp_path / 'in')
    assert not (tmp_path / 'in').exists()
    assert collect([tmp_path / 'out'], tmp_path / 'in') == {'data': []}


@pytest.mark.parametrize('part', [{'file': 'data_000.part'}, {'file': 'run_4_001.part'}, {'file': 'run_4_000.part '},
                                  {'file': './run_4_000.part'}, {'file': ['run_4_000.part']}, {'sha256': None}])
def test_a_list_names_parts_of_its_label(tmp_path, part):
    packed(tmp_path / 'out', tar(('a', FILE, '')), **part)
    with pytest.raises(UserError, match='is damaged, or no list of parts'):
        collect([tmp_path / 'out'], tmp_path / 'in')


def test_a_list_that_was_damaged_after_it_arrived_is_in_nobodys_way(files, tmp_path):
    cut(files, tmp_path / 'out', 'data', SIZE)
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'run_4.parts.json').write_text('{"fil')
    with pytest.raises(UserError, match=r"run_4\.parts\.json' is damaged"):
        collect([tmp_path / 'out'], tmp_path / 'in')
    assert collect([tmp_path / 'out'], tmp_path / 'in') == {'data': []}


def test_files_of_others_stay_where_parts_are_put(files, tmp_path):
    others = ['movie.mkv.part', 'notes.txt', 'foreign.parts.json', 'data_old.part', 'data2_000.part']
    (tmp_path / 'out').mkdir()
    for name in others:
        (tmp_path / 'out' / name).write_text(name)
    first = cut(files, tmp_path / 'out', 'data', SIZE)
    second = cut({'one': files['x/b ä.txt']}, tmp_path / 'out', 'run_4', SIZE)
    third = cut({'one': files['x/b ä.txt']}, tmp_path / 'out', 'data', SIZE)  # in place of the first, which is longer
    assert len(first) > len(third)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == sorted(
        [*others, *second, *third, 'run_4.parts.json', 'data.parts.json'])
    assert all((tmp_path / 'out' / name).read_text() == name for name in others)


@pytest.mark.parametrize('name, reason', [('data_003.part', 'is named by no list of parts; move it away'),
                                          ('data.parts.json', 'is no list of parts; move it away')])
def test_files_of_others_are_not_replaced_by_parts(files, tmp_path, name, reason):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / name).write_text('kept')
    with pytest.raises(UserError, match=f"{name}' {reason}"):
        cut(files, tmp_path / 'out', 'data', SIZE)
    assert [path.read_text() for path in (tmp_path / 'out').iterdir()] == ['kept']


def test_parts_that_no_list_would_name_do_not_stay(files, tmp_path):
    with pytest.raises(FileNotFoundError):
        cut({**files, 'gone': tmp_path / 'gone'}, tmp_path / 'out', 'data', SIZE)
    assert not list((tmp_path / 'out').iterdir())
    assert len(cut(files, tmp_path / 'out', 'data', SIZE)) > 1


@pytest.mark.parametrize(('folder', 'reason'), [('none', 'is not a folder'), ('source', 'there are no parts')])
def test_wrong_folders(files, tmp_path, folder, reason):
    with pytest.raises(UserError, match=reason):
        collect([tmp_path / folder], tmp_path / 'in')

"""Files in parts: what is cut is joined again; parts that are missing, damaged or of another packing."""
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


def test_nothing_is_written_outside_of_the_target(files, tmp_path):
    cut({'../outside': files['x/a/large.bin']}, tmp_path / 'out', 'data', SIZE)
    with pytest.raises(tarfile.FilterError):
        join(tmp_path / 'out', 'data', tmp_path / 'target')
    assert not (tmp_path / 'outside').exists()


@pytest.mark.parametrize(('folder', 'reason'), [('none', 'is not a folder'), ('source', 'there are no parts')])
def test_wrong_folders(files, tmp_path, folder, reason):
    with pytest.raises(UserError, match=reason):
        collect([tmp_path / folder], tmp_path / 'in')

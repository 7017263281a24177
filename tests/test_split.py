"""Scenes that are held out as a whole: what counts as one, how they are chosen, the lists, what is refused."""
from __future__ import annotations

import cv2
import numpy as np
import pytest
from conftest import ROOT

from basicsr.commands.split import main as split
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.data.scenes import find_scenes, hold_out
from basicsr.utils.files import list_images


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures: three of one scene at other exposures, one moved a little, two grey ones, and others."""
    rng = np.random.RandomState(0)
    pictures = [cv2.resize(rng.randint(60, 190, (6, 8, 3)).astype(np.uint8), (64, 48)) for _ in range(8)]
    first = pictures[0]
    pictures += [first // 2, np.clip(first * 1.2, 0, 255).astype(np.uint8), np.roll(pictures[1], 2, axis=1)]
    pictures[6] = pictures[7] = np.full((48, 64, 3), 90, np.uint8)
    (tmp_path / 'gt').mkdir()
    for i, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / 'gt' / f'my {i}.png'), picture)
    return tmp_path / 'gt'


def test_a_scene_is_known_whatever_its_exposure(folder):
    assert find_scenes(list_images(folder), 0.8) == [[0, 8, 9], [1, 10], [2], [3], [4], [5], [6], [7]]


def test_what_others_link_is_one_scene(folder, monkeypatch):
    monkeypatch.setattr('basicsr.data.scenes._BLOCK', 2)
    test_a_scene_is_known_whatever_its_exposure(folder)
    row = cv2.resize(np.random.RandomState(1).randint(0, 256, (4, 12, 3)).astype(np.uint8), (220, 48))
    for i in range(5):  # a camera that turns: the first and the last see little of each other
        cv2.imwrite(str(folder / f'z{i}.png'), row[:, i * 12:i * 12 + 64])
    last = find_scenes(list_images(folder), 0.5)[-1]
    assert last == [11, 12, 13, 14, 15]


@pytest.mark.parametrize('count', [1, 5, 24, 60])
def test_scenes_are_held_out_whole_and_spread(count):
    rng = np.random.RandomState(count)
    sizes = rng.randint(1, 5, 60)
    ends = np.cumsum(sizes)
    scenes = [list(range(end - size, end)) for size, end in zip(sizes, ends)]
    chosen = hold_out(scenes, count)
    assert count - 3 <= len(chosen) <= count and len(set(chosen)) == len(chosen)
    assert all(set(scene) <= set(chosen) or not set(scene) & set(chosen) for scene in scenes)
    gaps = np.diff([0, *chosen, ends[-1]])
    assert gaps.max() < 3 * ends[-1] / count + 5
    with pytest.raises(ValueError, match='cannot be held out'):
        hold_out(scenes, int(ends[-1]))


def test_the_lists_are_those_of_data_sets(folder, capsys):
    out = folder.parent / 'lists'
    assert split([str(folder), '--count', '4', '-o', str(out)]) == 0
    assert '11 images of 8 scenes, the largest of 3; held out: 4 images of' in capsys.readouterr().out
    parts = [
        PairedImageDataset(str(folder), str(folder), meta_info_file=str(out / name)).paths
        for name in ('train.txt', 'held_out.txt')
    ]
    assert [len(part) for part in parts] == [7, 4] and len({gt for part in parts for _, gt in part}) == 11
    first = (out / 'train.txt').read_bytes()
    assert split([str(folder), '--count', '5', '-o', str(out)]) == 2 and (out / 'train.txt').read_bytes() == first
    assert 'would be replaced' in capsys.readouterr().err
    assert split([str(folder), '--count', '4', '-o', str(out), '--overwrite']) == 0
    assert (out / 'train.txt').read_bytes() == first  # the same every time


@pytest.mark.parametrize('arguments, says', [
    (['--count', '0'], '--count: 0 of the 11 images'),
    (['--count', '11'], '--count: 11 of the 11 images'),
    (['--count', '2', '--similarity', '0'], '--similarity: 0.0 is not above 0'),
    (['--count', '2', '--similarity', '1e-9'], 'no scene is as small as --count 2'),
])
def test_what_cannot_be_split_is_said(folder, tmp_path, capsys, arguments, says):
    for file in list_images(folder)[6:8]:
        if arguments[-1] == '1e-9':
            file.write_bytes(list_images(folder)[0].read_bytes())
    assert split([str(folder), '-o', str(tmp_path / 'x'), *arguments]) == 2
    assert says in capsys.readouterr().err and not (tmp_path / 'x').exists()


def test_the_lists_of_lol_v1_share_nothing():
    lists = [(ROOT / 'Options' / 'splits' / f'lol_v1_{name}.txt').read_text().split() for name in ('train', 'held_out')]
    assert [len(names) for names in lists] == [461, 24] and not set(lists[0]) & set(lists[1])

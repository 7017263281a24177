"""CDD-11: subsets, the rule of drawing, mistakes."""
import random
from collections import Counter
from pathlib import Path

import pytest
from all_in_one_trees import cdd, write

from basicsr.data import build_dataset
from basicsr.utils.errors import UserError
from basicsr.utils.task_names import CDD11 as FOLDERS


@pytest.mark.parametrize('subset, count', [('all', 11), ('single', 4), ('double', 5), ('triple', 2), ('low_haze', 1)])
def test_cdd11_subsets(tmp_path, subset, count):
    opt = cdd(tmp_path / 'CDD11') | {'subset': subset}
    for root in (tmp_path, tmp_path / 'CDD11'):
        items = build_dataset(opt | {'dataroot': str(root)})
        assert len(items) == 3 * count and len(build_dataset(opt | {'phase': 'train'})) == 6 * count
        samples = list(items)
        tasks = list(dict.fromkeys(s['task'] for s in samples))
        assert len(tasks) == count and len({(s['task'], s['lq_path']) for s in samples}) == 3 * count
        degrees = {'single': {0}, 'double': {1}, 'triple': {2}, 'low_haze': {1}}.get(subset, {0, 1, 2})
        assert {t.count('_') for t in tasks} == degrees
        for s in samples:
            assert round(float(s['lq'].max()) *
                         255) == 10 * (1 + FOLDERS.index(s['task'])) + int(Path(s['lq_path']).stem[-1]) - 1
            assert round(float(s['gt'].max()) * 255) == int(Path(s['lq_path']).stem[-1]) - 1


def test_cdd11_draws_folders_then_images_uniformly(tmp_path):
    items = build_dataset(cdd(tmp_path) | {'phase': 'train', 'gt_size': 4})
    random.seed(0)
    drawn = [items.pick(0) for _ in range(6600)]
    folders = Counter(s.task for s in drawn)
    assert set(folders) == set(FOLDERS)
    assert all(480 < n < 720 for n in folders.values())  # 600 expected, five standard deviations of 23.4
    assert all(130 < n < 270 for n in Counter(s.lq for s in drawn).values())  # 200 expected, five of 13.9
    assert len(Counter(s.lq for s in drawn)) == 33 and items[0]['lq'].shape == (3, 4, 4)


def test_cdd11_mistakes_are_named_at_once(tmp_path):
    opt = cdd(tmp_path)
    (tmp_path / 'test/haze/2.png').unlink()
    write(tmp_path / 'test/low_rain/9.png')
    (tmp_path / 'test/snow').rename(tmp_path / 'test/Snow')
    with pytest.raises(UserError) as info:
        build_dataset(opt)
    text = str(info.value)
    assert text.startswith('datasets.test: the images of haze, snow, low_rain are not complete:')
    assert 'low: 3 pairs' in text and f"'{tmp_path}/test/clear': 2.png" in text and f"'{tmp_path}/test/snow'" in text
    assert f"'{tmp_path}/test/low_rain': 9.png" in text
    with pytest.raises(UserError, match=r"subset: there is no 'singel'\. Did you mean 'single'\?"):
        build_dataset(opt | {'subset': 'singel'})
    with pytest.raises(UserError, match=r'there is none of .*CDD11/train'):
        build_dataset(opt | {'dataroot': f'{tmp_path}/test', 'phase': 'train'})

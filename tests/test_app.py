"""What the page does with photos. The page itself, in a browser: tests/system/test_page.py."""
from __future__ import annotations

import importlib.util
import socket

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from basicsr import Restorer
from basicsr.app.desk import Desk, Limits
from basicsr.commands.app import main as app
from basicsr.inference.amount import AUTO, Amount
from basicsr.utils.errors import UserError

WEIGHTS = ['retinexformer_photos_small', 'retinexmamba_tiny']


@pytest.fixture
def dark(tmp_path):
    Image.open(ROOT / 'data' / 'demo' / 'test' / 'input' / 'peaks.png').save(tmp_path / 'dark.jpg', quality=95)
    return tmp_path / 'dark.jpg'


def test_results_are_those_of_the_command(dark, tmp_path):
    (tmp_path / 'out').mkdir()
    amount = Amount(.5, .5)
    written, failed = Desk(WEIGHTS, 'cpu').enhanced([dark], WEIGHTS[1], amount, tmp_path / 'out')
    assert [file.name for file in written] == ['dark.jpg'] and not failed
    restore = Restorer.from_pretrained(WEIGHTS[1], device='cpu')
    wanted, = restore.files(dark, tmp_path / 'wanted.jpg', strength=.5, exposure=.5)
    assert written[0].read_bytes() == wanted.read_bytes()


def test_a_photo_that_fails_leaves_the_others(dark, tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'text.jpg').write_text('no photo')
    written, failed = Desk(WEIGHTS, 'cpu').enhanced([tmp_path / 'text.jpg', dark], WEIGHTS[0], Amount(),
                                                    tmp_path / 'out')
    assert [file.name for file in written] == ['dark.jpg'] and len(failed) == 1 and 'text.jpg' in failed[0]


def test_a_look_asks_the_network_once_for_every_strength(dark, monkeypatch):
    desk = Desk(WEIGHTS, 'cpu')
    restorer, asked = desk.restorer(WEIGHTS[0]), []
    monkeypatch.setattr(type(restorer), '__call__', _counting(type(restorer).__call__, asked))
    opened = desk.opened(dark)
    looks = [desk.look(opened, WEIGHTS[0], Amount(strength)) for strength in (1., .5, 0., 1.)]
    assert len(asked) == 1
    before, after, said = looks[0]
    assert before.dtype == after.dtype == np.uint8 and before.shape == after.shape and not said
    assert after.mean() > looks[1][1].mean() > looks[2][1].mean() and np.array_equal(after, looks[3][1])
    assert np.array_equal(looks[2][1], before)


def _counting(function, calls):

    def counted(*args, **kwargs):
        calls.append(args)
        return function(*args, **kwargs)

    return counted


def test_auto_says_what_it_found(tmp_path):
    Image.open(ROOT / 'data' / 'demo' / 'test' / 'target' / 'peaks.png').save(tmp_path / 'bright.png')
    desk = Desk(WEIGHTS, 'cpu')
    before, after, said = desk.look(desk.opened(tmp_path / 'bright.png'), WEIGHTS[0], Amount(AUTO))
    assert 'is bright already' in said and np.abs(after.astype(int) - before).max() < 60


@pytest.mark.parametrize('limits, says', [
    (Limits(photos=1), '2 photos at once; this page takes 1'),
    (Limits(megapixels=0), "'dark.jpg' has 0 megapixels in all; this page takes 0"),
    (Limits(megabytes=0), "'dark.jpg' is larger than 0 MB"),
])
def test_more_than_the_limits_is_refused(dark, limits, says):
    with pytest.raises(UserError, match=says):
        Desk(WEIGHTS, 'cpu', limits).check([dark, dark])


@pytest.mark.parametrize('name, settings', [('a.gif', {}), ('a.avif', {}), ('a.png', {'orientation': 6}),
                                            ('a.tif', {'orientation': 6}), ('a.webp', {'orientation': 6}),
                                            ('pages.tif', {'frames': 9}), ('frames.gif', {'frames': 9}), ('a.jp2', {}),
                                            ('a.heic', {})])
def test_pixels_are_counted_in_every_format(tmp_path, name, settings):
    large = settings.get('frames', 1) == 1
    if name.endswith('.heic'):
        pytest.importorskip('pillow_heif').register_heif_opener()
    images = [
        Image.new('RGB', (1500, 1000) if large else (400, 400), (i, 0, 0)) for i in range(settings.get('frames', 1))
    ]
    exif = Image.Exif()
    if 'orientation' in settings:
        exif[0x0112] = settings['orientation']
    more = {'save_all': True, 'append_images': images[1:]} if not large else {}
    images[0].save(tmp_path / name, **({'exif': exif} if exif else {}), **more)
    with pytest.raises(UserError, match='megapixels in all; this page takes 1'):
        Desk(WEIGHTS, 'cpu', Limits(megapixels=1)).check([tmp_path / name])
    Desk(WEIGHTS, 'cpu', Limits(megapixels=2)).check([tmp_path / name])


@pytest.mark.parametrize('name, data', [('a.dng', b'II*\0' + b'\x08\0\0\0\0\0' * 40), ('a.nef', b'no photo'),
                                        ('a.heic', b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + b'\0' * 200)])
def test_a_damaged_photo_is_one_sentence(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=name):
        Desk(WEIGHTS, 'cpu').opened(tmp_path / name)


def test_photos_of_one_name_are_both_enhanced_and_no_path_is_told(dark, tmp_path):
    (tmp_path / 'x').mkdir()
    other = tmp_path / 'x' / 'dark.jpg'
    other.write_bytes(dark.read_bytes())
    (tmp_path / 'bad.jpg').write_bytes(dark.read_bytes()[:2000])
    (tmp_path / 'out').mkdir()
    desk = Desk(WEIGHTS, 'cpu')
    written, failed = desk.enhanced([dark, other, tmp_path / 'bad.jpg'], WEIGHTS[0], Amount(), tmp_path / 'out')
    assert [file.name for file in written] == ['dark.jpg'] * 2 and len(failed) == 1
    assert 'bad.jpg' in failed[0] and str(tmp_path) not in failed[0]


def test_visitors_choose_among_the_weights_of_the_page(dark):
    desk = Desk(WEIGHTS[:1], 'cpu')
    with pytest.raises(UserError, match='no weights'):
        desk.look(desk.opened(dark), str(ROOT / 'pretrained_weights' / 'retinexmamba_tiny.safetensors'), Amount())


@pytest.mark.parametrize('words, says', [
    (['--weights', 'retinexmamba_tin'], "Did you mean 'retinexmamba_tiny'"),
    (['--max_photos', '0'], 'limits are positive numbers'),
    (['--host', '203.0.113.1'], 'cannot listen at 203.0.113.1:7860'),
    (['--host', ''], '--host is a name or an address'),
    (['--weights', str(ROOT / 'README.md')], "README.md' is not a weights file"),
])
def test_mistakes_are_one_sentence(words, says, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *a: name)
    assert app(words) == 2
    error = capsys.readouterr().err
    assert says in error and error.startswith('error: ') and error.count('\n') == 1


def test_a_port_that_is_taken_is_said(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *a: name)
    with socket.create_server(('127.0.0.1', 0)) as server:
        assert app(['--port', str(server.getsockname()[1])]) == 2
    assert 'choose another --host or --port' in capsys.readouterr().err


def test_without_gradio_it_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *a: None)
    assert app([]) == 2 and "pip install 'retinexmamba[app]'" in capsys.readouterr().err

"""The page in a real browser. It takes Debian's Chromium (apt-get install chromium), driven by Playwright."""
from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import ROOT, run_python
from PIL import Image
from playwright import sync_api as playwright

CHROMIUM = shutil.which('chromium')
WEIGHTS = ['retinexformer_photos_small', 'retinexmamba_tiny']


@pytest.fixture(scope='module')
def app(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """The page, as `basicsr app` serves it, with an uploaded photo limited to 1 MB and 1 megapixel."""
    folder = tmp_path_factory.mktemp('app')
    command = [sys.executable, '-m', 'basicsr', 'app', '--port', '0', '--weights', *WEIGHTS, '--max_megapixels', '1']
    environment = {**os.environ, 'TMPDIR': str(folder), 'PYTHONPATH': str(ROOT)}
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    line = server.stdout.readline()
    found = re.match(r'(http://127\.0\.0\.1:\d+)  \(Ctrl-C ends\)', line)
    assert found, line
    yield SimpleNamespace(url=found[1], folder=folder)
    server.send_signal(signal.SIGINT)
    server.wait(60)
    assert not list(folder.glob('basicsr-app-*')), 'photos of visitors are left'


@pytest.fixture(scope='module')
def browser() -> Iterator:
    if CHROMIUM is None:
        pytest.fail('there is no Chromium: apt-get install --no-install-recommends chromium')
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield browser
        browser.close()


@pytest.fixture
def page(app, browser) -> Iterator:
    page = browser.new_page(viewport={'width': 1280, 'height': 1000})
    page.set_default_timeout(120_000)
    foreign: list[str] = []
    page.on(
        'request', lambda request: foreign.append(request.url)
        if not request.url.startswith((app.url, 'data:', 'blob:')) else None)
    page.goto(app.url)
    yield page
    page.close()
    assert not foreign, 'the page asks other machines'


@pytest.fixture
def dark(tmp_path) -> Path:
    """A dark JPEG with EXIF."""
    img = Image.open(ROOT / 'data' / 'demo' / 'test' / 'input' / 'peaks.png').convert('RGB')
    exif = Image.Exif()
    exif[0x010f], exif[0x0110] = 'Maker', 'Camera'
    exif[0x8769] = {0x829a: 0.25}
    img.save(tmp_path / 'peaks.jpg', quality=90, exif=exif, dpi=(300, 300))
    return tmp_path / 'peaks.jpg'


def upload(page, *files: Path) -> None:
    page.locator('#photos input[type=file]').set_input_files([str(file) for file in files])


def after(page) -> str:
    """Address of the picture that lies on the right of the slider, when it is there."""
    picture = page.locator('#compared img').last
    picture.wait_for(state='visible')
    return picture.get_attribute('src')


def set_slider(page, name: str, value: float) -> None:
    number = page.locator(f'#{name} input[type=number]')
    number.fill(str(value))
    number.press('Enter')


def test_what_is_downloaded_is_what_the_command_writes(app, page, dark, tmp_path):
    upload(page, dark)
    first = after(page)
    page.locator('#auto input').uncheck()
    set_slider(page, 'strength', 0.5)
    page.wait_for_function('first => [...document.querySelectorAll("#compared img")].at(-1).src != first', arg=first)
    set_slider(page, 'exposure', 0.5)
    page.locator('#histogram img').wait_for()
    page.wait_for_timeout(1000)
    page.wait_for_function('![...document.querySelectorAll(".progress-text")].some(each => each.offsetParent)')
    if pictures := os.environ.get('BASICSR_SCREENSHOT'):
        page.screenshot(path=pictures)
    page.locator('#enhance').click()
    with page.expect_download() as started:
        page.locator('#results a[download]').first.click()
    assert started.value.suggested_filename == 'peaks.jpg'
    got = tmp_path / 'got.jpg'
    started.value.save_as(got)
    words = ['enhance', dark, '-o', tmp_path / 'wanted.jpg', '--strength', '0.5', '--exposure', '0.5']
    done = run_python('-m', 'basicsr', *map(str, words), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(cv2.imread(str(got)), cv2.imread(str(tmp_path / 'wanted.jpg')))
    found = Image.open(got)
    assert found.getexif()[0x010f] == 'Maker' and found.getexif().get_ifd(0x8769)[0x829a] == 0.25
    assert got.read_bytes() == (tmp_path / 'wanted.jpg').read_bytes()


def test_two_weights_are_compared(page, dark):
    upload(page, dark)
    after(page)
    page.get_by_role('tab', name='Compare weights').click()
    sides = page.locator('#both img')
    sides.first.wait_for(state='visible')
    assert sides.first.get_attribute('src') != sides.last.get_attribute('src')


@pytest.mark.parametrize('name, says', [('large.png', 'has 4 megapixels in all; this page takes 1'),
                                        ('text.jpg', 'not an image')])
def test_what_the_page_does_not_take_is_said(page, tmp_path, name, says):
    if name == 'large.png':
        Image.new('RGB', (2000, 2000)).save(tmp_path / name)
    else:
        (tmp_path / name).write_text('no photo')
    upload(page, tmp_path / name)
    page.locator('#said', has_text=says).wait_for()


@pytest.mark.parametrize('path', [
    'file=/etc/hostname', 'file=../../etc/hostname', 'file=%2Fetc%2Fhostname', f'file={ROOT}/README.md',
    'file=README.md'
])
def test_files_of_the_machine_are_not_served(app, path):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f'{app.url}/gradio_api/{path}')
    assert refused.value.code in (403, 404)


def test_another_name_of_this_machine_is_not_answered(app):
    """A page elsewhere can make its own name lead here."""
    request = urllib.request.Request(app.url, headers={'Host': 'elsewhere.example'})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 400


def test_what_a_visitor_is_called_is_no_path(app):
    """Results are made and taken away in folders that the server names."""
    precious = app.folder / 'victim' / 'precious.txt'
    precious.parent.mkdir()
    precious.write_text('p')
    config = json.load(urllib.request.urlopen(f'{app.url}/config'))
    temporary, = app.folder.glob('basicsr-app-*')
    for name in ('../../victim', f'x/../../../{precious.parent.name}', str(precious.parent)):
        for action in config['dependencies']:
            body = {'data': [None] * len(action['inputs']), 'fn_index': action['id'], 'session_hash': name}
            join = urllib.request.Request(f'{app.url}/gradio_api/queue/join',
                                          json.dumps(body).encode(), {'Content-Type': 'application/json'})
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(join, timeout=20).read()
        address = f'{app.url}/gradio_api/queue/data?session_hash={urllib.parse.quote(name, safe="")}'
        for line in urllib.request.urlopen(address, timeout=60):
            if b'close_stream' in line:
                break
    assert precious.read_text() == 'p' and [f.name for f in precious.parent.iterdir()] == ['precious.txt']
    assert {f.name for f in temporary.iterdir()} <= {'uploads', 'results'}


@pytest.mark.parametrize('name, code', [('SIGTERM', 143), ('SIGHUP', 129)])
def test_a_signal_leaves_nothing(tmp_path, name, code):
    # under nohup, whatever runs these tests ignores SIGHUP, and so would the page
    unignored = f'import signal; signal.signal(signal.{name}, signal.SIG_DFL); from basicsr.cli import main; main()'
    command = [sys.executable, '-c', unignored, 'app', '--port', '0', '--weights', WEIGHTS[1]]
    server = subprocess.Popen(command, cwd=tmp_path,
                              env={**os.environ, 'TMPDIR': str(tmp_path),
                                   'PYTHONPATH': str(ROOT)}, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    server.stdout.readline()
    assert list(tmp_path.glob('basicsr-app-*'))
    server.send_signal(getattr(signal, name))
    assert server.wait(60) == code and not list(tmp_path.glob('basicsr-app-*'))


def test_files_of_the_machine_are_no_photos(app):
    """Whoever speaks to the server without the page cannot name a file that was not uploaded."""
    secret = app.folder / 'secret.png'
    Image.new('RGB', (8, 8), (255, 0, 0)).save(secret)
    config = json.load(urllib.request.urlopen(f'{app.url}/config'))
    for number, action in enumerate(config['dependencies']):
        given = [[{'path': str(secret), 'meta': {'_type': 'gradio.FileData'}}]] + [None] * (len(action['inputs']) - 1)
        body = {'data': given[:len(action['inputs'])], 'fn_index': action.get('id', number), 'session_hash': 'nobody'}
        join = urllib.request.Request(f'{app.url}/gradio_api/queue/join',
                                      json.dumps(body).encode(), {'Content-Type': 'application/json'})
        try:
            urllib.request.urlopen(join, timeout=20).read()
        except urllib.error.HTTPError as refused:
            assert refused.code in (400, 403, 422), refused
            continue
    stream = urllib.request.urlopen(f'{app.url}/gradio_api/queue/data?session_hash=nobody', timeout=60)
    for line in stream:
        text = line.decode()
        assert 'secret' not in text or '"success":false' in text.replace(' ', '')
        if 'close_stream' in text:
            break

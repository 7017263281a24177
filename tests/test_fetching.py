"""Files from the web and from Google Drive by the real clients, from a server on this machine: whole, or not at all."""
from __future__ import annotations

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Event

import pytest
from weight_server import running

from basicsr.utils.errors import UserError
from basicsr.utils.fetching import cache, drive, web
from basicsr.utils.fetching.addresses import DriveFile, HubFile, WebFile, as_ascii, read_address
from basicsr.utils.fetching.cache import Expected, fetch

CONTENT = bytes(range(256)) * 2000
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv('BASICSR_WEIGHTS', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.delenv('HF_HUB_OFFLINE', raising=False)
    monkeypatch.setattr(web, '_PAUSES', (0, 0, 0))
    with running() as found:
        found.files['/net.pth'] = CONTENT
        yield found


def refusal(*args, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        fetch(*args, **kwargs)
    return str(caught.value)


def left(tmp_path: Path) -> list[str]:
    """What is in the cache beside locks."""
    return sorted(file.name for file in (tmp_path / 'cache').rglob('*') if file.is_file() and file.name != '.lock')


# --- addresses


@pytest.mark.parametrize('text, source', [
    ('hf:a/b', HubFile('a/b')),
    ('hf:a/b.c@v1.0', HubFile('a/b.c', 'v1.0')),
    ('hf:a/b:x/y.pth', HubFile('a/b', 'main', 'x/y.pth')),
    ('hf:a/b@refs/pr/1:y.pth', HubFile('a/b', 'refs/pr/1', 'y.pth')),
    ('https://host/x.pth?download=1', WebFile('https://host/x.pth?download=1')),
    ('http://localhost:80/x.pth', WebFile('http://localhost:80/x.pth')),
    ('https://drive.google.com/file/d/1a-B_c/view?usp=sharing', DriveFile('1a-B_c')),
    ('https://drive.google.com/uc?export=download&id=1a-B_c', DriveFile('1a-B_c')),
])
def test_addresses(text, source):
    assert read_address(text) == source == read_address(str(source))


@pytest.mark.parametrize('text, message', [
    ('hf:a', 'is no address on the hub; it is written hf:OWNER/REPOSITORY'),
    ('hf:a/b/c', 'is no address on the hub'),
    ('hf:a/b@', 'is no address on the hub'),
    ('http://host/x.pth', 'by https:// only'),
    ('http://localhost.evil.org/x.pth', 'by https:// only'),
    ('https:///x.pth', 'by https:// only'),
    ('https://host:port/x.pth', 'is no address'),
    ('https://ho st/x.pth', 'there is a blank in the name of its host'),
    ('https://[::1/x.pth', 'is no address'),
    (f"https://{'ä' * 99}.de/x.pth", 'is no address'),
    ('https://drive.google.com/drive/folders/1a', 'take the link of one file'),
])
def test_what_is_no_address_is_told(text, message):
    with pytest.raises(UserError, match=message) as caught:
        read_address(text)
    assert text in str(caught.value)


# --- the web


def test_a_file_is_fetched_once_and_compared_from_then_on(server, tmp_path, messages):
    source = WebFile(f'{server.url}/net.pth')
    first, second = fetch(source), fetch(source)
    assert first.path.read_bytes() == CONTENT and first.path.name == 'net.pth' and (first.first,
                                                                                    second.first) == (True, False)
    assert second.path == first.path and len(server.asked) == 1 and left(tmp_path) == ['net.pth', 'source.json']
    assert f'512,000 bytes, SHA-256 {SUM} (not known before, and compared with from now on)' in messages[0]
    assert messages[1].endswith('SHA-256 as at its first fetch')
    first.path.write_bytes(CONTENT[:-1] + b'x')
    text = refusal(source)
    assert str(first.path) in text and f'is no longer what was fetched from {source}' in text
    assert text.endswith(f'basicsr fetch --again {source}') and fetch(source, again=True).path.read_bytes() == CONTENT


def test_a_known_sum_is_checked_and_said(server, tmp_path, messages):
    source = WebFile(f'{server.url}/net.pth')
    ends = f'{SUM[:8]}…{SUM[-8:]}'
    for known in (SUM, ends):
        fetch(source, Expected(len(CONTENT), known), again=True)
        fetch(source, Expected(len(CONTENT), known))
    assert sum('(as published)' in text for text in messages) == sum('SHA-256 as published' in text
                                                                     for text in messages) == 2
    assert 'its SHA-256 is' in refusal(source, Expected(sha256='0' * 64))  # of a file that is here


@pytest.mark.parametrize('known, message', [
    (Expected(sha256='0' * 64), f'the file is not what was published: its SHA-256 is {SUM}, not 000'),
    (Expected(sha256=f'{SUM[:8]}…00000000'), 'is not what was published'),
    (Expected(bytes=512_001), 'has 512,000 bytes, and what was published has 512,001'),
    (Expected(bytes=3), 'has 512,000 bytes, and what was published has 3'),
])
def test_what_was_not_published_is_not_kept(server, tmp_path, known, message):
    assert message in refusal(WebFile(f'{server.url}/net.pth'), known)
    assert left(tmp_path) == []


def test_a_file_that_has_changed_is_not_taken_for_the_first_one(server, tmp_path):
    source = WebFile(f'{server.url}/net.pth')
    fetch(source).path.unlink()
    server.files['/net.pth'] = b'another'
    text = refusal(source)
    assert 'is another file than at its first fetch' in text and SUM in text and '--again' in text
    assert left(tmp_path) == ['source.json']
    assert fetch(source, again=True).path.read_bytes() == fetch(source).path.read_bytes() == b'another'


def test_a_cut_connection_is_taken_up_again(server):
    server.cuts['/net.pth'] = [1000, 2000, 0]
    assert fetch(WebFile(f'{server.url}/net.pth')).path.read_bytes() == CONTENT
    assert server.bodies('/net.pth') == [None, 'bytes=1000-', 'bytes=3000-', 'bytes=3000-']


def test_what_has_come_is_kept_for_the_next_call(server, tmp_path):
    source = WebFile(f'{server.url}/net.pth')
    server.cuts['/net.pth'] = [1000, 0, 0, 0, 0]
    text = refusal(source)
    assert 'cut at 1,000 of 512,000 bytes; the 1,000 bytes that came are kept' in text
    assert left(tmp_path) == ['unfinished', 'unfinished.version']
    del server.asked[:]
    assert fetch(source).path.read_bytes() == CONTENT and server.bodies('/net.pth') == ['bytes=1000-']
    assert left(tmp_path) == ['net.pth', 'source.json']


@pytest.mark.parametrize('change', [{'ranges': False}, {'tagged': False}, {'files': {'/net.pth': CONTENT[::-1]}}])
def test_a_file_that_cannot_be_taken_up_again_is_begun_anew(server, change):
    """No parts; nothing that tells the file from a later one; another file in its place."""
    source = WebFile(f'{server.url}/net.pth')
    server.tagged = change.get('tagged', True)
    server.cuts['/net.pth'] = [1000, 0, 0, 0, 0]
    refusal(source)
    for name, value in change.items():
        setattr(server, name, value)
    assert fetch(source).path.read_bytes() == server.files['/net.pth']


def test_a_file_that_has_become_shorter_is_begun_anew(server, monkeypatch):
    source = WebFile(f'{server.url}/net.pth')
    part = cache._home(source) / cache._PART
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT + b'more')
    part.with_name(f'{part.name}.version').write_text(f'"{SUM}"')
    assert fetch(source).path.read_bytes() == CONTENT and server.bodies('/net.pth') == ['bytes=512004-', None]


def test_redirects_are_followed_to_safe_places_only(server, tmp_path):
    server.redirects |= {
        '/a': f'{server.url}/b', '/b': '/net.pth', '/c': 'http://example.com/net.pth', '/d': 'file:///etc/passwd'
    }
    found = fetch(WebFile(f'{server.url}/a'))
    assert found.path.read_bytes() == CONTENT and found.path.name == 'a'
    assert "'http://example.com/net.pth': weights are fetched by https:// only" in refusal(WebFile(f'{server.url}/c'))
    assert "'file:///etc/passwd' is not allowed" in refusal(WebFile(f'{server.url}/d'))
    server.redirects['/e'] = '/e'
    asked = 'cannot be fetched: its server sends on from address to address without end'
    assert refusal(WebFile(f'{server.url}/e')) == f"'{server.url}/e' {asked}"


@pytest.mark.parametrize('place', ['http://[::1', 'http://localhost:port/net.pth'])
def test_a_redirect_to_what_is_no_address_is_told_at_once(server, place):
    server.answers['/net.pth'] = (302, {'Location': place})
    text = refusal(WebFile(f'{server.url}/net.pth'))
    assert 'is no address' in text and '\n' not in text and len(server.asked) == 1


def test_addresses_of_any_letters_are_sent_as_their_bytes(server):
    sent = '/gr%C3%B6%C3%9Fe%20%25/n%20t.pth'
    server.files[sent] = CONTENT
    found = fetch(read_address(f'{server.url}/größe %25/n t.pth?x=ä'))
    assert found.path.read_bytes() == CONTENT and found.path.name == 'n t.pth'
    assert [path for _, path, _ in server.asked] == [f'{sent}?x=%C3%A4']
    assert as_ascii('https://ä@bücher.example:8443/x') == 'https://%C3%A4@xn--bcher-kva.example:8443/x'


def test_servers_name_files_within_the_cache(server, tmp_path):
    for name, kept in (('weights.ckpt', 'weights.ckpt'), ('../../evil.pth', 'evil.pth'), ('..', 'net.pth')):
        server.names['/net.pth'] = name
        found = fetch(WebFile(f'{server.url}/net.pth?{kept}{len(name)}'))
        assert found.path.name == kept and found.path.parent.parent == tmp_path / 'cache'


@pytest.mark.parametrize('status, message', [
    (404, 'the server answers 404 Not Found; there is no such file'),
    (401, 'it asks for a login'),
    (403, 'it refuses access'),
    (410, 'the server answers 410 Gone'),
    (503, 'the server answers 503 Service Unavailable'),
])
def test_what_servers_refuse_is_told(server, tmp_path, status, message):
    server.answers['/net.pth'] = (status, {})
    text = refusal(WebFile(f'{server.url}/net.pth'))
    assert message in text and f'{server.url}/net.pth' in text and left(tmp_path) == []
    assert len(server.asked) == (4 if status == 503 else 1)  # a server that is busy is asked again


def test_a_server_that_is_not_there_is_told(server):
    with running() as gone:
        url = f'{gone.url}/net.pth'
    assert 'cannot be fetched: the server cannot be reached' in refusal(WebFile(url))


def test_a_web_page_is_no_file(server, tmp_path):
    server.pages['/net.pth'] = '<html>log in</html>'
    assert 'is a web page, not a file of weights' in refusal(WebFile(f'{server.url}/net.pth')) and left(tmp_path) == []


def test_offline_nothing_is_fetched_and_what_is_here_is_used(server, monkeypatch):
    source = WebFile(f'{server.url}/net.pth')
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    assert 'HF_HUB_OFFLINE forbids' in refusal(source) and not server.asked
    monkeypatch.delenv('HF_HUB_OFFLINE')
    fetch(source)
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    assert fetch(source).path.read_bytes() == CONTENT and 'HF_HUB_OFFLINE forbids' in refusal(source, again=True)


def test_two_who_want_the_same_fetch_it_once(server, messages):
    source, go_on = WebFile(f'{server.url}/net.pth'), Event()
    server.before = go_on.wait
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(fetch, source) for _ in range(2)]
        while not any('another process is fetching' in text for text in messages):
            Event().wait(.01)
        go_on.set()
    found = [done.result() for done in both]
    assert sorted(one.first for one in found) == [False, True] and len(server.asked) == 1
    assert {one.path.read_bytes() for one in found} == {CONTENT}


def test_two_processes_fetch_it_once(server):
    go_on = Event()
    server.before = go_on.wait
    code = f"""
from basicsr.utils.fetching.addresses import WebFile
from basicsr.utils.fetching.cache import fetch
found = fetch(WebFile('{server.url}/net.pth'))
print(found.first, len(found.path.read_bytes()))
"""
    both = []
    try:
        for _ in range(2):
            both.append(Popen([sys.executable, '-c', code], stdout=PIPE, stderr=PIPE, text=True))
            while len(both) == 1 and not server.asked:
                Event().wait(.01)
        assert any('another process is fetching' in line for line in both[1].stderr)
        go_on.set()
        said = [process.communicate(timeout=60)[0].split() for process in both]
    finally:
        go_on.set()
        for process in both:
            process.kill()
    assert said == [['True', str(len(CONTENT))], ['False', str(len(CONTENT))]] and len(server.asked) == 1


def test_a_cache_that_cannot_be_written_is_still_read(server, monkeypatch):
    source = WebFile(f'{server.url}/net.pth')
    fetch(source)
    monkeypatch.setattr(cache, 'FileLock', lambda file: pytest.fail('nothing is written'))
    assert not fetch(source).first


def test_a_damaged_record_is_as_none(server):
    source = WebFile(f'{server.url}/net.pth')
    for text in ('{', '[]', '{"file": "net.pth"}'):
        (fetch(source).path.parent / 'source.json').write_text(text)
        assert fetch(source).first


def test_the_cache_is_where_variables_say(monkeypatch, tmp_path):
    monkeypatch.delenv('BASICSR_WEIGHTS', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert cache.folder() == tmp_path / 'basicsr' / 'weights'
    monkeypatch.setenv('BASICSR_WEIGHTS', '~/w')
    assert cache.folder() == Path.home() / 'w'


# --- Google Drive

CONFIRM = '''<html><body><p>Google Drive can't scan this file for viruses.</p>
<form id="download-form" action="{url}/download" method="get"><input type="submit" value="Download anyway"/>
<input type="hidden" name="id" value="abc"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="1&amp;2"></form></body></html>'''


@pytest.fixture
def shared(server, monkeypatch):
    """A file of Google Drive with a page before it."""
    monkeypatch.setattr(drive, '_START', f'{server.url}/uc?export=download&id=')
    server.pages['/uc'] = CONFIRM.format(url=server.url)
    server.files['/download'] = CONTENT
    server.names['/download'] = 'net.pth'
    return server


def test_the_page_of_google_drive_is_answered(shared):
    found = fetch(DriveFile('abc'))
    assert found.path.read_bytes() == CONTENT and found.path.name == 'net.pth'
    assert [path for _, path, _ in shared.asked
            ] == ['/uc?export=download&id=abc', '/download?id=abc&export=download&confirm=t&uuid=1%262']


def test_a_small_file_of_google_drive_comes_without_a_page(shared):
    del shared.pages['/uc']
    shared.redirects['/uc'] = f'{shared.url}/download'
    assert fetch(DriveFile('abc')).path.read_bytes() == CONTENT


def test_a_cut_connection_to_google_drive_is_taken_up_again(shared):
    shared.cuts['/download'] = [1000, 0, 0, 0, 0]
    assert '1,000 bytes that came are kept' in refusal(DriveFile('abc'))
    assert fetch(DriveFile('abc')).path.read_bytes() == CONTENT and shared.bodies('/download')[-1] == 'bytes=1000-'


@pytest.mark.parametrize('page, message', [
    ('<p>Sorry, the download quota for this file has been exceeded.</p>', 'so many have fetched it today'),
    ('<p>Sign in</p>', 'it is not shared with everyone'),
    ('<form id="download-form" action="http://example.com/x"></form>', 'by https:// only'),
])
def test_other_pages_of_google_drive_are_told(shared, tmp_path, page, message):
    shared.pages['/uc'] = page
    assert message in refusal(DriveFile('abc')) and left(tmp_path) == []


def test_a_second_page_of_google_drive_is_an_error(shared):
    shared.files.pop('/download')
    shared.pages['/download'] = 'again'
    shared.pages['/uc'] = CONFIRM.format(url=shared.url).replace('name="confirm"', 'name="other"')
    assert 'is a web page' in refusal(DriveFile('abc'))

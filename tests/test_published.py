"""The table of what others have published: whether it is right, how its names are used, what is said of them."""
from __future__ import annotations

import hashlib
import json

import pytest
import torch
from conftest import ROOT
from pydantic import ValidationError
from weight_server import running

from basicsr.archs import build_network
from basicsr.cli import main as basicsr
from basicsr.commands.enhance import main as enhance
from basicsr.commands.evaluate import main as evaluate
from basicsr.config import load_options
from basicsr.config.signatures import model_for
from basicsr.registry import ARCH_REGISTRY
from basicsr.utils import pretrained
from basicsr.utils.errors import UserError
from basicsr.utils.pretrained import find_weights, locate
from basicsr.utils.published import ByHand, Licence, Published, read_published
from basicsr.utils.weights import save_weights
from basicsr.weights.network import load_described

ROWS = read_published(ROOT / 'pretrained_weights')
NETWORK = {'type': 'NAFNetLocal', 'width': 4, 'enc_blk_nums': [1], 'dec_blk_nums': [1], 'train_size': [1, 3, 32, 32]}
ROW = {
    'network': 'NAFNetLocal', 'arguments': {k: v for k, v in NETWORK.items() if k != 'type'},
    'licence': {'code': 'MIT', 'weights': 'ask them'}, 'trained_on': 'toys',
    'claimed': [
        {'data': 'toy', 'figures': {'psnr': 20.5, 'ssim': .8}, 'by': 'its authors', 'protocol': 'luma'},
        {'data': 'game', 'figures': {'psnr': 21}, 'by': 'its authors', 'protocol': 'luma'},
    ]
}  # yapf: disable


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table with weights on a server of this machine, `net`, and others that have to be got by hand, `manual`."""
    torch.manual_seed(0)
    save_weights(tmp_path / 'net.pth', {'params': build_network(NETWORK).state_dict()})
    content = (tmp_path / 'net.pth').read_bytes()
    folder = tmp_path / 'pretrained_weights'
    folder.mkdir()
    monkeypatch.setattr(pretrained, 'folder', lambda: folder)
    monkeypatch.setenv('BASICSR_WEIGHTS', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with running() as server:
        server.files['/files/net_g.pth'] = content

        def write(**changes):
            rows = {
                'net': {**ROW, 'address': f'{server.url}/files/net_g.pth', 'bytes': len(content), **changes},
                'manual': {**ROW, 'by_hand': {'file': 'theirs.pth', 'where': 'their drive'}, 'note': 'a note'}
            }
            (folder / 'published.json').write_text(json.dumps({'weights': rows}))
            return server

        write()
        yield write


# --- what the project knows


@pytest.mark.parametrize('name', ROWS)
def test_rows_name_networks_that_can_be_built(name):
    row = ROWS[name]
    assert row.network in ARCH_REGISTRY.keys() and row.measured is None
    if row.arguments is not None:
        model_for(ARCH_REGISTRY, row.network).model_validate(row.arguments)


def test_what_is_claimed_on_cdd11_is_of_whole_images():
    protocols = {c.data: c.protocol for c in read_published(pretrained.folder())['moceir_s_cdd11'].claimed}
    assert protocols == {'CDD-11, mean of 11': 'float, Gaussian SSIM, one draw of the routing noise'}


def test_every_network_of_the_last_years_has_rows():
    assert {row.network for row in ROWS.values()
            } >= {'CIDNet', 'DarkIR', 'NAFNet', 'NAFNetLocal', 'MambaIR', 'MoCEIR', 'PromptIR', 'RetinexMamba'}
    assert ROWS['promptir_aio3'].licence.non_commercial
    known = ROWS['cidnet_generalization']
    assert known.bytes == 7_920_332 and known.address.startswith('hf:Fediory/HVI-CIDNet-Generalization@51481ef2546f')


@pytest.mark.parametrize('change', [
    {'address': 'http://host/x.pth'}, {'address': None, 'by_hand': None}, {'by_hand': {'file': 'a', 'where': 'b'}},
    {'sha256': 'abc'}, {'bytes': 0}, {'licence': {'code': 'MIT'}}, {'claimed': [{'data': 'toy', 'figures': {}}]}, {'other': 1}
])  # yapf: disable
def test_rows_that_are_wrong_are_refused(change):
    Published.model_validate({**ROW, 'address': 'hf:a/b'})
    with pytest.raises(ValidationError):
        Published.model_validate({**ROW, 'address': 'hf:a/b', **change})


@pytest.mark.parametrize('text', ['{', '[]', '{"weights": {"A B": {}}}', '{"weights": {"net": {}}}'])
def test_a_damaged_table_is_named(table, text):
    (pretrained.folder() / 'published.json').write_text(text)
    with pytest.raises(UserError, match=r"published\.json' is damaged"):
        find_weights('net')


# --- names in use


def test_commands_take_names_and_addresses(table, pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server, photo = table(), str(pairs / 'input' / '1.png')
    assert enhance([photo, '-o', 'a.png', '--weights', 'net']) == 0
    assert enhance([photo, '-o', 'b.png', '--weights', 'net']) == 0 and len(server.asked) == 1
    address = f'{server.url}/files/net_g.pth?a=b'
    assert evaluate(['--weights', 'net', address, '--degraded_dir', str(pairs / 'input'), '--dataset', 'd']) == 0
    assert {folder.name for folder in (tmp_path / 'results' / 'd').iterdir() if folder.is_dir()} == {'net', 'net_g'}
    assert basicsr(['export', '--weights', 'net', '-o', 'copy.safetensors']) == 0
    assert load_described('copy.safetensors')[1]['type'] == 'NAFNetLocal'  # as the table says, and no file would
    assert basicsr(['fetch', 'net', address]) == 0 and len(server.asked) == 2


def test_a_file_wins_over_a_name(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_weights(tmp_path / 'net', {'params': build_network(NETWORK).state_dict()})
    assert str(find_weights('net')) == 'net' and not table().asked


def test_unknown_names_are_explained(table):
    with pytest.raises(UserError, match=r"no weight file 'nett', .* Did you mean 'net'\? Names: net, manual$"):
        locate('nett')


def test_option_files_take_names_and_addresses(table, tiny_options, tmp_path):
    server = table()
    options = tiny_options(network_g=NETWORK)
    for value in ('net', f'{server.url}/files/net_g.pth'):
        unseen = load_options(options, [f'path.pretrain_network_g={value}'], is_train=False, check_files=False).opt
        assert unseen['path']['pretrain_network_g'] == value
        for key, is_train in (('pretrain_network_g', False), ('fine_tune_from', True)):
            opt = load_options(options, [f'path.{key}={value}'], is_train=is_train).opt
            assert opt['path']['pretrain_network_g'] == str(find_weights(value))
    with pytest.raises(UserError, match="'nett' does not exist"):
        load_options(options, ['path.pretrain_network_g=nett'], is_train=False)


def test_training_starts_from_published_weights(table, tiny_options, tmp_path):
    options = tiny_options('tuned', network_g=NETWORK, path={'pretrain_network_g': 'net'}, train={'total_iter': 1})
    assert basicsr(['train', str(options)]) == 0
    assert (tmp_path / 'experiments' / 'tuned' / 'models' / 'net_g_latest.pth').is_file()


def test_option_files_take_folders_of_the_hub(tiny_options, tmp_path):
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'folder' / 'model.safetensors').write_bytes(b'')
    opt = load_options(tiny_options(), ['path.pretrain_network_g=folder'], is_train=False).opt
    assert opt['path']['pretrain_network_g'] == str(tmp_path / 'folder' / 'model.safetensors')


def test_fetch_goes_on_after_what_fails(table, capsys):
    assert basicsr(['fetch', 'manual', 'nett', 'net']) == 2
    out, err = capsys.readouterr()
    assert out == f'net: {find_weights("net")}\n' and err.count('error: ') == 2


# --- by hand


@pytest.mark.parametrize('place', ['cache', 'pretrained_weights'])
def test_what_no_program_can_get_is_got_by_hand(table, tmp_path, place):
    with pytest.raises(UserError) as caught:
        locate('manual')
    assert str(caught.value) == (
        "the weights 'manual' have to be got by hand: get 'theirs.pth' from their drive, and save it as"
        f" '{tmp_path / 'cache' / 'manual.pth'}'")
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / 'manual.pth').write_bytes((tmp_path / 'net.pth').read_bytes())
    net, options = load_described('manual')
    assert options == NETWORK and type(net).__name__ == 'NAFNetLocal'


@pytest.mark.parametrize('suffix', ['.pth', '.pt', '.ckpt', '.safetensors'])
def test_where_no_file_name_is_known_any_is_taken(table, tmp_path, suffix):
    row = Published(network='NAFNetLocal', by_hand=ByHand(file='the lightweight one of scale 2.5', where='a drive'),
                    licence=Licence(code='MIT', weights='MIT'), trained_on='toys')
    assert pretrained._places('manual', row)[0].name == 'manual.pth'
    (tmp_path / 'cache').mkdir()
    (tmp_path / 'cache' / f'manual{suffix}').touch()
    assert pretrained.file_of('manual', row) == tmp_path / 'cache' / f'manual{suffix}'


def test_a_file_got_by_hand_is_recorded_and_compared(table, tmp_path, messages):
    file = tmp_path / 'cache' / 'manual.pth'
    file.parent.mkdir()
    file.write_bytes((tmp_path / 'net.pth').read_bytes())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for _ in range(2):
        locate('manual')
    assert messages == [
        f'manual: SHA-256 {digest} (not known before, and compared with from now on)',
        'licence of manual: ask them; of the code: MIT', 'manual: SHA-256 as at its first use'
    ]
    file.write_bytes(file.read_bytes() + b'x')
    with pytest.raises(UserError, match=r'another file than at its first use.*fetch --again manual'):
        locate('manual')
    locate('manual', again=True)
    locate('manual')


# --- what is said


def test_the_licence_is_said_once(table, messages):
    for _ in range(2):
        locate('net')
    assert messages.count('licence of net: ask them; of the code: MIT') == 1


def test_non_commercial_weights_say_so_each_time(table, messages):
    table(licence={'code': 'X', 'weights': 'Academic', 'non_commercial': True})
    for _ in range(2):
        locate('net')
    assert messages.count('net is for non-commercial use only: Academic') == 2


def test_list_shows_what_is_claimed_and_what_is_here(table, capsys):
    shown = []
    for _ in range(2):
        assert basicsr(['list', 'weights']) == 0
        shown.append(capsys.readouterr().out.partition('weights of others:\n')[2].splitlines())
        locate('net')
    size = f"{(pretrained.folder().parent / 'net.pth').stat().st_size:,d}"
    address = read_published(pretrained.folder())['net'].address
    arguments = '    ' + ', '.join(f'{k}: {json.dumps(v)}' for k, v in ROW['arguments'].items())
    about = [arguments, '    trained on toys; licence: ask them; of the code: MIT']
    assert shown[0] == [
        f'  net     NAFNetLocal, {size} bytes, fetched on first use',
        f'    {address}; SHA-256 not known before the first use', *about,
        '    claimed by its authors (luma): toy 20.5 psnr, 0.8 ssim; game 21 psnr', '    not measured by us',
        '  manual  NAFNetLocal, to be got by hand',
        "    'theirs.pth' in their drive; SHA-256 not known before the first use", *about,
        '    claimed by its authors (luma): toy 20.5 psnr, 0.8 ssim; game 21 psnr', '    not measured by us',
        '    a note'
    ]
    assert shown[1][0] == f'  net     NAFNetLocal, {size} bytes, here' and shown[1][1:] == shown[0][1:]

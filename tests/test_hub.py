"""Model repositories by huggingface_hub from a server on this machine, and folders as `PyTorchModelHubMixin` lays them out."""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys

import huggingface_hub
import pytest
import torch
from conftest import ROOT, run_python
from huggingface_hub import PyTorchModelHubMixin
from safetensors.torch import save_file
from torch import nn
from weight_server import COMMIT, running

from basicsr.archs import build_network
from basicsr.archs.cidnet_arch import CIDNet
from basicsr.archs.nafnet_arch import NAFNetLocal
from basicsr.cli import main as basicsr
from basicsr.commands.enhance import main as enhance
from basicsr.registry import ARCH_REGISTRY
from basicsr.utils.errors import UserError
from basicsr.utils.pretrained import locate
from basicsr.utils.weights import load_weights, save_weights
from basicsr.weights.hub_folder import save_pretrained
from basicsr.weights.network import load_described

ARGUMENTS = {'channels': [4, 4, 8, 8], 'heads': [1, 1, 2, 2], 'norm': True}
LOCAL = {'width': 4, 'enc_blk_nums': [1], 'dec_blk_nums': [1], 'train_size': [1, 3, 32, 32]}


class HubCIDNet(CIDNet, PyTorchModelHubMixin):
    """As its authors publish it."""

    def __init__(self, channels=(36, 36, 72, 144), heads=(1, 2, 4, 8), norm=False):
        super().__init__(channels, heads, norm)


class HubLocal(NAFNetLocal, PyTorchModelHubMixin):
    """A network whose weights are those of another one."""


@pytest.fixture
def theirs(tmp_path):
    """A folder that the mixin has written."""
    torch.manual_seed(0)
    HubCIDNet(**ARGUMENTS).save_pretrained(tmp_path / 'theirs')
    return tmp_path / 'theirs'


@pytest.fixture
def hub(tmp_path, theirs, monkeypatch):
    """A hub with that folder as its repository `owner/net`, and the client with an empty cache."""
    with running() as server:
        server.add_repository('owner/net', {file.name: file.read_bytes() for file in theirs.iterdir()})
        constants = {  # read from the environment when the client is imported
            'ENDPOINT': server.url,
            'HUGGINGFACE_CO_URL_TEMPLATE': server.url + '/{repo_id}/resolve/{revision}/{filename}',
            'HF_HUB_CACHE': str(tmp_path / 'hub'), 'HF_HUB_OFFLINE': False
        }
        for name, value in constants.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
            if hasattr(huggingface_hub.file_download, name):  # a copy, in older versions
                monkeypatch.setattr(huggingface_hub.file_download, name, value)
        monkeypatch.setenv('BASICSR_WEIGHTS', str(tmp_path / 'cache'))
        monkeypatch.setenv('no_proxy', '127.0.0.1,localhost')
        yield server


def refusal(address: str, **settings) -> str:
    with pytest.raises(UserError) as caught:
        locate(address, **settings)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def same(net, folder) -> bool:
    state = load_weights(folder / 'model.safetensors').state
    return all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


# --- repositories


@pytest.mark.parametrize('address', [
    'hf:owner/net', 'hf:owner/net@main', 'hf:owner/net@v1', f'hf:owner/net@{COMMIT}', 'hf:owner/net:model.safetensors',
    'hf:owner/net@v1:model.safetensors'
])
def test_a_repository_loads_by_its_own_config(hub, theirs, address):
    net, options = load_described(address)
    assert options.items() >= {'type': 'CIDNet', **ARGUMENTS}.items() and same(net, theirs)
    assert locate(address).title == 'net'


def test_what_was_fetched_is_used_without_asking_again(hub, tmp_path, messages):
    first = locate('hf:owner/net')
    digest = hashlib.sha256(first.path.read_bytes()).hexdigest()
    assert first.path.is_relative_to(tmp_path / 'hub') and first.path.with_name('config.json').is_file()
    assert any(f'SHA-256 {digest} (not known before' in text for text in messages)
    assert 'licence of hf:owner/net: mit' in messages
    del hub.asked[:], messages[:]
    assert locate('hf:owner/net').path == first.path and hub.asked == []
    assert messages == ['hf:owner/net: SHA-256 as at its first fetch']  # the licence is said once


def test_a_branch_stays_where_it_was_at_the_first_fetch(hub, tmp_path, theirs):
    before = locate('hf:owner/net').path
    hub.commit = 'beef' * 10
    hub.add_repository('owner/net', {'model.safetensors': b'another'})
    assert locate('hf:owner/net').path == before
    shutil.rmtree(tmp_path / 'hub')
    hub.commit = COMMIT  # the server knows both, and is asked for the one of the first fetch
    assert locate('hf:owner/net').path == before
    hub.commit = 'beef' * 10
    assert locate('hf:owner/net', again=True).path.read_bytes() == b'another'
    assert locate('hf:owner/net').path.read_bytes() == b'another'


def test_a_file_that_was_changed_in_the_cache_is_refused(hub):
    file = locate('hf:owner/net').path
    file.resolve().write_bytes(b'damaged')
    assert f"'{file}' is no longer what was fetched" in refusal('hf:owner/net')
    assert locate('hf:owner/net', again=True).path.read_bytes() != b'damaged'


def test_the_only_weights_of_a_repository_need_no_name(hub, tmp_path):
    save_weights(tmp_path / 'w.pt', {'params': build_network({'type': 'DarkIR', 'width': 4}).state_dict()})
    hub.add_repository('owner/one', {'DarkIR_384.pt': (tmp_path / 'w.pt').read_bytes(), 'README.md': b'text'})
    assert load_described('hf:owner/one')[1]['type'] == 'DarkIR'
    assert locate('hf:owner/one:DarkIR_384.pt').title == 'one_DarkIR_384'


def test_files_in_folders_of_a_repository_take_the_config_beside_them(hub, theirs):
    hub.add_repository('owner/many', {f'small/{file.name}': file.read_bytes() for file in theirs.iterdir()})
    net, options = load_described('hf:owner/many:small/model.safetensors')
    assert options['channels'] == ARGUMENTS['channels'] and same(net, theirs)


def test_redirects_of_the_hub_to_its_storage(hub):
    path = f'/owner/net/resolve/{COMMIT}/model.safetensors'
    content = hub.files['/storage/1'] = hub.files[path]
    hub.answers[path] = (302, {
        'Location': f"{hub.url.replace('127.0.0.1', 'localhost')}/storage/1", 'X-Repo-Commit': COMMIT,
        'X-Linked-Etag': f'"{hashlib.sha256(content).hexdigest()}"', 'X-Linked-Size': str(len(content))
    })
    assert locate('hf:owner/net').path.read_bytes() == content and hub.bodies('/storage/1')


@pytest.mark.parametrize('status', [401, 403])
def test_a_gated_repository_names_what_to_do(hub, status):
    path = f'/owner/net/resolve/{COMMIT}/model.safetensors'
    hub.answers[path] = (status,
                         {'X-Error-Code': 'GatedRepo', 'X-Error-Message': 'Access to model owner/net is restricted.'})
    text = refusal('hf:owner/net')
    assert f'agree at {hub.url}/owner/net, and log in with `hf auth login`, or set HF_TOKEN' in text


@pytest.mark.parametrize('address, message', [
    ('hf:owner/nothing', '{url}/owner/nothing, or it is private; then log in'),
    ('hf:owner/net@v9', "has no revision 'v9'"),
    ('hf:owner/net:model.safetensor', "has no file 'model.safetensor'. Did you mean 'model.safetensors'? It has:"),
    ('hf:owner/two', 'has several weights, a.pth, b.ckpt; choose one: hf:owner/two:FILE'),
    ('hf:owner/text', 'the repository has no weights (.safetensors, .pth, .pt, .ckpt, .bin); it has: README.md'),
    ('hf:owner/-.', 'cannot be fetched'),
])
def test_what_is_not_there_is_told(hub, address, message):
    hub.add_repository('owner/two', {'a.pth': b'', 'b.ckpt': b''})
    hub.add_repository('owner/text', {'README.md': b''})
    assert message.format(url=hub.url) in refusal(address)


def test_a_hub_that_cannot_be_reached_is_told(hub, monkeypatch):
    with running() as gone:
        monkeypatch.setattr(huggingface_hub.constants, 'ENDPOINT', gone.url)
    assert f"'hf:owner/net' cannot be fetched from {gone.url}" in refusal('hf:owner/net')


def test_offline_what_was_fetched_is_used(hub, monkeypatch):

    def offline(value):
        monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', value)
        getattr(huggingface_hub.utils, 'reset_sessions', lambda: None)()  # older ones look once per session

    offline(True)
    assert 'has not been fetched, and HF_HUB_OFFLINE forbids to fetch anything' in refusal('hf:owner/net')
    offline(False)
    file = locate('hf:owner/net').path
    offline(True)
    assert locate('hf:owner/net').path == file


def test_without_the_client_one_is_told_what_to_install(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    assert "need huggingface_hub: pip install 'retinexmamba[hub]'" in refusal('hf:owner/net')


def test_variables_of_the_hub_are_honoured(hub, tmp_path):
    """In a process of its own, as the client reads them once."""
    environment = {
        **os.environ, 'PYTHONPATH': str(ROOT), 'HF_ENDPOINT': hub.url, 'HF_HOME': str(tmp_path / 'home'),
        'HF_HUB_OFFLINE': '0'
    }
    environment.pop('HF_HUB_CACHE', None)
    done = run_python('-m', 'basicsr', 'fetch', 'hf:owner/net', 'hf:owner/nothing', cwd=tmp_path, env=environment)
    assert done.returncode == 2 and f'{hub.url}/owner/nothing' in done.stderr
    file = done.stdout.strip().removeprefix('hf:owner/net: ')
    assert file.startswith(str(tmp_path / 'home' / 'hub')) and file.endswith('model.safetensors')
    again = run_python('-m', 'basicsr', 'fetch', 'hf:owner/net', cwd=tmp_path,
                       env=environment | {'HF_HUB_OFFLINE': '1'})
    assert again.returncode == 0 and again.stdout == done.stdout, again.stderr


# --- folders


def test_a_folder_of_the_mixin_is_a_weight_file(theirs, pairs, tmp_path):
    photo = str(pairs / 'input' / '1.png')
    for name in ('theirs', 'theirs/model.safetensors'):
        assert enhance([photo, '-o', str(tmp_path / 'a.png'), '--weights', str(tmp_path / name), '--overwrite']) == 0
    net, options = load_described(theirs)
    assert options.items() >= {'type': 'CIDNet', **ARGUMENTS}.items() and same(net, theirs)


def test_the_config_tells_what_weights_do_not(tmp_path):
    HubLocal(**LOCAL).save_pretrained(tmp_path / 'local')
    net, options = load_described(tmp_path / 'local')
    assert isinstance(net, NAFNetLocal) and options['train_size'] == LOCAL['train_size']


def test_every_default_is_written_as_the_class_has_it(tmp_path, monkeypatch):
    """Also of a network whose source shows none of them as a literal."""
    options = {'type': 'MambaIR', 'embed_dim': 30, 'd_state': 1}
    save_pretrained(tmp_path / 'ours', build_network(options), options)
    written = json.loads((tmp_path / 'ours' / 'config.json').read_text())
    assert written['depths'] == [6] * 6 and None not in written.values()
    assert same(load_described(tmp_path / 'ours')[0], tmp_path / 'ours')

    class Activated(nn.Conv2d):

        def __init__(self, width: int = 2, act=nn.GELU, depths=tuple(range(3)), scale=None):
            super().__init__(width, width, 1)

    monkeypatch.setitem(ARCH_REGISTRY._objects, 'Activated', Activated)
    save_pretrained(tmp_path / 'act', Activated(), {'type': 'Activated'})
    assert json.loads(
        (tmp_path / 'act' / 'config.json').read_text()) == {'width': 2, 'depths': [0, 1, 2], 'scale': None}


@pytest.mark.parametrize('config, message', [
    ('{', 'is no JSON'),
    ('[1]', 'must hold the arguments of a network by name, not a list'),
    ('{"channels": [4, 4, 8, 8], "chanels": 3}', 'has arguments that CIDNet does not take: chanels'),
    ('{"channels": [4, 4, 8, 16]}', 'keys of another shape'),
    ('{"norm": false}', 'keys unknown to the network'),
    ('{"channels": 3}', "config.json': network 'CIDNet' cannot be built: channels: must be a list, not 3$"),
    ('{"gain": -3}', "config.json': network 'CIDNet' cannot be built: gain: must be greater than 0, not -3$"),
    ('{"heads": [1, 1]}', "config.json': network 'CIDNet' cannot be built: heads: needs at least 4 values, not 2$"),
    ('{"norm": "maybe"}', "config.json': network 'CIDNet' cannot be built: norm: must be true or false, not 'maybe'$"),
])
def test_a_config_is_taken_at_its_word(theirs, config, message):
    (theirs / 'config.json').write_text(config)
    with pytest.raises(UserError, match=message):
        load_described(theirs)


def test_weights_of_no_network_here_are_told(tmp_path):
    save_file({'a.weight': torch.ones(3)}, tmp_path / 'model.safetensors')
    (tmp_path / 'config.json').write_text('{}')
    with pytest.raises(UserError, match='belongs to no network that is known here'):
        load_described(tmp_path)


def test_what_we_write_the_mixin_reads(tmp_path):
    torch.manual_seed(1)
    network = {'type': 'NAFNetLocal', **LOCAL}
    net = build_network(network).eval()
    save_pretrained(tmp_path / 'ours', net, network)
    x = torch.rand(1, 3, 40, 48)
    with torch.no_grad():
        torch.testing.assert_close(HubLocal.from_pretrained(tmp_path / 'ours')(x), net(x), rtol=0, atol=0)
        torch.testing.assert_close(load_described(tmp_path / 'ours')[0].eval()(x), net(x), rtol=0, atol=0)
    assert json.loads((tmp_path / 'ours' / 'config.json').read_text()).items() >= LOCAL.items()


def test_publish_writes_a_card_with_data_figures_protocol_and_licence(tmp_path, pairs, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    network = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}
    save_weights(tmp_path / 'w.pth', {'params': build_network(network).state_dict(), 'network_g': network})
    words = ['publish', 'out', '--weights', 'w.pth', '--data', 'four pairs', '--licence']
    assert basicsr([*words, 'MIT']) == 0
    card = (tmp_path / 'out' / 'README.md').read_text()
    assert card.startswith('---\nlicense: mit\n') and '- Trained on: four pairs.' in card and 'Not measured.' in card
    evaluated = [
        'evaluate', '--weights', 'out', '--degraded_dir',
        str(pairs / 'input'), '--clean_dir',
        str(pairs / 'target')
    ]
    assert basicsr([*evaluated, '--output_dir', 'o', '--no_images', '--metrics', 'psnr', '--GT_mean']) == 0
    again = [*words, 'ask the authors of the pairs', '--figures', 'o/metrics.json']
    assert basicsr(again) == 2 and 'or give --overwrite' in capsys.readouterr().err
    assert (tmp_path / 'out' / 'README.md').read_text() == card
    assert basicsr([*again, '--overwrite']) == 0
    card = (tmp_path / 'out' / 'README.md').read_text()
    value = json.loads((tmp_path / 'o' / 'metrics.json').read_text())['psnr']
    assert 'license: other' in card and '- Licence: ask the authors of the pairs.' in card and f'| {value:.4f} |' in card
    assert '4 images; results scaled to the mean of the ground truth; psnr: protocol' in card


def test_publish_knows_what_comes_with_the_project(tmp_path):
    assert basicsr(['publish', str(tmp_path / 'out'), '--weights', 'retinexmamba_tiny']) == 0
    card = (tmp_path / 'out' / 'README.md').read_text()
    assert '# retinexmamba_tiny' in card and 'LOL-v1, 461 of its 485 training pairs' in card
    assert '| LOL_v1 | 20.4814 | 0.7622 |' in card and 'protocol retinexformer' in card
    assert same(load_described(tmp_path / 'out')[0], tmp_path / 'out')


@pytest.mark.parametrize('words, message', [
    (['--weights', 'cidnet_sice'], "'cidnet_sice' are weights of others"),
    (['--weights', 'hf:a/b'], 'are weights of others'),
    (['--weights', 'w.pth', '--data', 'x'], 'give --data and --licence'),
    (['--weights', 'w.pth', '--data', 'x', '--licence', 'MIT', '--figures', 'w.json'], "'w.json' is no metrics.json"),
    (['--weights', 'out', '--data', 'x', '--licence', 'MIT'], 'is to be read and would be written over'),
])
def test_publish_refuses(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    network = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}
    save_pretrained('out', build_network(network), network)
    shutil.copy('out/model.safetensors', 'w.pth')
    (tmp_path / 'w.json').write_text('{"psnr": 3}')
    assert basicsr(['publish', 'out', *words]) == 2
    assert message in capsys.readouterr().err

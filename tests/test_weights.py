"""Weight files in every form that circulates, and those that must be refused."""
from __future__ import annotations

import re
from fractions import Fraction
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np
import pytest
import torch

from basicsr.archs import build_network
from basicsr.utils.errors import UserError
from basicsr.utils.restricted_unpickling import read_file
from basicsr.utils.weights import load_weights, save_safetensors, save_weights
from basicsr.weights import fitting
from basicsr.weights.detection import detect
from basicsr.weights.fitting import load_into
from basicsr.weights.network import load_network

SMALL = {'type': 'RetinexMamba', 'n_feat': 8, 'stage': 2, 'num_blocks': [1, 2, 1], 'd_state': 4}


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    return build_network(SMALL)


def same(a: dict, b: dict) -> bool:
    return list(a) == list(b) and all(torch.equal(v, b[k]) for k, v in a.items())


@pytest.mark.parametrize(
    'wrap', [
        lambda s: s,
        lambda s: {'params': s},
        lambda s: {'params_ema': s},
        lambda s: {'state_dict': s, 'epoch': 3},
        lambda s: {
            'epoch': 3, 'model_state_dict': s, 'optimizer_state_dict': {'state': {}, 'param_groups': []},
            'scaler_state_dict': {'scale': 2.}, 'val_psnr': 20.
        },
        lambda s: {'params': {f'module.{k}': v for k, v in s.items()}},
        lambda s: {f'module.{k}': v for k, v in s.items()},
        lambda s: {'params': {f'_orig_mod.{k}': v for k, v in s.items()}},
        lambda s: {'params': {k.replace('.Restorer.', '.denoiser.'): v for k, v in s.items()}},
    ], ids=[
        'bare', 'params', 'params_ema', 'state_dict', 'model_state_dict', 'params+module', 'bare+module', 'compiled',
        'denoiser'
    ])
@pytest.mark.parametrize('old_format', [False, True])
def test_every_form_loads(net, tmp_path, wrap, old_format):
    file = tmp_path / 'w.pth'
    torch.save(wrap(net.state_dict()), file, _use_new_zipfile_serialization=not old_format)
    loaded = load_weights(file)
    assert detect(loaded.state) == SMALL
    other = build_network(SMALL)
    load_into(other, loaded.state, str(file))
    assert same(other.state_dict(), net.state_dict())


def test_safetensors_says_what_it_is(net, tmp_path):
    save_safetensors(tmp_path / 'w.safetensors', net.state_dict(), SMALL, iterations=100)
    loaded = load_weights(tmp_path / 'w.safetensors')
    assert loaded.network == SMALL and loaded.meta == {'iterations': 100}
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in loaded.state.items())


@pytest.mark.parametrize('name', ['w', 'w.pth', 'w.bin'])
def test_safetensors_are_known_by_what_is_in_them(net, tmp_path, name):
    save_safetensors(tmp_path / name, net.state_dict(), SMALL)
    loaded = load_weights(tmp_path / name)
    assert loaded.network == SMALL and loaded.choice == 'safetensors'
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:9])
    with pytest.raises(UserError, match='is not a weights file'):
        load_weights(tmp_path / name)


@pytest.mark.parametrize('name', ['w.pth', 'w.safetensors'])
def test_arguments_that_a_file_says_are_checked_as_those_of_options_are(tmp_path, name):
    network = {'type': 'MoCEIR', 'dim': 8, 'num_blocks': [1] * 4, 'num_dec_blocks': [1] * 3}
    state, wrong = build_network(network).state_dict(), network | {'LayerNorm_type': 'foo', 'topk': 0}
    if name == 'w.pth':
        save_weights(tmp_path / name, {'params': state, 'network_g': wrong})
    else:
        save_safetensors(tmp_path / name, state, wrong)
    with pytest.raises(UserError) as caught:
        load_network(tmp_path / name)
    assert str(
        caught.value) == (f"network_g in '{tmp_path / name}': network 'MoCEIR' cannot be built: LayerNorm_type: 'foo'"
                          " is not allowed; one of: WithBias or BiasFree; topk: must be greater than 0, not 0")
    save_weights(tmp_path / 'odd.pth',
                 {'params': state, 'network_g': {'dim': 8}})  # of no type: as if it were not there
    assert load_weights(tmp_path / 'odd.pth').network is None and load_network(tmp_path / 'odd.pth')


def test_choice_of_the_entry(net, tmp_path):
    state, shifted = net.state_dict(), {k: v + 1 for k, v in net.state_dict().items()}
    save_weights(tmp_path / 'w.pth', {'params': state, 'params_ema': shifted, 'network_g': SMALL})
    assert same(load_weights(tmp_path / 'w.pth', 'params').state, state)
    assert same(load_weights(tmp_path / 'w.pth', 'params_ema').state, shifted)
    assert same(load_weights(tmp_path / 'w.pth').state, shifted)
    assert load_weights(tmp_path / 'w.pth').network == SMALL
    save_weights(tmp_path / 'w.pth', {'params': state})
    fallback = load_weights(tmp_path / 'w.pth', preferred='params_ema')
    assert same(fallback.state, state) and fallback.choice == 'params (there is no params_ema)'
    with pytest.raises(UserError, match=r"no entry 'params_ema'.*It has: params"):  # asked for, not preferred
        load_weights(tmp_path / 'w.pth', 'params_ema')


def test_an_entry_that_only_this_file_could_have_has_to_be_there(net, tmp_path):
    content = {'params': net.state_dict(), 'params_ema': net.state_dict()}
    save_weights(tmp_path / 'two.pth', content)
    save_weights(tmp_path / 'one.pth', {'params': net.state_dict()})
    save_weights(tmp_path / 'bare.pth', net.state_dict())
    save_safetensors(tmp_path / 'w.safetensors', net.state_dict(), SMALL)
    for name, says in (('two.pth', "Did you mean 'params_ema'"), ('one.pth', 'It has: params'),
                       ('bare.pth', 'without entries'), ('w.safetensors', 'a file of safetensors has none')):
        for asked in ({'key': 'param_ema'}, {'preferred': 'param_ema'}):
            with pytest.raises(UserError, match=f"no entry 'param_ema'.*{says}"):
                load_weights(tmp_path / name, **asked)
        found = load_weights(tmp_path / name, preferred='params_ema').state
        assert found.keys() == net.state_dict().keys()


def test_missing_entry_names_what_there_is(net, tmp_path):
    save_weights(tmp_path / 'w.pth', {'generator': net.state_dict(), 'critic': net.state_dict(), 'note': 'x'})
    with pytest.raises(UserError, match=r"no entry 'params'.*It has: generator, critic; choose"):
        load_weights(tmp_path / 'w.pth')
    assert same(load_weights(tmp_path / 'w.pth', 'generator').state, net.state_dict())


class Payload:
    """What a malicious file would hold: unpickling it runs code."""

    def __reduce__(self):
        return open, ('/tmp/never_written_by_loading_weights', 'w')


def test_code_is_never_unpickled(tmp_path):
    torch.save({'params': Payload()}, tmp_path / 'evil.pth')
    with pytest.raises(UserError, match='holds more than weights'):
        load_weights(tmp_path / 'evil.pth')


def test_numpy_scalars_of_old_states_load(tmp_path):
    """The Retinexformer family keeps `best_metric` as a NumPy scalar, which weights_only alone refuses."""
    torch.save({'epoch': 1, 'iter': 2, 'best_metric': {'psnr': np.float64(21.5)}}, tmp_path / '2.state')
    assert read_file(tmp_path / '2.state')['best_metric']['psnr'] == 21.5


@pytest.mark.parametrize('core', [b'core', b'_core'])
def test_files_written_under_any_numpy_load(tmp_path, core):
    content = {'best': np.float64(21.5), 'losses': np.arange(3.)}
    torch.save(content, tmp_path / 'this.state', _use_new_zipfile_serialization=False)
    data = (tmp_path / 'this.state').read_bytes()
    other, count = re.subn(rb'cnumpy\._?core\.multiarray', b'cnumpy.%s.multiarray' % core, data)
    assert count == 2
    (tmp_path / 'other.state').write_bytes(other)
    found = read_file(tmp_path / 'other.state')
    assert found['best'] == 21.5 and found['losses'].tolist() == [0, 1, 2]


@pytest.mark.parametrize('module', [b'pathlib', b'pathlib._local'])
@pytest.mark.parametrize('path, names', [(PurePosixPath('/data/x'), (b'PosixPath', b'PurePosixPath')),
                                         (PureWindowsPath('D:/data'), (b'WindowsPath', b'PureWindowsPath'))])
def test_paths_of_any_system_and_python_are_read_as_text(tmp_path, path, names, module):
    torch.save({'state_dict': {'net.a': torch.ones(2)}, 'hyper_parameters': {'root': path, 'lr': 1.}},
               tmp_path / 'x.ckpt', _use_new_zipfile_serialization=False)
    data, written = (tmp_path / 'x.ckpt').read_bytes(), b'c%s\n%s\n' % (type(path).__module__.encode(), names[1])
    assert written in data
    for name in names:
        (tmp_path / 'y.ckpt').write_bytes(data.replace(written, b'c%s\n%s\n' % (module, name)))
        assert load_weights(tmp_path / 'y.ckpt').claims == {'root': str(path), 'lr': 1.}


def test_the_message_on_code_names_the_class_and_nothing_of_torch(tmp_path):
    torch.save({'params': {'a': torch.ones(2)}, 'note': Fraction(1, 3)}, tmp_path / 'x.pth')
    with pytest.raises(UserError, match=r'\(it asks for fractions\.Fraction, which could run code\)$'):
        load_weights(tmp_path / 'x.pth')


@pytest.mark.parametrize('content', [b'', b'hello', b'PK\x03\x04broken', b'\x80\x02broken'])
def test_damaged_files_are_refused_in_one_sentence(tmp_path, content):
    (tmp_path / 'w.pth').write_bytes(content)
    (tmp_path / 'w.safetensors').write_bytes(content)
    for name in ('w.pth', 'w.safetensors'):
        with pytest.raises(UserError, match=name) as caught:
            load_weights(tmp_path / name)
        assert '\n' not in str(caught.value)


def test_truncated_checkpoint(net, tmp_path):
    save_weights(tmp_path / 'w.pth', {'params': net.state_dict()})
    data = (tmp_path / 'w.pth').read_bytes()
    (tmp_path / 'w.pth').write_bytes(data[:len(data) // 2])
    with pytest.raises(UserError, match='damaged'):
        load_weights(tmp_path / 'w.pth')


def test_misfit_lists_keys_shapes_and_the_network_it_looks_like(net):
    wider = build_network(SMALL | {'n_feat': 12})
    state = dict(net.state_dict())
    del state['body.0.Restorer.mapping.weight']
    state['surplus'] = torch.zeros(1)
    with pytest.raises(UserError) as caught:
        load_into(wider, state, 'w.pth')
    text = str(caught.value)
    assert '1 keys missing in the file: body.0.Restorer.mapping.weight' in text
    assert '1 keys unknown to the network: surplus' in text
    assert 'body.0.estimator.conv1.weight: 8x4x1x1 in the file, 12x4x1x1 in the network' in text
    assert 'look like RetinexMamba (n_feat: 8, stage: 2, num_blocks: [1, 2, 1], d_state: 4)' in text


LIGHT = {'type': 'MambaIR', 'embed_dim': 60, 'depths': [6] * 4, 'd_state': 10, 'upsampler': 'pixelshuffledirect'}


def refusal(mine: dict, theirs: dict, change=dict) -> str:
    with torch.device('meta'):
        net, state = build_network(mine), change(build_network(theirs).state_dict())
    with pytest.raises(UserError) as caught, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, '_say_not_finite', lambda *_: None)  # there are no values
        load_into(net, state, 'w.pth')
    return str(caught.value)


def test_a_hint_names_a_file_whose_network_has_these_weights():
    text = refusal(LIGHT | {'upscale': 3}, LIGHT | {'upscale': 4})
    assert text.endswith('with other arguments than here (upscale: 4, here 3), as in Options/MambaIR_light_x4.yml.')
    text = refusal(LIGHT | {'upscale': 3}, LIGHT | {'upscale': 4, 'd_state': 3})  # of which there is no file
    assert text.endswith('with other arguments than here (d_state: 3, here 10; upscale: 4, here 3).')


def test_a_revision_that_is_not_known_is_not_taken_for_the_network():
    dark = {'type': 'DarkIR', 'width': 4}
    text = refusal(dark, dark, lambda state: state | {'adapter.weight': torch.zeros(3, device='meta')})
    assert text.endswith('dec_blk_nums: [3, 1, 1], extra_depth_wise: True), in a revision that is not known here.')
    old = refusal(LIGHT | {'upscale': 2}, LIGHT | {'upscale': 2},
                  lambda state: {k: v for k, v in state.items() if '.cab.3' not in k})
    assert 'missing in the file' in old and old.endswith(', in a revision that is not known here.')


def test_not_strict_keeps_what_fits(net):
    deeper = build_network(SMALL | {'stage': 3})
    before = deeper.state_dict()['body.2.Restorer.mapping.weight'].clone()
    load_into(deeper, net.state_dict(), 'w.pth', strict=False)
    assert torch.equal(deeper.state_dict()['body.1.Restorer.mapping.weight'],
                       net.state_dict()['body.1.Restorer.mapping.weight'])
    assert torch.equal(deeper.state_dict()['body.2.Restorer.mapping.weight'], before)


def outcome(file, content) -> dict | None:
    """What a file with this content holds; None where it is refused in words."""
    file.write_bytes(content)
    try:
        return read_file(file)
    except UserError as error:
        assert 'damaged' in str(error) or 'is not a weights file' in str(error) or 'could run code' in str(error)
        return None


def test_no_flipped_bit_of_an_archive_s_directory_gives_other_weights(tmp_path):
    """What PyTorch reads of a record that is said to be a folder is what the memory held before."""
    whole = {'w': torch.randn(2, 8), 'b': torch.randn(3)}
    save_weights(tmp_path / 'whole.pth', whole)
    data = (tmp_path / 'whole.pth').read_bytes()
    refused = 0
    for at in range(data.find(b'PK\x01\x02'), len(data)):
        for bit in (0, 4):
            found = outcome(tmp_path / 'flipped.pth', data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1:])
            refused += found is None
            assert found is None or all(torch.equal(found[k], v) for k, v in whole.items())
    assert refused > 300


@pytest.mark.filterwarnings('ignore:TypedStorage')
def test_damage_of_files_without_checksums_is_told_where_it_shows(tmp_path):
    torch.save({'w': torch.randn(2, 8)}, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    data = (tmp_path / 'old.pth').read_bytes()
    assert all(outcome(tmp_path / 'cut.pth', data[:length]) is None for length in range(2, len(data)))
    found = [
        outcome(tmp_path / 'flipped.pth', data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]) for at in range(len(data))
    ]
    assert found.count(None) > len(data) // 4

"""What networks say of themselves is true, and is all that the toolbox asks: padding, channels, tiles, recognition."""
from __future__ import annotations

import inspect
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from test_networks import TINY
from torch import nn

from basicsr.archs import build_network, describe, input_channels
from basicsr.archs.description import Description
from basicsr.archs.layers.whole_image import Crop, Place, sampling, sharing
from basicsr.commands.enhance import main as enhance
from basicsr.config import load_options
from basicsr.inference.restorer import ImageRestorer
from basicsr.registry import ARCH_REGISTRY
from basicsr.utils.errors import UserError
from basicsr.utils.img import imwrite, pad_to_multiple
from basicsr.weights.network import load_described

SMALL = TINY | {
    'NAFNetLocal': TINY['NAFNetLocal'] | {'train_size': [1, 3, 48, 48]},  # whose windows are wider than tiles
    'RetinexMamba': {'n_feat': 4, 'num_blocks': [1, 1, 1], 'd_state': 2},
    'MSRResNet': {'num_feat': 4, 'num_block': 2, 'upscale': 2},
    'RRDBNet': {'num_feat': 4, 'num_block': 1, 'num_grow_ch': 2, 'scale': 2},
}
OURS = [name for name, entry in ARCH_REGISTRY.index().items() if entry.file.is_relative_to(ROOT / 'basicsr')]
OWN = [name for name in OURS if name not in ('VGGStyleDiscriminator', 'UNetDiscriminatorSN')]  # they restore nothing
every = pytest.mark.parametrize('name', OWN)


def small(name: str, **more) -> nn.Module:
    """Seeded, and no part of it does nothing."""
    torch.manual_seed(0)
    net = build_network({'type': name, **SMALL[name], **more}).eval()
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return net


# ------------------------------------------------------------------------------------------------ what ours say


@every
def test_every_network_describes_itself_in_full(name):
    description = describe(name)
    assert description is ARCH_REGISTRY.get(name).description is describe(ARCH_REGISTRY.get(name))
    told_apart = not any(name in describe(other).variants for other in OWN)
    assert description.tiling is not None and (description.recognise is not None) == told_apart
    assert description.channels in {3, *inspect.signature(ARCH_REGISTRY.get(name)).parameters}
    assert input_channels({'type': name}) == 3


@every
@torch.no_grad()
def test_padding_outside_is_the_padding_inside(name):
    net, x = small(name), torch.rand(1, 3, 33, 41)
    padded = pad_to_multiple(x, describe(net).multiple, describe(net).padding)
    plain, out = net(x), net(padded)
    torch.testing.assert_close(out[..., :plain.shape[-2], :plain.shape[-1]], plain, rtol=0, atol=0)


@every
@torch.no_grad()
def test_tiles_do_what_is_said(name):
    """The middle of an image, from a tile that has all pixels within reach of a local network, and all sums of the image."""
    sides = (256, 272) if describe(name).shares else (96, 112)  # the deepest levels see far
    sides = (48, 64) if name == 'IllRecNet' else sides  # which compares all pixels with all, and whose do not
    net, x = small(name).double(), torch.rand(1, 3, *sides, dtype=torch.float64)
    rows, columns = map(slice, (0, 0), sides)
    with sampling([Crop(rows, columns, 1., Place(rows, columns, *sides))]) as found:
        whole = net(x)
    torch.testing.assert_close(whole, net(x), rtol=0, atol=1e-9)
    assert bool(found) == describe(name).shares
    place = Place(slice(8, sides[0] - 8), slice(8, sides[1] - 8), *sides)
    with sharing(found, place):
        tile = net(x[..., place.rows, place.columns])
    scale = whole.shape[-1] // x.shape[-1]
    middle = tuple(slice((side // 2 - 4) * scale, (side // 2 + 4) * scale) for side in sides)
    inner = tuple(slice(s.start - 8 * scale, s.stop - 8 * scale) for s in middle)
    difference = (whole[(..., *middle)] - tile[(..., *inner)]).abs().max().item()
    assert (difference < 1e-9) == (describe(name).tiling == ''), difference


def test_arguments_that_change_the_multiple_change_the_networks_own_description():
    net = small('IllRecNet', num_resolution=1)
    assert describe(net).multiple == 2 and describe('IllRecNet').multiple == 16
    assert ImageRestorer(net).multiple == 2 and ImageRestorer(net, multiple=1).multiple == 1


def test_channels_are_those_of_the_options():
    assert input_channels({'type': 'Restormer', 'inp_channels': 6}) == 6
    assert input_channels({'type': 'MSRResNet', 'num_in_ch': 1}) == 1


@pytest.mark.parametrize('name', [n for n, e in ARCH_REGISTRY.index().items() if n not in OURS])
def test_variants_inherit_all_but_recognition(name):
    variant = ARCH_REGISTRY.get(name)
    assert 'description' not in vars(variant)
    assert describe(variant) == replace(describe(variant.__bases__[0]), recognise=describe(variant).recognise)


def test_the_docs_say_what_the_networks_say():
    rows = re.findall(r'^\| `(\w+)` \| (\d+) \| (.*) \|$', (ROOT / 'docs' / 'networks.md').read_text(), re.MULTILINE)
    said = {name: (int(multiple), tiling) for name, multiple, tiling in rows}
    assert said == {name: (describe(name).multiple, describe(name).tiling or 'as the whole image') for name in OWN}


# ------------------------------------------------------------------------------------------------ tiles and warnings


def warned(net: nn.Module, messages: list[str]) -> str:
    del messages[:]
    ImageRestorer(net, tile=80)
    return '\n'.join(messages)


def test_tiles_are_warned_of_in_the_networks_words(messages):
    assert describe('DarkIR').tiling in warned(small('DarkIR'), messages)
    assert 'only of images that do not fit' in warned(small('RetinexMamba'), messages)
    assert warned(small('MSRResNet'), messages) == warned(nn.Conv2d(3, 3, 1), messages) == ''
    ImageRestorer(small('DarkIR'))
    assert messages == []


@pytest.mark.parametrize('name, says', [('RetinexFormer', 'differ little'),
                                        ('RetinexMamba', 'scans run through the whole image'),
                                        ('MSRResNet', 'where tiles meet'), (None, 'may differ')])
def test_tiles_that_memory_asks_for_are_explained(name, says, messages, monkeypatch):
    restorer = ImageRestorer(nn.Conv2d(3, 3, 1) if name is None else small(name))
    call = restorer._call

    def little_memory(x, channels):
        if x[0, 0].numel() > 100**2:
            raise MemoryError
        return call(x, channels)

    monkeypatch.setattr(restorer, '_call', little_memory)
    restorer(np.zeros((120, 180, 3), np.float32))
    tried = [message for message in messages if 'trying tiles of' in message]
    assert len(tried) == 1 and 'trying tiles of 90 pixels' in tried[0] and says in tried[0]


# ------------------------------------------------------------------------------------------------ networks of others

TOY = '''
from torch import nn
from basicsr.archs.description import Description
from basicsr.utils.registry import ARCH_REGISTRY


def recognise(shapes):
    return {'bands': shapes['toy.weight'][1]} if shapes.keys() == {'toy.weight', 'toy.bias'} else None


@ARCH_REGISTRY.register()
class Toy(nn.Module):
    description = Description(multiple=6, channels='bands', recognise=recognise, untold=('gain', ),
                              tiling='it looks around')

    def __init__(self, bands: int = 3, gain: float = 1.):
        super().__init__()
        self.toy = nn.Conv2d(bands, bands, 1)
        self.gain = gain

    def forward(self, x):
        assert x.shape[-1] % 6 == x.shape[-2] % 6 == 0
        return self.gain * self.toy(x)


@ARCH_REGISTRY.register()
class ToyVariant(Toy):
    pass


@ARCH_REGISTRY.register()
class Silent(nn.Module):
    """What it is called."""
    description = 'a text of its own'

    def __init__(self, scale=1, num_in_ch=4):
        super().__init__()
'''


@pytest.fixture
def toy(tmp_path, tiny_options):
    """An option file that names the file of the toy, read; the registry forgets it afterwards."""
    (tmp_path / 'toy_arch.py').write_text(TOY)
    file = tiny_options(arch_files=[str(tmp_path / 'toy_arch.py')], network_g={'type': 'Toy', 'bands': 1})
    load_options(file, is_train=True)
    yield file
    for name in ('Toy', 'ToyVariant', 'Silent'):
        ARCH_REGISTRY._objects.pop(name, None)
    ARCH_REGISTRY._extra = [f for f in ARCH_REGISTRY._extra if f.parent != tmp_path]
    ARCH_REGISTRY._index = None


def test_a_new_network_needs_its_file_only(toy, tmp_path, messages):
    net = build_network({'type': 'Toy', 'bands': 1, 'gain': 2.})
    claims = {'gain': 2.}
    torch.save({'state_dict': {f'net.{k}': v for k, v in net.state_dict().items()}, 'hyper_parameters': claims},
               tmp_path / 'toy.ckpt')
    loaded, options = load_described(tmp_path / 'toy.ckpt')
    assert options == {'type': 'Toy', 'bands': 1, 'gain': 2.} and torch.equal(loaded.toy.weight, net.toy.weight)

    imwrite(np.full((19, 26, 3), 80, np.uint8), tmp_path / 'photo.png')
    del messages[:]
    assert enhance([
        str(tmp_path / 'photo.png'), '-o',
        str(tmp_path / 'out.png'), '--weights',
        str(tmp_path / 'toy.ckpt'), '--tile', '80'
    ]) == 0
    assert cv2.imread(str(tmp_path / 'out.png'), cv2.IMREAD_UNCHANGED).shape == (19, 26)
    assert any('it looks around' in line for line in messages)


def test_networks_that_say_nothing_are_asked_for_the_usual(toy):
    assert describe('Silent') == Description(multiple=4, channels='num_in_ch', tiling=None)
    assert input_channels({'type': 'Silent'}) == 4
    assert describe(nn.Conv2d(1, 1, 1)).channels == 'in_channels'
    assert describe(nn.ReLU).channels is None
    with pytest.raises(UserError, match="Did you mean 'Silent'"):
        describe('Silemt')

"""CIDNet: its colour space against the published one, colours at the edges of it, and the knobs of its result."""
import math

import numpy as np
import pytest
import torch
from conftest import SHARED

from basicsr.archs import build_network
from basicsr.archs.cidnet.hvi import HVI

GOLDEN = SHARED / 'golden' / 'cidnet_small.npz'
SMALL = {'type': 'CIDNet', 'channels': [8, 8, 16, 32], 'heads': [1, 2, 2, 4]}


@pytest.fixture
def arrays(golden):
    """The golden arrays, and a transform with their exponent."""
    with np.load(GOLDEN) as file:
        found = {name: torch.from_numpy(file[name]) for name in file.files if name != 'meta'}
    space = HVI()
    torch.nn.init.constant_(space.density_k, 0.1159755140542984)
    return found, space


@torch.no_grad()
def test_the_colour_space_is_the_published_one(arrays):
    found, space = arrays
    for rgb, hvi in (('input', 'hvi'), ('edge_rgb', 'edge_hvi')):
        torch.testing.assert_close(space(found[rgb]), found[hvi], atol=2e-6, rtol=1e-5)
    for hvi, rgb in (('inv_hvi', 'inv_rgb'), ('edge_hvi', 'edge_back')):
        torch.testing.assert_close(space.inverse(found[hvi]), found[rgb], atol=5e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(('name', 'saturation', 'gain'), [('inv_rgb_s13', 1.3, 1.), ('inv_rgb_knobs', 0.7, 1.2)])
def test_saturation_and_gain_are_the_published_switches(arrays, name, saturation, gain):
    found, space = arrays
    space.saturation, space.gain = saturation, gain
    torch.testing.assert_close(space.inverse(found['inv_hvi']), found[name], atol=5e-6, rtol=1e-5)


@torch.no_grad()
def test_knobs_of_the_network(golden, published):
    with np.load(GOLDEN) as file:
        wanted = {name: torch.from_numpy(file[name]) for name in ('output_s13', 'output_knobs')}
    for name, knobs in (('output_s13', {'saturation': 1.3}), ('output_knobs',
                                                              {'gamma': 0.8, 'saturation': 0.7, 'gain': 1.2})):
        case, net = published('cidnet_small', **knobs)
        assert golden.max_rel_err(net(case.input), wanted[name]) < 2e-5


@torch.no_grad()
def test_every_colour_comes_back():
    """A coarse cube of 8-bit colours, greys and black among them."""
    levels = torch.arange(0, 256, 17) / 255
    cube = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 64, 64)
    space = HVI()
    assert (space.inverse(space(cube)) - cube).abs().max() < 1.5e-4  # the published square root tints greys by 1e-4


@torch.no_grad()
def test_a_red_whose_hue_rounds_to_the_end_of_the_circle_is_not_black():
    space = HVI()
    value, up = 0.5, torch.linspace(-2e-7, 0, 4001)
    radius = (math.sin(math.pi / 4) + 1e-8)**0.2
    hvi = torch.stack([torch.full_like(up, 0.9 * radius), up, torch.full_like(up, value)])[None, :, None]
    red = space.inverse(hvi)[0, 0]
    assert (red - value).abs().max() < 1e-6


def test_gradients_reach_the_image_and_the_exponent_but_not_through_the_way_back():
    space, rgb = HVI(), torch.rand(1, 3, 4, 4, requires_grad=True)
    hvi = space(rgb)
    hvi.square().sum().backward()
    assert rgb.grad.abs().sum() > 0 and space.density_k.grad.abs() > 0
    space.density_k.grad = None
    leaf = hvi.detach().requires_grad_()
    space.inverse(leaf).sum().backward()
    assert space.density_k.grad is None and torch.isfinite(leaf.grad).all()


@torch.no_grad()
def test_values_beyond_the_range_are_clipped_and_half_precision_is_widened():
    space = HVI()
    wide = torch.tensor([-1., 3., 0.5]).view(1, 3, 1, 1)
    assert torch.equal(space(wide), space(wide.clamp(0, 1)))
    with torch.autocast('cpu', torch.bfloat16):
        assert space(wide.bfloat16()).dtype == torch.float32


def test_the_block_of_no_use_gets_no_gradient():
    net = build_network(SMALL)
    net(torch.rand(1, 3, 16, 24)).sum().backward()
    assert {name.split('.')[0] for name, p in net.named_parameters() if p.grad is None} == {'I_LCA5'}

"""PromptIR: its prompts, what changes them, what is not read."""
import pytest
import torch

from basicsr.archs import build_network

SMALL = {'type': 'PromptIR', 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1}


@torch.no_grad()
@pytest.mark.parametrize('name', ['promptir_small', 'promptir_bias'])
def test_prompts_are_the_published_ones(published, name):
    """They move the result by 1e-4 only, so they are looked at themselves: shares of the components, norms."""
    case, net = published(name)
    shares, prompts = {}, {}
    for want in case.meta['prompts']:
        block = net.get_submodule(want['name'])
        block.linear_layer.register_forward_hook(lambda m, a, y, key=want['name']: shares.update({key: y.softmax(1)}))
        block.register_forward_hook(lambda m, a, y, key=want['name']: prompts.update({key: y}))
    net(case.input)
    assert len(case.meta['prompts']) == 3
    for want in case.meta['prompts']:
        torch.testing.assert_close(shares[want['name']], torch.tensor(want['weights']), atol=2e-6, rtol=0)
        norms = prompts[want['name']].flatten(1).norm(dim=1)
        torch.testing.assert_close(norms, torch.tensor(want['norm']), rtol=2e-5, atol=0)


@torch.no_grad()
def test_a_picture_has_its_own_prompts_in_any_batch():
    net, x = build_network(SMALL).eval(), torch.rand(3, 3, 16, 24)
    torch.testing.assert_close(net(x), torch.cat([net(part) for part in x.split(1)]), atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_the_second_argument_is_not_read():
    net, x = build_network(SMALL).eval(), torch.rand(1, 3, 8, 8)
    assert torch.equal(net(x), net(x, torch.rand(1, 4)))


@torch.no_grad()
@pytest.mark.parametrize('size', [(1, 1), (9, 17)])
def test_any_size_goes_in(size):
    assert build_network(SMALL).eval()(torch.rand(1, 3, *size)).shape == (1, 3, *size)

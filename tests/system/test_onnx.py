"""Every network as ONNX for images of any size, as small as it can be built."""
from __future__ import annotations

import onnx
import pytest
import torch
from test_networks import TINY, tiny

from basicsr.archs import describe
from basicsr.commands.export import main as export
from basicsr.inference.onnx_file import run_onnx
from basicsr.inference.program import Plain, random_inputs
from basicsr.utils.weights import save_weights


@pytest.mark.parametrize('name', TINY)
def test_onnx_of_every_network_takes_any_size(name, tmp_path):
    net, options = tiny(name), {'type': name, **TINY[name]}
    save_weights(tmp_path / 'w.pth', {'params': net.state_dict(), 'network_g': options})
    assert export(['--weights', str(tmp_path / 'w.pth'), '-o', str(tmp_path / 'net.onnx')]) == 0
    model = onnx.load(tmp_path / 'net.onnx')
    assert {node.domain for node in model.graph.node} == {''} and not model.functions
    least = describe(net).multiple + 1
    for i, (height,
            width) in enumerate(torch.randint(least, 120, (4, 2), generator=torch.Generator().manual_seed(5)).tolist()):
        inputs = random_inputs(net, options, height, width, seed=i)
        torch.testing.assert_close(run_onnx(tmp_path / 'net.onnx', inputs),
                                   Plain(net)(*inputs).detach(), atol=1e-4, rtol=1e-4)

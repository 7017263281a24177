"""Networks as files for other programs: what the file answers, what it needs, and what is said when it cannot be."""
from __future__ import annotations

import importlib.util
import re
import warnings
from importlib import metadata
from pathlib import Path

import pytest
import torch
from conftest import run_python
from packaging.version import Version
from test_isalux import SMALL, arguments, network
from test_semantic_prior import segmenter_file

from basicsr.archs import build_network, describe
from basicsr.commands.export import main as export
from basicsr.inference import export as formats
from basicsr.inference.onnx_file import run_onnx
from basicsr.inference.program import Plain, random_inputs
from basicsr.registry import ARCH_REGISTRY
from basicsr.utils.weights import load_weights, save_weights
from basicsr.weights.network import load_described, load_network

ISALUX = {'type': 'ISALux', **SMALL, 'semantic': 'external'}
MAMBA = {'type': 'RetinexMamba', 'n_feat': 4, 'num_blocks': [1, 1, 1], 'd_state': 2}
FORMER = {'type': 'RetinexFormer', 'n_feat': 4, 'num_blocks': [1, 1, 1]}
DUAL = {
    'type': 'Restormer', 'inp_channels': 6, 'dim': 8, 'num_blocks': [1] * 4, 'num_refinement_blocks': 1,
    'heads': [1, 1, 1, 1], 'dual_pixel_task': True
}
ONE_WAY = {'type': 'RetinexMambaOneDirection', 'n_feat': 4, 'num_blocks': [1, 1, 1], 'd_state': 2}
IN_TILES = {'type': 'MambaIR', 'embed_dim': 30, 'depths': [1], 'd_state': 2, 'published_eval': True}
DARK = {'type': 'DarkIR', 'width': 4, 'enc_blk_nums': [1, 1], 'dec_blk_nums': [1, 1]}
SIZE = (20, 28)


@pytest.fixture
def saved(tmp_path):
    """`saved(options)`: a weight file of a seeded network, and that network."""

    def save(options, net=None):
        torch.manual_seed(0)
        net = net or build_network(options).eval()
        save_weights(tmp_path / 'w.pth', {'params': net.state_dict(), 'network_g': options})
        return tmp_path / 'w.pth', net

    return save


def exported(weights, target, capsys, size=SIZE) -> str:
    """What the command prints."""
    more = ['--size', *map(str, size)] if size else []
    assert export(['--weights', str(weights), '-o', str(target), *more]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def torchscript(file) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return torch.jit.load(file)


def test_safetensors_hold_the_merged_network_and_its_options(saved, tmp_path, capsys):
    weights, net = saved(ISALUX, network())
    out = exported(weights, tmp_path / 'net.safetensors', capsys)
    assert 'merged' in out and float(re.search(r'random images of .*: (\S+)', out)[1]) < 1e-5
    state = load_weights(tmp_path / 'net.safetensors').state
    assert not any('lora' in key for key in state) and len(state) < len(net.state_dict())
    loaded, options = load_described(tmp_path / 'net.safetensors')
    assert options == {**ISALUX, 'lora_r': 0}
    inputs = arguments(net, 2, 12, 9)
    torch.testing.assert_close(loaded.eval()(*inputs), net(*inputs), atol=1e-5, rtol=1e-5)
    assert f'{sum(p.numel() for p in loaded.parameters()):,d} parameters' in out


@pytest.mark.parametrize('options', [ISALUX, FORMER, DUAL], ids=lambda o: o['type'])
def test_torchscript_answers_as_the_network(saved, tmp_path, capsys, options):
    weights, net = saved(options, network() if options is ISALUX else None)
    exported(weights, tmp_path / 'net.pt', capsys)
    inputs = random_inputs(net, options, *SIZE, seed=7)
    assert inputs[0].shape == (1, options.get('inp_channels', 3), *SIZE)
    script = torchscript(tmp_path / 'net.pt')
    torch.testing.assert_close(script(*inputs), Plain(net)(*inputs), atol=1e-5, rtol=1e-5)
    for shape in ((1, 3, 28, 20), (2, 3, *SIZE)):  # it would answer something
        with pytest.raises(torch.jit.Error, match='exported for images of another shape'):
            script(torch.rand(shape), *inputs[1:])


def test_a_torchscript_file_carries_its_segmenter(saved, tmp_path, capsys):
    options = ISALUX | {'semantic': segmenter_file(tmp_path)}
    weights, net = saved(options, network(semantic=options['semantic']))
    out = exported(weights, tmp_path / 'net.pt', capsys)
    assert 'takes 1x3x20x28, nothing else' in out
    (tmp_path / 'segmenter.pth').unlink()
    x = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(torchscript(tmp_path / 'net.pt')(x), net(x), atol=1e-5, rtol=1e-5)


def test_a_program_answers_as_the_network(saved, tmp_path, capsys):
    weights, net = saved(FORMER)
    exported(weights, tmp_path / 'net.pt2', capsys)
    inputs = random_inputs(net, FORMER, *SIZE, seed=7)
    program = torch.export.load(tmp_path / 'net.pt2').module()
    torch.testing.assert_close(program(*inputs), net(*inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('suffix, load', [('.pt', 'torch.jit.load({!r})'),
                                          ('.pt2', 'torch.export.load({!r}).module()')])
def test_the_scan_is_called_as_an_operator_of_this_toolbox(saved, tmp_path, capsys, suffix, load):
    weights, net = saved(MAMBA)
    file = tmp_path / f'net{suffix}'
    out = exported(weights, file, capsys)
    line = next(line for line in out.splitlines() if 'import' in line)
    statement = re.search(r'import basicsr\.\S+', line)[0]
    x = random_inputs(net, MAMBA, *SIZE, seed=7)[0]
    torch.save(x, tmp_path / 'x.pth')
    code = f"""import torch, warnings; {statement}
warnings.simplefilter('ignore')
y = {load.format(str(file))}(torch.load({str(tmp_path / 'x.pth')!r}))
torch.save(y, {str(tmp_path / 'y.pth')!r})"""
    done = run_python('-c', code, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(torch.load(tmp_path / 'y.pth'), net(x).detach(), atol=1e-5, rtol=1e-5)


def needs_onnx():
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(name)


def test_onnx_of_one_size_answers_as_the_network(saved, tmp_path, capsys):
    needs_onnx()
    weights, net = saved(FORMER)
    assert 'takes 1x3x20x28, nothing else' in exported(weights, tmp_path / 'net.onnx', capsys)
    x, = random_inputs(net, FORMER, *SIZE, seed=7)
    torch.testing.assert_close(run_onnx(tmp_path / 'net.onnx', [x]), net(x).detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('options', [MAMBA, ISALUX, DUAL], ids=lambda o: o['type'])
def test_onnx_takes_images_of_any_size_in_standard_operators(saved, tmp_path, capsys, options):
    """The scan of RetinexMamba, a second input, a network of two images."""
    needs_onnx()
    import onnx
    weights, net = saved(options, network() if options is ISALUX else None)
    if not at_least('torch', '2.14') or not at_least('onnxscript', '0.7'):  # what it was tried with; old ones cannot
        assert export(['--weights', str(weights), '-o', str(tmp_path / 'net.onnx')]) == 2
        assert '--size H W writes it for one size' in capsys.readouterr().err
        return
    least = describe(net).multiple + 1
    assert f'from {least}x{least} on' in exported(weights, tmp_path / 'net.onnx', capsys, size=None)
    model = onnx.load(tmp_path / 'net.onnx')
    assert {node.domain for node in model.graph.node} == {''} and not model.functions
    assert [opset.domain for opset in model.opset_import] == ['']
    assert [[d.dim_param for d in value.type.tensor_type.shape.dim][2:]
            for value in (*model.graph.input, *model.graph.output)
            ] == [['height', 'width']] * (1 + len(model.graph.input))
    assert str(Path(__file__).parents[1]).encode() not in (tmp_path / 'net.onnx').read_bytes()
    for size in ((31, 45), (64, 32), (least, 70)):  # of no multiple, of one, the least
        inputs = random_inputs(net, options, *size, seed=7)
        torch.testing.assert_close(run_onnx(tmp_path / 'net.onnx', inputs),
                                   Plain(net)(*inputs).detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('options, says', [
    (ONE_WAY, 'RetinexMambaOneDirection: ONNX has no operator for selective_scan'),
    (IN_TILES, 'where the steps of a network are others for each size, --size H W helps'),
], ids=('operator', 'size'))
def test_what_cannot_be_written_says_why(saved, tmp_path, capsys, options, says):
    needs_onnx()
    ARCH_REGISTRY.add_file(Path(__file__).parents[1] / 'Ablation_Model' / 'retinexmamba_scan_arch.py')
    weights, _ = saved(options)
    assert export(['--weights', str(weights), '-o', str(tmp_path / 'net.onnx')]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    # old exporters do not come as far as to answer
    assert error.startswith('error: ') and (says in error or 'newer PyTorch and onnxscript may' in error)


def at_least(package: str, version: str) -> bool:
    return Version(metadata.version(package)) >= Version(version)


def test_onnx_has_the_spectra_of_darkir(saved, tmp_path, capsys):
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(name)
    net = build_network(DARK).eval()
    torch.manual_seed(0)
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)  # scales of branches begin at 0
    weights, _ = saved(DARK, net)
    if not at_least('onnxscript', '0.6.2') or not at_least('onnxruntime', '1.28'):  # they lack the inverse transform
        assert export(['--weights', str(weights), '-o', str(tmp_path / 'net.onnx'), '--size', *map(str, SIZE)]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith('error: ') and 'DarkIR' in said
        return
    exported(weights, tmp_path / 'net.onnx', capsys)
    x = torch.rand(1, 3, *SIZE)
    x[..., :10] = 0
    answer = run_onnx(tmp_path / 'net.onnx', [x])
    torch.testing.assert_close(answer, net(x).detach(), atol=1e-5, rtol=1e-5)


def test_what_an_exporter_stumbles_over_is_one_sentence(saved, tmp_path, capsys, monkeypatch):
    weights, _ = saved(FORMER)

    def broken(*args):
        try:
            raise KeyError('no such operator')
        except KeyError as error:
            raise RuntimeError('\x1b[96mFailed\x1b[0m\nwith advice') from error

    words = ['--weights', str(weights), '-o', str(tmp_path / 'net.pt'), '--size', '20', '28']
    monkeypatch.setitem(formats.FORMATS, '.pt', formats.Format(broken, None, False))
    assert export(words) == 2
    says = "error: RetinexFormer cannot be written as .pt (KeyError: 'no such operator'); write .safetensors\n"
    assert capsys.readouterr().err.endswith(says)
    monkeypatch.setitem(formats.FORMATS, '.pt', formats.Format(lambda *args: formats.Written(), broken, False))
    assert export(words) == 2 and 'of RetinexFormer cannot be read again (KeyError' in capsys.readouterr().err


def test_onnx_without_its_packages_is_one_sentence(saved, tmp_path, capsys, monkeypatch):
    weights, _ = saved(FORMER)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *a: None
                        if name.startswith('onnx') else find(name, *a))
    assert export(['--weights', str(weights), '-o', str(tmp_path / 'net.onnx'), '--size', '20', '28']) == 2
    assert "pip install 'retinexmamba[export]'" in capsys.readouterr().err and not (tmp_path / 'net.onnx').exists()


def test_a_file_that_answers_otherwise_is_refused(saved, tmp_path, capsys, monkeypatch):
    weights, _ = saved(FORMER)

    def wrong(file, inputs):
        return Plain(load_network(file).eval())(inputs[0] + 0.1)

    monkeypatch.setitem(formats.FORMATS, '.safetensors', formats.Format(formats.write_safetensors, wrong, True))
    assert export(['--weights', str(weights), '-o', str(tmp_path / 'net.safetensors'), '--size', '20', '28']) == 2
    assert 'does not answer as the network does' in capsys.readouterr().err


def test_a_file_that_is_there_stays_unless_told_otherwise(saved, tmp_path, capsys):
    weights, _ = saved(FORMER)
    target = tmp_path / 'net.safetensors'
    target.write_bytes(b'precious')
    command = ['--weights', str(weights), '-o', str(target)]
    assert export(command) == 2 and target.read_bytes() == b'precious'
    assert f'{target} would be replaced; choose another name, or give --overwrite' in capsys.readouterr().err
    assert export([*command, '--overwrite']) == 0 and len(target.read_bytes()) > 8


@pytest.mark.parametrize('more, says', [
    (['-o', 'net.pht'], "Did you mean '.pt'"),
    (['-o', 'net'], 'One of: .safetensors, .pt, .pt2, .onnx'),
    (['-o', 'net.pt', '--size', '0', '4'], 'sides must be positive'),
    (['-o', 'net.pt', '--weights', 'nothing.pth'], "no weight file 'nothing.pth'"),
    (['-o', '{weights}.safetensors', '--weights', '{weights}.safetensors'], 'would be written over'),
])
def test_mistakes_are_one_sentence(saved, tmp_path, monkeypatch, capsys, more, says):
    weights, _ = saved(FORMER)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'w.pth.safetensors').write_bytes(b'')
    assert export(['--weights', str(weights), *(m.format(weights=weights) for m in more)]) == 2
    error = capsys.readouterr().err
    assert says in error and error.startswith('error: ') and error.count('\n') == 1

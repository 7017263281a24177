"""Networks as files for other programs: safetensors, TorchScript, `torch.export` programs, ONNX.

All but safetensors hold the computation as it went for one example, so they take inputs of that shape only.
"""
from __future__ import annotations

import importlib.util
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from basicsr.archs import describe, input_channels
from basicsr.utils.errors import UserError
from basicsr.utils.files import atomic_write
from basicsr.utils.weights import save_safetensors
from basicsr.weights.detection import detect
from basicsr.weights.network import load_network

_ONNX = ('onnx', 'onnxscript', 'onnxruntime')
_INPUT_NAMES = ('image', 'semantic_map')


class Plain(nn.Module):
    """A network whose output is one tensor: of several images, the last."""

    def __init__(self, net: nn.Module, check: Callable[[Tensor, list[int]], Tensor] | None = None,
                 shape: tuple[int, ...] = ()):
        super().__init__()
        self.net, self.check, self.shape = net, check, list(shape)

    def forward(self, image: Tensor, *guides: Tensor) -> Tensor:
        image = image if self.check is None else self.check(image, self.shape)
        out = self.net(image, *guides)
        return out[-1] if isinstance(out, (list, tuple)) else out


def merge_low_rank(net: nn.Module, options: dict[str, Any]) -> dict[str, Any]:
    """Fold low-rank additions into the weights beside them, where the network offers that; returns its options then."""
    if not hasattr(net, 'merge_lora'):
        return options
    before = detect(net.state_dict()) or {}
    merging: Any = net
    after = detect(merging.merge_lora().state_dict()) or {}
    return options | {k: v for k, v in after.items() if before.get(k) != v}


def random_inputs(net: nn.Module, options: dict[str, Any], height: int, width: int, seed: int) -> tuple[Tensor, ...]:
    """What the network takes: an image (1, C, H, W) in [0, 1], and probabilities as its guide where it wants one."""
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.rand(1, input_channels(options) or 3, height, width, generator=generator)]
    if guide := describe(net).guide:
        inputs.append(torch.randn(1, guide, height, width, generator=generator).softmax(dim=1))
    return tuple(inputs)


# each writes the network, and returns the names of operators of this toolbox that the file calls


def write_safetensors(net: nn.Module, options: dict[str, Any], inputs: tuple[Tensor, ...], file: Path) -> set[str]:
    save_safetensors(file, net.state_dict(), options)
    return set()


def write_torchscript(net: nn.Module, options: dict[str, Any], inputs: tuple[Tensor, ...], file: Path) -> set[str]:
    """The traced network; it raises for another shape, for which it would be silently wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of what depends on the shape; of TorchScript being deprecated
        check = torch.jit.script(_require)
        traced = torch.jit.trace(Plain(net, check, inputs[0].shape), inputs, check_trace=False)
        _write(file, lambda buffer: torch.jit.save(traced, buffer))
    return set(re.findall(r'basicsr::(\w+)', str(traced.inlined_graph)))


def write_program(net: nn.Module, options: dict[str, Any], inputs: tuple[Tensor, ...], file: Path) -> set[str]:
    # leaves operators alone, but not regions without autocast, which PyTorch 2.6 can read in no other process
    program = _program(net, inputs).run_decompositions({})
    _write(file, lambda buffer: torch.export.save(program, buffer))
    return _own_operators(program)


def write_onnx(net: nn.Module, options: dict[str, Any], inputs: tuple[Tensor, ...], file: Path) -> set[str]:
    missing = [name for name in _ONNX if not importlib.util.find_spec(name)]
    if missing:
        raise UserError(f"writing .onnx needs {', '.join(missing)}: pip install 'retinexmamba[export]'")
    program = _program(net, inputs)
    own = _own_operators(program)
    if own:
        raise UserError(
            f"{options['type']} cannot be written as .onnx, which has no operator for {', '.join(sorted(own))};"
            ' write .pt2, .pt or .safetensors')
    onnx: Any = torch.onnx.export(program, input_names=list(_INPUT_NAMES[:len(inputs)]), output_names=['result'],
                                  verbose=False)
    for node in onnx.model.graph:  # PyTorch 2.6 has True for 1, which protobuf 7 does not write
        for name, attribute in list(node.attributes.items()):
            if isinstance(getattr(attribute, 'value', None), bool):
                node.attributes[name] = type(attribute)(name, attribute.type, int(attribute.value))
    _write(file, lambda buffer: buffer.write(onnx.model_proto.SerializeToString()))
    return own


# each is what the file answers


def _run_safetensors(file: Path, inputs: tuple[Tensor, ...]) -> Tensor:
    return Plain(load_network(file).eval())(*inputs)


def _run_torchscript(file: Path, inputs: tuple[Tensor, ...]) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # PyTorch calls TorchScript deprecated
        return torch.jit.load(file)(*inputs)


def _run_program(file: Path, inputs: tuple[Tensor, ...]) -> Tensor:
    return torch.export.load(file).module()(*inputs)


def _run_onnx(file: Path, inputs: tuple[Tensor, ...]) -> Tensor:
    import onnxruntime
    session = onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])
    return torch.from_numpy(session.run(None, dict(zip(_INPUT_NAMES, (t.numpy() for t in inputs))))[0])


FORMATS = {
    '.safetensors': (write_safetensors, _run_safetensors),
    '.pt': (write_torchscript, _run_torchscript),
    '.pt2': (write_program, _run_program),
    '.onnx': (write_onnx, _run_onnx),
}


def _require(image: Tensor, shape: list[int]) -> Tensor:
    """Compiled into TorchScript files."""
    if image.shape != shape:
        raise ValueError('this file was exported for images of another shape (basicsr export --size H W)')
    return image


def _program(net: nn.Module, inputs: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    return torch.export.export(Plain(net), inputs, strict=False)


def _own_operators(program: torch.export.ExportedProgram) -> set[str]:
    graphs = [m.graph for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule)]
    return {
        found[1] for graph in graphs for node in graph.nodes if (found := re.match(r'basicsr\.(\w+)', str(node.target)))
    }


def _write(file: Path, save: Callable[[io.BytesIO], Any]) -> None:
    buffer = io.BytesIO()
    save(buffer)
    with atomic_write(file) as stream:
        stream.write(buffer.getbuffer())

"""Networks as files for other programs: safetensors, TorchScript, `torch.export` programs, ONNX.

TorchScript and programs hold the computation as it went for one example, so they take images of that size only. ONNX takes
images of any size where it is not made for one.
"""
from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from basicsr.inference.onnx_file import onnx_bytes, run_onnx
from basicsr.inference.program import Plain, capture, least_sides, own_operators
from basicsr.utils.files import atomic_write
from basicsr.utils.weights import save_safetensors
from basicsr.weights.detection import detect
from basicsr.weights.network import load_network


def merge_low_rank(net: nn.Module, options: dict[str, Any]) -> dict[str, Any]:
    """Fold low-rank additions into the weights beside them, where the network offers that; returns its options then."""
    if not hasattr(net, 'merge_lora'):
        return options
    before = detect(net.state_dict()) or {}
    merging: Any = net
    after = detect(merging.merge_lora().state_dict()) or {}
    return options | {k: v for k, v in after.items() if before.get(k) != v}


@dataclass
class Written:
    """What there is to know about a file.

    Attributes:
        operators: of this toolbox, that the file calls.
        least: height and width from which on it takes images; None where it takes those of one size only.
    """
    operators: set[str] = field(default_factory=set)
    least: tuple[int, int] | None = None


# each writes the network, whose options these are, as it answers such inputs, or with `any_size` others too


def write_safetensors(net: nn.Module, options: dict[str, Any], inputs: tuple[Tensor, ...], any_size: bool,
                      file: Path) -> Written:
    save_safetensors(file, net.state_dict(), options)
    return Written()


def write_torchscript(net: nn.Module, options: dict[str, Any], inputs: tuple[Tensor, ...], any_size: bool,
                      file: Path) -> Written:
    """The traced network; it raises for another shape, for which it would be silently wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of what depends on the shape; of TorchScript being deprecated
        check = torch.jit.script(_require)
        traced = torch.jit.trace(Plain(net, check, inputs[0].shape), inputs, check_trace=False)
        _write(file, lambda buffer: torch.jit.save(traced, buffer))
    return Written(set(re.findall(r'basicsr::(\w+)', str(traced.inlined_graph))))


def write_program(net: nn.Module, options: dict[str, Any], inputs: tuple[Tensor, ...], any_size: bool,
                  file: Path) -> Written:
    # leaves operators alone, but not regions without autocast, which PyTorch 2.6 can read in no other process
    program = capture(net, inputs, any_size=False).run_decompositions({})
    _write(file, lambda buffer: torch.export.save(program, buffer))
    return Written(own_operators(program))


def write_onnx(net: nn.Module, options: dict[str, Any], inputs: tuple[Tensor, ...], any_size: bool,
               file: Path) -> Written:
    program = capture(net, inputs, any_size)
    data = onnx_bytes(program, options['type'])
    _write(file, lambda buffer: buffer.write(data))
    return Written(least=least_sides(program, net) if any_size else None)


# each is what the file answers


def _run_safetensors(file: Path, inputs: tuple[Tensor, ...]) -> Tensor:
    return Plain(load_network(file).eval())(*inputs)


def _run_torchscript(file: Path, inputs: tuple[Tensor, ...]) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # PyTorch calls TorchScript deprecated
        return torch.jit.load(file)(*inputs)


def _run_program(file: Path, inputs: tuple[Tensor, ...]) -> Tensor:
    return torch.export.load(file).module()(*inputs)


class Format(NamedTuple):
    """any_size: whether it can hold the computation for images of any size."""
    write: Callable[..., Written]
    answer: Callable[[Path, tuple[Tensor, ...]], Tensor]
    any_size: bool


FORMATS = {
    '.safetensors': Format(write_safetensors, _run_safetensors, False),
    '.pt': Format(write_torchscript, _run_torchscript, False),
    '.pt2': Format(write_program, _run_program, False),
    '.onnx': Format(write_onnx, run_onnx, True),
}


def _require(image: Tensor, shape: list[int]) -> Tensor:
    """Compiled into TorchScript files."""
    if image.shape != shape:
        raise ValueError('this file was exported for images of another shape (basicsr export --size H W)')
    return image


def _write(file: Path, save: Callable[[io.BytesIO], Any]) -> None:
    buffer = io.BytesIO()
    save(buffer)
    with atomic_write(file) as stream:
        stream.write(buffer.getbuffer())

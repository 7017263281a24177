"""Networks as ONNX files, in standard operators only."""
from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from basicsr.inference.program import own_operators
from basicsr.ops.onnx_functions import DOMAIN, FUNCTIONS
from basicsr.utils.errors import UserError

_PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')
_INPUT_NAMES = ('image', 'semantic_map')


def onnx_bytes(program: ExportedProgram, name: str) -> bytes:
    """The program of a network of this name as an ONNX model.

    Its inputs are `image` and, where the network wants one, `semantic_map`; its output is `result`.

    Raises:
        UserError: for packages that are missing, and operators of this toolbox that have no form in ONNX.
    """
    missing = [name for name in _PACKAGES if not importlib.util.find_spec(name)]
    if missing:
        raise UserError(f"writing .onnx needs {', '.join(missing)}: pip install 'retinexmamba[export]'")
    import onnx.inliner
    import onnx.parser
    own = own_operators(program)
    if unknown := own - FUNCTIONS.keys():
        raise UserError(
            f"{name}: ONNX has no operator for {', '.join(sorted(unknown))}; write .pt2, .pt or .safetensors")
    count = len(program.graph_signature.user_inputs)
    calls = {getattr(torch.ops.basicsr, operator).default: _call(operator) for operator in own}
    written: Any = torch.onnx.export(program, input_names=list(_INPUT_NAMES[:count]), output_names=['result'],
                                     verbose=False, custom_translation_table=calls)
    for node in written.model.graph:  # PyTorch 2.6 has True for 1, which protobuf 7 does not write
        for key, attribute in list(node.attributes.items()):
            if isinstance(getattr(attribute, 'value', None), bool):
                node.attributes[key] = type(attribute)(key, attribute.type, int(attribute.value))
    model = written.model_proto
    # runtimes find the shapes themselves; those of one-sided Fourier transforms are wrong here, and memory goes by them
    del model.graph.value_info[:]
    if own:
        version = next(opset.version for opset in model.opset_import if not opset.domain)
        for operator in sorted(own):
            model.functions.append(onnx.parser.parse_function(FUNCTIONS[operator][1](version)))
        model = onnx.inliner.inline_local_functions(model)
    _tidy(model)
    return model.SerializeToString()


def _tidy(model: Any) -> None:
    """Take out what is of this machine and of the exporter alone, and call height and width so."""
    for opset in [opset for opset in model.opset_import if opset.domain == DOMAIN]:
        model.opset_import.remove(opset)
    graphs = [model.graph]
    for graph in graphs:
        del graph.metadata_props[:]
        for node in graph.node:
            del node.metadata_props[:]  # places in the source, as paths of this machine
            graphs += [attribute.g for attribute in node.attribute if attribute.HasField('g')]
    image = model.graph.input[0].type.tensor_type.shape.dim
    names = {side.dim_param: name for side, name in zip(image[2:], ('height', 'width')) if side.dim_param}
    for value in (*model.graph.input, *model.graph.output):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param:
                side.dim_param = re.sub(r'\w+', lambda found: names.get(found[0], found[0]), side.dim_param)


def run_onnx(file: Path, inputs: Sequence[Tensor]) -> Tensor:
    """What ONNX Runtime answers on the CPU."""
    import onnxruntime
    session = onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])
    return torch.from_numpy(session.run(None, dict(zip(_INPUT_NAMES, (t.numpy() for t in inputs))))[0])


def _call(name: str) -> Callable[..., Any]:
    """What PyTorch's exporter writes for an operator of ours: a call of the function of that name."""
    import onnx.defs
    import onnxscript
    names, _ = FUNCTIONS[name]
    if not onnx.defs.has(name, DOMAIN):  # the exporter writes calls of what has a schema only
        kind = onnx.defs.OpSchema.FormalParameter
        onnx.defs.register_schema(
            onnx.defs.OpSchema(name, DOMAIN, 1, inputs=[kind(name, 'T') for name in names], outputs=[kind('y', 'T')],
                               type_constraints=[('T', ['tensor(float)'], 'the type of all tensors')]))
    operators = onnxscript.values.Opset(DOMAIN, 1)

    def call(*inputs: Any) -> Any:
        saved = onnxscript.opset18.Constant(value_floats=[])  # for a backward that there is none of
        return getattr(operators, name)(*inputs[:len(names)]), saved

    return call

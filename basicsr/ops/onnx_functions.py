"""Operators of this toolbox as functions in standard operators of ONNX, for runtimes that know none of ours."""
from __future__ import annotations

from collections.abc import Callable

from basicsr.ops.ss2d.onnx_function import ss2d_onnx_function

DOMAIN = 'basicsr'

# operator: (names of its tensors, the function for a version of ONNX in the text format of `onnx.parser`)
FUNCTIONS: dict[str, tuple[tuple[str, ...], Callable[[int], str]]] = {
    'ss2d_scan': (('x', 'x_dbl', 'dt_w', 'dt_b', 'A', 'D'), ss2d_onnx_function),
}

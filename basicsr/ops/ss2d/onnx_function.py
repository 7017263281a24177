"""The scan of SS2D in standard operators of ONNX, for runtimes that know no operator of this toolbox.

Each direction goes over the image twice, all its lines at once, instead of pixel by pixel: once for the state that each
line would end with if it began with none, from which follow the states that the lines really begin with, and once for the
result. So it takes H + W steps instead of H W, of tensors that are large enough for a runtime to be busy with.
"""
from __future__ import annotations

_HEAD = """
<domain: "basicsr", opset_import: ["": {version}]>
ss2d_scan (x, x_dbl, dt_w, dt_b, A, D) => (y)
{{
  first = Constant <value_ints = [0]> ()
  second = Constant <value_ints = [1]> ()
  third = Constant <value_ints = [2]> ()
  fourth = Constant <value_ints = [3]> ()
  last = Constant <value_ints = [-1]> ()
  before_last = Constant <value_ints = [-2]> ()
  rank = Shape <start = 2, end = 3> (dt_w)
  states = Shape <start = 1, end = 2> (A)
  parts = Concat <axis = 0> (rank, states, states)
  x_dbl_0, x_dbl_1, x_dbl_2, x_dbl_3 = Split <axis = 3, num_outputs = 4> (x_dbl)
  dt_w_0, dt_w_1, dt_w_2, dt_w_3 = Split <axis = 0, num_outputs = 4> (dt_w)
  dt_b_0, dt_b_1, dt_b_2, dt_b_3 = Split <axis = 0, num_outputs = 4> (dt_b)
  A_0, A_1, A_2, A_3 = Split <axis = 0, num_outputs = 4> (A)
  D_0, D_1, D_2, D_3 = Split <axis = 0, num_outputs = 4> (D)
"""

# h: (B, lines, N, E). What a step gets of the image: (B, lines, channels or states)
_STEP = """
      s{k}_row = Unsqueeze (s{k}, before_last)
      s{k}_A = Mul (s{k}_row, rates_{k})
      kept{k} = Exp (s{k}_A)
      old{k} = Mul (h{k}, kept{k})
      u{k}_row = Unsqueeze (u{k}, before_last)
      b{k}_column = Unsqueeze (b{k}, last)
      new{k} = Mul (u{k}_row, b{k}_column)
      h{k}_next = Add (old{k}, new{k})"""

_DIRECTION = """
  of_{k} = Squeeze (x_dbl_{k}, fourth)
  step_{k}, B_{k}, C_{k} = Split <axis = 3> (of_{k}, parts)
  dt_w_matrix_{k} = Squeeze (dt_w_{k}, first)
  dt_w_columns_{k} = Transpose <perm = [1, 0]> (dt_w_matrix_{k})
  delta_{k} = MatMul (step_{k}, dt_w_columns_{k})
  biased_{k} = Add (delta_{k}, dt_b_{k})
  dt_{k} = Softplus (biased_{k})
  rates_{k} = Transpose <perm = [1, 0]> (A_{k})
  input_{k} = Mul (x, dt_{k})
  time_{k} = ReduceSum <keepdims = 0> (dt_{k}, {along})
  time_row_{k} = Unsqueeze (time_{k}, before_last)
  time_A_{k} = Mul (time_row_{k}, rates_{k})
  decay_{k} = Exp (time_A_{k})
  nothing_{k} = Sub (decay_{k}, decay_{k})
  ends_{k} = Scan <num_scan_inputs = 3, scan_input_axes = [{a}, {a}, {a}], scan_input_directions = [{d}, {d}, {d}],
    body = line_{k} (h{k}, u{k}, s{k}, b{k}) => (h{k}_next) {{{step}
    }}> (nothing_{k}, input_{k}, dt_{k}, B_{k})
  before_all_{k} = ReduceMax <keepdims = 0> (nothing_{k}, second)
  after_all_{k}, starts_{k} = Scan <num_scan_inputs = 2, scan_input_axes = [1, 1], scan_input_directions = [{d}, {d}],
    scan_output_axes = [1], scan_output_directions = [{d}],
    body = lines_{k} (start{k}, over{k}, end{k}) => (start{k}_next, start{k}_of_line) {{
      left{k} = Mul (start{k}, over{k})
      start{k}_next = Add (left{k}, end{k})
      start{k}_of_line = Identity (start{k})
    }}> (before_all_{k}, decay_{k}, ends_{k})
  finally_{k}, scanned_{k} = Scan <num_scan_inputs = 4, scan_input_axes = [{a}, {a}, {a}, {a}],
    scan_input_directions = [{d}, {d}, {d}, {d}], scan_output_axes = [{a}], scan_output_directions = [{d}],
    body = again_{k} (h{k}, u{k}, s{k}, b{k}, c{k}) => (h{k}_next, y{k}) {{{step}
      c{k}_row = Unsqueeze (c{k}, before_last)
      y{k}_row = MatMul (c{k}_row, h{k}_next)
      y{k} = Squeeze (y{k}_row, before_last)
    }}> (starts_{k}, input_{k}, dt_{k}, B_{k}, C_{k})
  direct_{k} = Mul (x, D_{k})
  both_{k} = Add (scanned_{k}, direct_{k})
"""

_TAIL = """
  y = Sum (both_0, both_1, both_2, both_3)
}
"""


def ss2d_onnx_function(version: int) -> str:
    """`ss2d_scan` as a function in the text format of ONNX, which `onnx.parser.parse_function` reads.

    Args:
        version: of ONNX's operators, 18 or later.
    """
    directions = (_direction(k, columns=k % 2 == 1, backwards=k >= 2) for k in range(4))
    return _HEAD.format(version=version) + ''.join(directions) + _TAIL


def _direction(k: int, columns: bool, backwards: bool) -> str:
    axis, along = (1, 'second') if columns else (2, 'third')
    return _DIRECTION.format(k=k, a=axis, along=along, d=int(backwards), step=_STEP.format(k=k))

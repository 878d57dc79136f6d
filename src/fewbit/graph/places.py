"""Where an operator reads a weight that can be stored in few bits, and how that weight lies.

Conv (out, in/group, k…)      channels 0        summed 1
ConvTranspose (in, out/group, k…)      1               0
MatMul (…, in, out)               last     last but one          a constant left side (…, rows, in): the other way
Gemm (in, out), B transposed    1 or 0          0 or 1
LSTM, GRU, RNN (dirs, gates·h, in)   1               2          W and R; see `rows`
Gather (rows, width)                 0               1
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from fewbit.graph.model import attr, dims, is_const, is_float, op_name

RECURRENT = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True)
class WeightPlace:
    """One constant that a node reads as a weight.

    Args:
        index: of the input. channel: axis of what shares a scale channel-wise. summed: axis that is summed over.
        rows: there is more than one axis of channels, so that channel-wise means one scale a row of `summed`.
    """

    index: int
    channel: int
    summed: int
    rows: bool = False


def weight_places(node: ir.Node) -> list[WeightPlace]:
    """The weights of a node: constant, float32, two axes or more; empty if it has none."""
    found = [p for p in _candidates(node) if p.index < len(node.inputs)]
    return [p for p in found if is_const(node.inputs[p.index]) and is_float(node.inputs[p.index])]


def _candidates(node: ir.Node) -> list[WeightPlace]:
    op, ranks = op_name(node), [len(dims(v) or ()) for v in node.inputs]
    if op == "Conv" and ranks[1] > 2:
        return [WeightPlace(1, 0, 1)]
    if op == "ConvTranspose" and ranks[1] > 2:
        return [WeightPlace(1, 1, 0)]
    if op == "Gemm":
        a, b = (int(bool(attr(node, key, 0))) for key in ("transA", "transB"))
        return [WeightPlace(1, 1 - b, b), WeightPlace(0, a, 1 - a)]
    if op == "MatMul":
        right = [WeightPlace(1, ranks[1] - 1, ranks[1] - 2, ranks[1] > 2)] if ranks[1] > 1 else []
        left = [WeightPlace(0, ranks[0] - 2, ranks[0] - 1, ranks[0] > 2)] if ranks[0] > 1 else []
        return right + left
    if op in RECURRENT:
        several = attr(node, "direction", "forward") == "bidirectional"
        return [WeightPlace(i, 1, 2, several) for i in (1, 2)]
    if op == "Gather" and ranks[0] == 2:
        axis = int(attr(node, "axis", 0)) % 2
        return [WeightPlace(0, axis, 1 - axis)]
    return []

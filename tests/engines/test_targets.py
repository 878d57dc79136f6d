"""The tables: every row is measured or says why not, and does what it says in the engine itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fewbit.engines  # noqa: F401  registers
from fewbit.core.target import TARGETS, NodeFacts, OpRule, Target
from fewbit.engines import onnxruntime_rules, openvino_rules

NAMES = ("onnxruntime", "onnxruntime-avx2", "onnxruntime-arm", "openvino")
ROWS = [pytest.param(TARGETS[t], r, id=f"{t}-{i}-{r.op}") for t in NAMES for i, r in enumerate(TARGETS[t].rules)]

PROMISED = """
    Conv ConvTranspose Gemm MatMul Add Sub Mul Concat MaxPool AveragePool GlobalAveragePool Relu LeakyRelu Clip Sigmoid
    Tanh HardSwish Softmax LSTM GRU Split Slice Resize Reshape Transpose Flatten Squeeze Unsqueeze Pad Gather
""".split()


def test_all_targets_are_there() -> None:
    assert set(NAMES) <= set(TARGETS)


@pytest.mark.parametrize(("target", "row"), ROWS)
def test_every_row_is_measured_or_says_why_not(target: Target, row: OpRule) -> None:
    assert row.pays is not None or row.note
    assert row.pays is None or 0.05 < row.pays < 10
    if row.core:
        assert "weight" in row.inputs
    if row.shares:
        assert row.outputs == ("act",) and row.inputs == ("act",)


@pytest.mark.parametrize(("target", "row"), ROWS)
def test_no_row_is_hidden_by_the_ones_above_it(target: Target, row: OpRule) -> None:
    above = [r.when for r in target.rules[: target.rules.index(row)] if r.op == row.op]
    assert row.when not in above and "always" not in above


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("op", PROMISED)
def test_every_promised_operator_was_looked_at(name: str, op: str) -> None:
    target = TARGETS[name]
    assert target.has(op) != (op in target.float_only), "a row, or a reason why there is none"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_float_only_has_no_row(name: str) -> None:
    target = TARGETS[name]
    assert not [op for op in target.float_only if target.has(op)]
    assert all(target.float_only.values())


def test_targets_that_never_ran_here_say_so() -> None:
    assert TARGETS["onnxruntime-avx2"].checked == TARGETS["onnxruntime-arm"].checked == "not run here"
    assert "EPYC" in TARGETS["onnxruntime"].checked and "EPYC" in TARGETS["openvino"].checked
    for name in ("onnxruntime-avx2", "onnxruntime-arm"):
        assert all((r.pays is None or r.pays >= 1) and "VNNI only" in r.note for r in TARGETS[name].rules)


def test_avx2_weights_cannot_saturate_16_bits() -> None:
    weight, act = TARGETS["onnxruntime-avx2"].weight, TARGETS["onnxruntime-avx2"].activation
    assert 2 * act.qmax * weight.qmax <= 32767 < 2 * act.qmax * TARGETS["onnxruntime"].weight.qmax


def test_formats_of_the_targets() -> None:
    act = {name: TARGETS[name].activation for name in NAMES}
    assert (act["onnxruntime"].signed, act["onnxruntime"].symmetric) == (False, False)
    assert (act["onnxruntime-arm"].signed, act["onnxruntime-arm"].symmetric) == (True, False)
    assert all(TARGETS[n].weight.symmetric and TARGETS[n].weight.narrow for n in NAMES)


def facts(groups: int = 1, ins: int = 64, outs: int = 64, kernel: int = 2, op: str = "Conv") -> NodeFacts:
    shape = (outs, ins, *([3] * kernel))
    return NodeFacts(
        op, (kernel + 2, kernel + 2), ((1, ins * groups, *([8] * kernel)), shape), (False, True), groups, outs
    )


@pytest.mark.parametrize(
    ("name", "node", "when"),
    [
        ("onnxruntime", facts(), "weight is constant"),
        ("onnxruntime", facts(groups=64, ins=1), "2-D depthwise convolution"),
        ("onnxruntime", facts(groups=32, ins=4, outs=128), "few channels in a group"),
        ("onnxruntime", facts(groups=4, ins=32, outs=128), "weight is constant"),
        ("onnxruntime", facts(kernel=1), "1-D convolution"),
        ("onnxruntime", facts(kernel=3), "3-D convolution"),
        ("openvino", facts(groups=64, ins=1), "depthwise"),
        ("openvino", facts(groups=32, ins=4, outs=128), "grouped"),
        ("openvino", facts(op="ConvTranspose"), "weight is constant"),
    ],
)
def test_the_right_row_is_found(name: str, node: NodeFacts, when: str) -> None:
    row = TARGETS[name].rule(node)
    assert row is not None and row.when == when


def test_where_openvino_needs_signed_symmetric_the_row_says_so() -> None:
    rows = [r for r in openvino_rules.RULES if r.act is not None]
    assert {r.op for r in rows} == {"ConvTranspose", "MatMul"}
    assert all(r.act and r.act.signed and r.act.symmetric for r in rows)
    assert not any(r.act for r in onnxruntime_rules.RULES)


def test_reading_the_tables_loads_no_engine_and_no_onnx() -> None:
    heavy = ("onnx", "onnx_ir", "onnxruntime", "openvino", "numba")
    code = f"import sys, fewbit.engines; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

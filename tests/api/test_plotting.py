"""`fb.plot`: which stages, from what, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import fewbit as fb
from fewbit.core.plan import Plan
from fewbit.errors import AlreadyQuantized, ConfigError, FewbitError, PlanError, UnknownName, UsageError
from fewbit.graph.files import load_model
from fewbit.graph.model import Model
from fewbit.report.quantized import Quantized
from tests.models import conv_relu, feeds_for, load, residual


@pytest.fixture(scope="module")
def net() -> Model:
    """Float."""
    return load(residual())


@pytest.fixture(scope="module")
def integer(net: Model) -> Quantized:
    """Its integer form."""
    return fb.quantize(net, feeds_for(net, batch=4), quantize_mode="full", verify=False)


def verdicts(drawn: fb.report.drawing.drawing.Drawing) -> dict[str, str]:  # type: ignore[name-defined]
    """Of the integer stage."""
    stage = next(s for s in drawn.data.stages if s.name == "quantized")
    return {b.name: b.verdict for b in stage.boxes if b.kind == "layer"}


def test_stages_by_default(net: Model, integer: Quantized) -> None:
    assert fb.plot(net).stages == ("float",)
    assert fb.plot(integer).stages == ("quantized",)
    assert fb.plot(net, integer).stages == ("float", "fused", "quantized")
    assert fb.plot(net, quantize_mode="full").stages == ("quantized",)
    assert fb.plot(net, stage="all").stages == ("float", "fused", "quantized")


def test_a_float_network_alone_shows_its_plan(net: Model, integer: Quantized) -> None:
    planned = fb.plot(net, stage="quantized", quantize_mode="full")
    assert verdicts(planned) == verdicts(fb.plot(integer)) and "integer" in verdicts(planned).values()
    assert "planned" in planned.data.stages[0].title
    kept = fb.plot(net, quantize_mode="full", exclude_layers=("add",))
    assert verdicts(kept)["add"] == "float"
    assert [b.reason for s in kept.data.stages for b in s.boxes if b.name == "add"] == [
        fb.make_plan(fb.fuse(net), quantize_mode="full", exclude_layers=("add",)).nodes["add"].reason
    ]


def test_a_file_brings_its_plan_and_its_name(net: Model, integer: Quantized, tmp_path: Path) -> None:
    integer.save(tmp_path / "int8.onnx")
    drawn = fb.plot(tmp_path / "int8.onnx")
    assert drawn.data.title == "int8.onnx"
    reasons = {b.name: b.reason for b in drawn.data.stages[0].boxes}
    assert reasons["conv1"] == integer.plan.nodes["conv1"].reason != ""
    (tmp_path / "int8.plan.json").rename(tmp_path / "elsewhere.json")
    assert {b.reason for b in fb.plot(tmp_path / "int8.onnx").data.stages[0].boxes} == {""}
    given = fb.plot(tmp_path / "int8.onnx", plan=tmp_path / "elsewhere.json")
    assert {b.name: b.reason for b in given.data.stages[0].boxes} == reasons
    assert fb.plot(net, tmp_path / "int8.onnx", plan=integer.plan, title="both").data.title == "both"


def test_a_plan_of_a_float_network_is_drawn_with_its_scales(net: Model, integer: Quantized) -> None:
    drawn = fb.plot(net, plan=integer.plan)
    assert drawn.stages == ("quantized",) and any(w.steps for w in drawn.data.stages[0].wires)


def test_ways_to_draw(net: Model, integer: Quantized) -> None:
    ops = [b.op for b in fb.plot(integer, every_node=True).data.stages[0].boxes]
    assert "QuantizeLinear" in ops and "QuantizeLinear" not in [b.op for b in fb.plot(integer).data.stages[0].boxes]
    assert any(b.kind == "weight" for b in fb.plot(net, weights=True).data.stages[0].boxes)
    assert fb.plot(net, depth=0).open == ()


def test_a_network_is_left_as_it_is(net: Model, integer: Quantized) -> None:
    before = net.digest(), integer.digest()
    fb.plot(net, integer).dot()
    assert (net.digest(), integer.digest()) == before


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ({"stage": "int8"}, UnknownName, "unknown stage 'int8'.*all, float, fused, quantized"),
        ({"stage": "fused", "bit_num": 4}, UsageError, "'quantized' or 'all', not at 'fused'"),
        ({"depth": -1}, UsageError, "depth is -1"),
        ({"depth": 1, "fold": False}, UsageError, "give one of them"),
        ({"bit_nun": 4}, UnknownName, "bit_num"),
        ({"bit_num": 40}, ConfigError, "bit_num"),
    ],
)
def test_words_that_mean_nothing(net: Model, words: dict, error: type[FewbitError], said: str) -> None:
    with pytest.raises(error, match=said):
        fb.plot(net, **words)


def test_networks_that_do_not_go_together(net: Model, integer: Quantized) -> None:
    with pytest.raises(AlreadyQuantized, match="is quantized already"):
        fb.plot(integer, integer)
    with pytest.raises(UsageError, match="holds nothing quantized"):
        fb.plot(net, net)
    with pytest.raises(UsageError, match="give the float network, too"):
        fb.plot(integer, stage="fused")
    with pytest.raises(UsageError, match="settings say how to quantize"):
        fb.plot(net, integer, bit_num=4)
    strange = Plan({}, {"other": integer.plan.nodes["conv1"]})
    for given in ((net,), (net, integer)):
        with pytest.raises(PlanError, match="tells of layer 'other', which the float network does not have"):
            fb.plot(*given, plan=strange)
    with pytest.raises(PlanError, match="belongs to another one"):
        fb.plot(integer, plan=strange)


def test_a_plan_beside_the_file_that_is_of_another_network_is_refused(
    net: Model, integer: Quantized, tmp_path: Path
) -> None:
    integer.save(tmp_path / "int8.onnx")
    beside = tmp_path / "int8.plan.json"
    beside.write_text(beside.read_text("utf-8").replace("conv1", "conv9"), "utf-8")
    with pytest.raises(PlanError, match=r"tells of layer 'conv9'.*do not belong together"):
        fb.plot(net, tmp_path / "int8.onnx")


def box_of(drawn: fb.report.drawing.drawing.Drawing, name: str) -> fb.report.drawing.data.Box:  # type: ignore[name-defined]
    return next(b for s in drawn.data.stages if s.name == "quantized" for b in s.boxes if b.name == name)


@pytest.mark.parametrize("bits", [3, 4, 8, 12, 16])
def test_a_value_has_one_format_where_it_is_made_and_where_it_is_read(net: Model, bits: int) -> None:
    whole = fb.quantize(net, feeds_for(net, batch=4), quantize_mode="full", bit_num=bits, verify=False, effort="fast")
    drawn = fb.plot(net, whole)
    assert drawn.data.notes == ()
    boxes = [b for s in drawn.data.stages if s.name == "quantized" for b in s.boxes if b.kind == "layer"]
    gives = {row[0]: row[2:] for b in boxes for row in b.facts.get("Gives", ())}
    reads = {(row[0], row[2:]) for b in boxes for row in b.facts.get("Reads", ()) if row[0] in gives}
    both = [(name, told, gives[name]) for name, told in reads]
    assert both and all(told == given for _, told, given in both), both
    assert any(told[0] in (f"u{bits}", f"s{bits}") for _, told, _ in both)


@pytest.mark.parametrize("swapped", [False, True])
def test_formats_come_from_the_file_and_a_plan_of_another_run_is_left_out(
    net: Model, integer: Quantized, swapped: bool
) -> None:
    few = fb.quantize(net, feeds_for(net, batch=4), quantize_mode="full", bit_num=4, verify=False, effort="fast")
    file, other, bits = (few, integer, 4) if swapped else (integer, few, 8)
    drawn = fb.plot(net, file, plan=other.plan)
    box = box_of(drawn, "conv1")
    assert box.types in (f"u{bits}×s{bits}", f"s{bits}") and box.weight is not None
    assert box.weight[1] == f"s{bits} per channel"
    assert len(drawn.data.notes) == 1 and "is left out" in drawn.data.notes[0]
    assert "of another run" in drawn.data.stages[-1].title and box.reason == ""
    assert "is left out" in drawn.dot()
    own = fb.plot(net, file)
    assert own.data.notes == () and box_of(own, "conv1").types == box.types and box_of(own, "conv1").reason


def test_layers_that_the_plan_has_otherwise_are_drawn_as_the_file_has_them(net: Model, integer: Quantized) -> None:
    words = {"quantize_mode": "full", "exclude_layers": ["conv2"], "effort": "fast"}
    less = fb.quantize(net, feeds_for(net, batch=4), verify=False, **words)
    drawn = fb.plot(net, less, plan=integer.plan)
    assert box_of(drawn, "conv2").verdict == "float" and "'conv2'" in drawn.data.notes[0]
    assert box_of(fb.plot(net, less), "conv2").verdict == "float"


def test_a_network_of_another_tool(tmp_path: Path) -> None:
    """Of ONNX Runtime's own quantizer there is no plan: Q and DQ tell."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = [feeds_for(load(conv_relu()))]

        def get_next(self) -> dict | None:  # type: ignore[override]
            return self.left.pop() if self.left else None

    onnx.save(conv_relu(), tmp_path / "f.onnx")
    quantize_static(
        tmp_path / "f.onnx", tmp_path / "q.onnx", Reader(), QuantFormat.QDQ, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )  # fmt: skip
    drawn = fb.plot(tmp_path / "f.onnx", tmp_path / "q.onnx")
    assert verdicts(drawn)["conv"] == "integer"
    assert fb.plot(load_model(tmp_path / "q.onnx", allow_quantized=True)).stages == ("quantized",)

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fewbit.core.runner import Feeds
from fewbit.errors import ConfigError, DataError, EmptyData, EngineError, EngineMissing
from fewbit.graph.model import Model
from fewbit.report.crosscheck import crosscheck
from fewbit.report.rounded import rounded_values
from tests.report.helpers import Fake, Reference, batches, build, chain, model, with_qdq

FORMATS = {"x": (0.03, 128), "a": (0.02, 128), "b": (0.05, 128)}
FLOAT, INTEGER = model(chain()), model(with_qdq(chain(), FORMATS))


@pytest.fixture
def x(rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.standard_normal((12, 4)).astype(np.float32)


class Off(Reference):
    """Adds something to what it says of one value."""

    def __init__(self, network: Model, name: str, what: float) -> None:
        super().__init__(network)
        self.name, self.what = name, what

    def run(self, feeds: Feeds) -> dict[str, Any]:
        found = super().run(feeds)
        if self.name in found:
            found[self.name] = (found[self.name] + np.asarray(self.what, found[self.name].dtype)).astype(
                found[self.name].dtype
            )
        return found


def test_rounded_values_are_found_with_their_formats() -> None:
    found = rounded_values(INTEGER)
    assert [(v.name, v.integers, v.op, v.node) for v in found] == [
        ("x", "x_q", "Input", "x"), ("a", "a_q", "Add", "add"), ("b", "b_q", "Mul", "mul")
    ]  # fmt: skip
    assert next((v.scale, v.zero, v.least, v.most) for v in found) == (np.float32(0.03), 128, 0, 255)


def test_integers_of_floats_and_of_integers(rng: np.random.Generator) -> None:
    v = rounded_values(INTEGER)[1]
    x = np.concatenate([rng.standard_normal(100).astype(np.float32) * 3, np.float32([np.inf, -np.inf, np.nan])])
    wanted = np.clip(np.rint(x[:-1] / np.float32(0.02)) + 128, 0, 255)
    assert np.array_equal(v.of(x)[:-1], wanted) and v.of(x)[-1] == 0
    assert np.array_equal(v.of(wanted.astype(np.uint8)), wanted)


def test_the_same_engine_twice_differs_nowhere(x: NDArray[np.float32]) -> None:
    found = crosscheck(FLOAT, INTEGER, batches(x, 5), Reference, Reference, {"one": Reference, "two": Reference})
    assert [s.engine for s in found.sides] == ["simulation", "one", "two"] and not found.wrong
    assert all(s.sqnr == math.inf and s.ran and s.float_sqnr == found.noise for s in found.sides)
    assert 20 < found.noise < 60 and (found.batches, found.samples) == (3, 12)
    assert [(t.a, t.b) for t in found.twos] == [("simulation", "one"), ("simulation", "two"), ("one", "two")]
    for t in found.twos:
        assert t.first is None and t.parted is None and [v.name for v in t.values] == ["x", "a", "b"]
    assert "nowhere" in found.text()


def test_where_an_engine_differs_and_parts(x: NDArray[np.float32]) -> None:
    """One step more in `a` differs and parts: its square is over 1/12."""
    found = crosscheck(FLOAT, INTEGER, batches(x / 4, 5), Reference, Reference, {"odd": lambda m: Off(m, "a_q", 1)})
    (two,) = found.twos
    assert two.first is two.parted is not None and two.parted.name == "a" and two.parted.node == "add"
    assert (two.parted.differ, two.parted.most, two.parted.squares) == (1.0, 1, 1.0)
    assert not found.wrong  # what it answers is right
    assert "add (Add), 100.00 %, 1 steps" in found.text()


def test_a_difference_below_rounding_does_not_part(x: NDArray[np.float32]) -> None:
    class Seldom(Reference):
        def run(self, feeds: Feeds) -> dict[str, Any]:
            found = super().run(feeds)
            if "a_q" in found:
                found["a_q"].reshape(-1)[0] ^= 1  # one of 20
            return found

    (two,) = crosscheck(FLOAT, INTEGER, batches(x[:10], 5), Reference, Reference, {"odd": Seldom}).twos
    assert two.first is not None and two.first.differ == 2 / 40 and two.parted is None


def test_an_engine_that_computes_something_else_is_wrong(x: NDArray[np.float32]) -> None:
    found = crosscheck(FLOAT, INTEGER, batches(x, 5), Reference, Reference, {"odd": lambda m: Off(m, "y", 0.5)})
    assert [s.engine for s in found.wrong] == ["odd"] and found.sides[1].sqnr < found.noise
    assert "! differs !" in found.text()
    assert found.to_json()["wrong"] == ["odd"]


def test_answers_that_are_not_finite_are_wrong(x: NDArray[np.float32]) -> None:
    found = crosscheck(FLOAT, INTEGER, batches(x, 5), Reference, Reference, {"odd": lambda m: Off(m, "y", math.nan)})
    assert [s.engine for s in found.wrong] == ["odd"] and found.sides[1].sqnr == -math.inf


def test_infinity_on_both_sides_is_the_networks_own(x: NDArray[np.float32]) -> None:
    class Endless(Reference):
        def run(self, feeds: Feeds) -> dict[str, Any]:
            found = super().run(feeds)
            found["y"][0] = -np.inf
            return found

    found = crosscheck(FLOAT, INTEGER, batches(x, 5), Endless, Endless, {"one": Endless}, layers=False)
    assert not found.wrong and math.isfinite(found.noise)


def test_each_output_has_to_be_right(x: NDArray[np.float32]) -> None:
    """One output of much noise hides none of another: b is exact in the simulation, and off in the engine."""
    float_net, integer = (m.with_outputs(["b"]) for m in (FLOAT, model(with_qdq(chain(), {"y": (0.5, 0)}))))
    found = crosscheck(
        float_net, integer, batches(x, 5), Reference, Reference, {"odd": lambda m: Off(m, "b", 0.05)}, layers=False
    )
    noise = found.sides[0].outputs
    assert noise["y"] < found.sides[1].outputs["b"] < 40 < noise["b"]
    assert [s.engine for s in found.wrong] == ["odd"]


def test_outputs_without_axes() -> None:
    from onnx import helper

    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], "sum", keepdims=0)]
    net = model(build(nodes, [], [("x", ["n", 4])], [("y", [])]))
    found = crosscheck(net, net, batches(np.ones((4, 4), np.float32), 2), Reference, Reference, {"one": Reference})
    assert not found.wrong and found.sides[1].agreement is None


def test_engines_that_keep_floats_show_floats(x: NDArray[np.float32]) -> None:
    asked: list[list[str]] = []

    def ncnn(m: Model) -> Reference:
        asked.append([o.name for o in m.outputs])
        return Reference(m)

    (two,) = crosscheck(FLOAT, INTEGER, batches(x, 5), Reference, Reference, {"ncnn": ncnn}).twos
    assert asked == [["y"], ["y", "a", "b"]]  # x is fed
    assert two.first is None and len(two.values) == 3


def test_who_refuses_takes_no_part(x: NDArray[np.float32]) -> None:
    def refuse(m: Model) -> Reference:
        raise EngineError("no such operator")

    found = crosscheck(FLOAT, INTEGER, batches(x, 5), Reference, Reference, {"odd": refuse, "one": Reference})
    assert [s.engine for s in found.wrong] == ["odd"] and not found.sides[1].ran
    assert len(found.twos) == 1 and "note: odd: no such operator" in found.text() and "not run" in found.text()
    found = crosscheck(FLOAT, INTEGER, batches(x, 5), Reference, Reference, {"odd": refuse}, needed=False)
    assert not found.wrong


def test_who_fails_on_the_data_takes_no_part(x: NDArray[np.float32]) -> None:
    def fail(feeds: Feeds) -> dict[str, Any]:
        raise EngineError("out of luck")

    found = crosscheck(FLOAT, INTEGER, batches(x, 5), Reference, Reference, {"odd": lambda m: Fake(fail)})
    assert found.sides[1].note == "out of luck" and found.twos == ()
    with pytest.raises(EngineError, match="out of luck"):
        crosscheck(FLOAT, INTEGER, batches(x, 5), Reference, lambda m: Fake(fail), {})


def test_who_shows_no_inner_values_is_still_compared(x: NDArray[np.float32]) -> None:
    def shy(m: Model) -> Reference:
        if len(m.outputs) > 1:
            raise EngineError("too many outputs")
        return Reference(m)

    found = crosscheck(FLOAT, INTEGER, batches(x, 5), Reference, Reference, {"shy": shy})
    assert not found.wrong and found.twos[0].values == () and "too many outputs" in found.sides[1].note


def test_an_engine_that_is_missing_is_an_error(x: NDArray[np.float32]) -> None:
    def missing(m: Model) -> Reference:
        raise EngineMissing("Odd", "odd")

    with pytest.raises(EngineMissing, match=r"fewbit\[odd\]"):
        crosscheck(FLOAT, INTEGER, batches(x, 5), Reference, Reference, {"odd": missing})


def test_outputs_only(x: NDArray[np.float32]) -> None:
    found = crosscheck(FLOAT, INTEGER, iter(batches(x, 5)), Reference, Reference, {"one": Reference}, layers=False)
    assert found.twos[0].values == () and not found.notes


def test_nothing_rounded_is_said(x: NDArray[np.float32]) -> None:
    found = crosscheck(FLOAT, FLOAT, batches(x, 5), Reference, Reference, {"one": Reference})
    assert found.noise == math.inf and not found.wrong
    assert found.notes == ("nothing is rounded with fixed scales: only the outputs are compared",)


def test_bad_words_and_data(x: NDArray[np.float32]) -> None:
    with pytest.raises(ConfigError, match="limit is 0"):
        crosscheck(FLOAT, INTEGER, batches(x, 5), Reference, Reference, {}, limit=0)
    with pytest.raises(EmptyData):
        crosscheck(FLOAT, INTEGER, [], Reference, Reference, {})
    with pytest.raises(DataError, match="visited only once"):
        crosscheck(FLOAT, INTEGER, iter(batches(x, 5)), Reference, Reference, {"one": Reference})


def test_classes_are_counted(rng: np.random.Generator) -> None:
    """What agrees is the class of a sample, among (samples, classes)."""
    x = rng.standard_normal((12, 4)).astype(np.float32)

    class Swapped(Reference):
        def run(self, feeds: Feeds) -> dict[str, Any]:
            found = super().run(feeds)
            found["y"][:3] = found["y"][:3, ::-1]
            return found

    found = crosscheck(FLOAT, INTEGER, batches(x, 6), Reference, Reference, {"odd": Swapped}, layers=False)
    y = Reference(INTEGER).run({"x": x})["y"]
    moved = sum(y[i].argmax() != y[i, ::-1].argmax() for i in (0, 1, 2, 6, 7, 8))
    assert found.sides[1].agreement == 1 - moved / 12 and moved > 0


def test_save(x: NDArray[np.float32], tmp_path: Path) -> None:
    found = crosscheck(FLOAT, INTEGER, batches(x / 4, 5), Reference, Reference, {"odd": lambda m: Off(m, "a_q", 1)})
    found.save(tmp_path / "new")
    rows = list(csv.DictReader((tmp_path / "new" / "values.csv").read_text().splitlines()))
    assert [r["name"] for r in rows] == ["x", "a", "b"] and rows[1]["parts"] == "True"
    assert json.loads((tmp_path / "new" / "engines.json").read_text())["twos"][0]["parted"] == "a"


def test_integers_behind_a_clip_have_its_bounds() -> None:
    from onnx import helper, numpy_helper

    proto = with_qdq(chain(), {"a": (0.5, 0)})
    (dq,) = (n for n in proto.graph.node if n.name == "a_dq")
    for name, v in (("least", 0), ("most", 15)):
        proto.graph.initializer.append(numpy_helper.from_array(np.uint8(v), name))
    at = list(proto.graph.node).index(dq)
    dq.input[0] = "a_narrow"
    proto.graph.node.insert(at, helper.make_node("Clip", ["a_q", "least", "most"], ["a_narrow"], "a_clip"))
    (v,) = rounded_values(model(proto))
    assert (v.integers, v.least, v.most) == ("a_narrow", 0, 15)
    assert v.of(np.float32([9.0])).tolist() == [15]


def test_weights_and_channels_are_no_values() -> None:
    from onnx import helper, numpy_helper

    names = (("s", np.float32([1, 2, 3, 4])), ("z", np.uint8([0, 0, 0, 0])))
    consts = [numpy_helper.from_array(v, k) for k, v in names]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q", axis=1),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "dq", axis=1),
    ]
    assert rounded_values(model(build(nodes, consts, [("x", ["n", 4])], [("y", ["n", 4])]))) == []

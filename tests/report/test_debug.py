"""Debug tables: every cell against a naive computation, for all kinds of quantizing; one batch in memory at a time."""

from __future__ import annotations

import csv
import math
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fewbit.engines  # noqa: F401  targets register themselves
from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.core.runner import Feeds
from fewbit.core.spec import QuantSpec
from fewbit.core.target import TARGETS
from fewbit.data.base import Batch
from fewbit.errors import ConfigError, DataError, EngineError, FewbitWarning, ModelError, OutputError
from fewbit.graph.emit import emit_qdq
from fewbit.graph.files import to_bytes
from fewbit.graph.model import Model
from fewbit.quantization.plan import make_plan
from fewbit.quantization.weight_only import make_weight_plan
from fewbit.report.debug import check_folder, write_debug
from fewbit.report.debug_stats import at_run_time, change, stats
from fewbit.report.debug_tables import PARAMS, ROUND, SUMMARY
from tests.models import concat, conv_relu, feeds_for, load, matmul, plan_for, run
from tests.report.helpers import Fake, detector, model

Array = Any
Rows = list[dict[str, str]]
NUMBERS = ("Min", "Q1", "Median", "Q3", "Max", "Mean", "Var", "Sparsity", "Clip", "CosineSimilarity")


class Engine(Fake):
    """Runs a network as it is written: nothing is merged."""

    def __init__(self, network: Model) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.names = [o.name for o in network.outputs]
        self.session = ort.InferenceSession(to_bytes(network), options, providers=["CPUExecutionProvider"])

    def run(self, feeds: Feeds) -> dict[str, Array]:
        return dict(zip(self.names, self.session.run(self.names, dict(feeds)), strict=True))


def data(network: Model, count: int = 3) -> list[Batch]:
    return [Batch(feeds_for(network, i), None, i, [f"{i}a", f"{i}b"]) for i in range(count)]


def naive(original: Array, dequantized: Array) -> tuple[list[float], list[float]]:
    """Both lines of a tensor, number by number."""
    a, b = ([float(v) for v in x.ravel()] for x in (original, dequantized))

    def one(values: list[float], clip: float, angle: float) -> list[float]:
        ordered, n = sorted(values), len(values)
        mean = math.fsum(values) / n
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / n)
        quartiles = [ordered[int(q * n)] for q in (0.25, 0.5, 0.75)]
        return [ordered[0], *quartiles, ordered[-1], mean, std, values.count(0.0) / n, clip, angle]

    clip = sum(v < min(b) or v > max(b) for v in a) / len(a)
    length = math.sqrt(math.fsum(v * v for v in a)) * math.sqrt(math.fsum(v * v for v in b))
    angle = math.fsum(v * w for v, w in zip(a, b, strict=True)) / length
    return one(a, 0, 1), one(b, clip, angle)


def assert_pair(rows: Rows, at: int, names: str, original: Array, dequantized: Array) -> None:
    """Lines `at` and `at + 1` tell of this tensor; `names`: node, operator, tensor, Input or Output, kind."""
    for i, (flag, numbers) in enumerate(zip(("Origin", "Dequant"), naive(original, dequantized), strict=True)):
        row = rows[at + i]
        node, op, tensor, side, kind = names.split()
        told = [row[k] for k in ("NodeName", "NodeType", "TensorName", "InOutFlag", "DataTypeFlag", "TensorTypeFlag")]
        assert told == [node, op, tensor, side, flag, kind] and row[""] == str(at + i)
        assert [float(row[k]) for k in NUMBERS] == pytest.approx(numbers, rel=5e-6, abs=1e-6)


def rows_of(path: Path) -> Rows:
    """The lines of a table by column; the one without a name is their number."""
    lines = path.read_text("utf-8").splitlines()
    head = lines[0].split(",")
    assert all(line.endswith(",") for line in lines)
    return [dict(zip(head[:-1], line.split(",")[:-1], strict=True)) for line in lines[1:]]


# -- the columns ------------------------------------------------------------------------------------------------------


def test_headers_are_those_of_mindspore_lite(tmp_path: Path) -> None:
    network = load(conv_relu())
    plan = plan_for(network)
    write_debug(network, emit_qdq(network, plan), plan, data(network), Engine, tmp_path / "d")
    first = {f.name: f.read_text("utf-8").split("\n")[0] for f in (tmp_path / "d").iterdir() if f.suffix == ".csv"}
    wide = (
        ",NodeName,NodeType,TensorName,InOutFlag,DataTypeFlag,TensorTypeFlag,Min,Q1,Median,Q3,Max,Mean,Var,Sparsity,"
        "Clip,CosineSimilarity,"
    )
    assert first == {
        "round_0.csv": wide,
        "round_1.csv": wide,
        "round_2.csv": wide,
        "quant_param.csv": (
            "NodeName,NodeType,TensorName,ElementsNum,Dims,Scale,ZeroPoint,Bits,CorrectionVar,CorrectionMean,"
        ),
        "output_summary.csv": "Round,TensorName,CosineSimilarity,",
    }
    assert wide == ROUND and first["quant_param.csv"] == PARAMS and first["output_summary.csv"] == SUMMARY


@settings(max_examples=40)
@given(
    hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-4, 4, width=32) | st.just(0.0)),
    st.floats(-0.5, 0.5, width=32),
)
def test_statistics_are_those_of_a_sorted_list(x: Array, shift: float) -> None:
    y = np.clip(x + np.float32(shift), -2, 2)
    wanted = naive(x, y) if x.any() and y.any() else None
    clip, cosine = change(x, y)
    found = [*stats(y).cells(), clip, cosine]
    if wanted is not None:
        assert found == pytest.approx(wanted[1], rel=1e-5, abs=1e-6)
    assert stats(x).min == x.min() and stats(x).sparsity == np.mean(x == 0)


def test_statistics_of_what_has_no_values_or_no_numbers() -> None:
    assert all(math.isnan(v) for v in stats(np.zeros((0, 3), np.float32)).cells())
    assert change(np.zeros(0, np.float32), np.zeros(0, np.float32)) == (0.0, 1.0)
    bad = np.array([1, np.nan, 2], np.float32)
    assert math.isnan(stats(bad).max) and math.isnan(change(np.ones(3, np.float32), bad)[1])
    assert stats(bad).sparsity == 0


# -- the three kinds --------------------------------------------------------------------------------------------------


def test_full_quantization_cell_by_cell(tmp_path: Path) -> None:
    network = load(conv_relu())
    plan, batches = plan_for(network), data(network)
    done = write_debug(network, emit_qdq(network, plan), plan, batches, Engine, tmp_path)
    w = weight_of(network, "w")
    scale = np.abs(w).reshape(4, -1).max(1) / np.float32(127)
    w_seen = np.clip(np.rint(w / scale[:, None, None, None]), -127, 127) * scale[:, None, None, None]
    cosines = []
    for n, batch in enumerate(batches):
        rows = rows_of(tmp_path / f"round_{n}.csv")
        x = batch.feeds["x"]
        s, z = affine(plan, "x")
        x_seen = ((np.clip(np.rint(x / s) + z, 0, 255) - z) * s).astype(np.float32)
        y, y_seen = run(network, batch.feeds)["y"], Engine(emit_qdq(network, plan)).run(batch.feeds)["y"]
        assert len(rows) == 6
        assert_pair(rows, 0, "conv Conv x Input Activation", x, x_seen)
        assert_pair(rows, 2, "conv Conv w Input Weight", w, w_seen.astype(np.float32))
        assert_pair(rows, 4, "conv Conv y Output Activation", y, y_seen)
        cosines.append(float(rows[5]["CosineSimilarity"]))
    summary = rows_of(tmp_path / "output_summary.csv")
    assert [(r["Round"], r["TensorName"]) for r in summary] == [(str(n), "y") for n in range(3)]
    assert [float(r["CosineSimilarity"]) for r in summary] == pytest.approx(cosines)
    assert (done.rounds, done.tensors, done.cosine) == (3, 3, pytest.approx(min(cosines)))
    params = rows_of(tmp_path / "quant_param.csv")
    assert [r["TensorName"] for r in params] == ["x", "w", "w", "w", "w", "y"]
    assert {r["NodeName"] for r in params} == {"conv"} and {r["Bits"] for r in params} == {"8"}
    assert [float(r["Scale"]) for r in params[1:5]] == pytest.approx(list(scale), rel=1e-7)
    assert (float(params[0]["Scale"]), float(params[0]["ZeroPoint"])) == pytest.approx(affine(plan, "x"))
    assert (params[1]["ElementsNum"], params[1]["Dims"].split()) == ("108", ["4", "3", "3", "3"])
    assert (params[0]["ElementsNum"], params[0]["Dims"].split()) == ("-1", ["-1", "3", "6", "6"])
    assert {(r["CorrectionVar"], r["CorrectionMean"]) for r in params} == {("1", "0")}
    assert Plan.load(tmp_path / "plan.json") == plan


def weight_of(network: Model, name: str) -> Array:
    return np.asarray(network.values()[name].const_value.numpy())


def affine(plan: Plan, name: str) -> tuple[Any, Any]:
    """Scale and zero point of an unsigned activation."""
    lo, hi = min(plan.values[name].lo or 0, 0), max(plan.values[name].hi or 0, 0)
    s = np.float32((hi - lo) / 255)
    return s, np.clip(np.rint(-lo / ((hi - lo) / 255)), 0, 255)


def test_each_round_has_the_range_that_it_really_had(tmp_path: Path) -> None:
    network = load(matmul())
    plan = make_plan(network, QuantConfig(quant_type="dynamic", quantize_mode="full"), TARGETS["onnxruntime"])
    batches = data(network)
    batches[1].feeds["x"] *= 10
    integer = emit_qdq(network, plan)
    write_debug(network, integer, plan, batches, Engine, tmp_path)
    steps = []
    for n, batch in enumerate(batches):
        x = batch.feeds["x"]
        lo, hi = min(x.min(), 0), max(x.max(), 0)
        s = np.float32((hi - lo) / np.float32(255))
        z = np.clip(np.rint(-lo / s), 0, 255)
        seen = ((np.clip(np.rint(x / s) + z, 0, 255) - z) * s).astype(np.float32)
        rows = rows_of(tmp_path / f"round_{n}.csv")
        assert_pair(rows, 0, "mm MatMul x Input Activation", x, seen)
        y = run(network, batch.feeds)["y"]
        assert_pair(rows, 4, "mm MatMul y Output Activation", y, Engine(integer).run(batch.feeds)["y"])
        steps.append(s)
    assert steps[1] > 5 * steps[0]
    assert {r["TensorName"] for r in rows_of(tmp_path / "quant_param.csv")} == {"w"}


@pytest.mark.parametrize("axis", [-2, -1])
def test_rows_and_columns_have_ranges_of_their_own(axis: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 3, 4)).astype(np.float32) * np.array([1, 10, 100], np.float32)[:, None]
    spec = QuantSpec(8, signed=True, symmetric=True, narrow=True, granularity="channel", axis=axis, dynamic=True)
    wanted = np.empty_like(x)
    for i in range(2):
        for j in range(x.shape[axis]):
            where = (i, j) if axis == -2 else (i, slice(None), j)
            s = np.float32(np.abs(x[where]).max() / np.float32(127))
            wanted[where] = np.rint(x[where] / s) * s
    assert np.allclose(at_run_time(spec, x), wanted, rtol=1e-6)
    bad = np.array([[np.inf, 1]], np.float32)
    assert np.array_equal(at_run_time(spec, bad), bad)


def test_weights_in_few_bits_cell_by_cell(tmp_path: Path) -> None:
    network = load(matmul(k=64, n=16, opset=21))
    plan = make_weight_plan(network, QuantConfig(quant_type="weight", bit_num=5), TARGETS["onnxruntime"])
    gain, offset = tuple(1 + 0.01 * i for i in range(16)), tuple(0.001 * i for i in range(16))
    plan = replace(plan, values={"w": replace(plan.values["w"], gain=gain, offset=offset)})
    batches = data(network, 2)
    integer = emit_qdq(network, plan)
    write_debug(network, integer, plan, batches, Engine, tmp_path)
    w = weight_of(network, "w")
    params = rows_of(tmp_path / "quant_param.csv")
    scale = np.array([float(r["Scale"]) for r in params], np.float32)
    assert scale == pytest.approx((w.max(0) - w.min(0)) / 31, rel=2e-3) and {r["Bits"] for r in params} == {"5"}
    zero = np.array([int(r["ZeroPoint"]) for r in params])
    seen = (np.clip(np.rint(w / scale) + zero, -16, 15) - zero) * (scale * np.float32(gain)) + np.float32(offset)
    assert [float(r["CorrectionVar"]) for r in params] == pytest.approx(gain)
    assert [float(r["CorrectionMean"]) for r in params] == pytest.approx(offset, abs=1e-9)
    for n, batch in enumerate(batches):
        rows = rows_of(tmp_path / f"round_{n}.csv")
        assert len(rows) == 6
        assert_pair(rows, 0, "mm MatMul x Input Activation", batch.feeds["x"], batch.feeds["x"])
        assert_pair(rows, 2, "mm MatMul w Input Weight", w, seen.astype(np.float32))
        y = run(network, batch.feeds)["y"]
        assert_pair(rows, 4, "mm MatMul y Output Activation", y, (batch.feeds["x"] @ seen).astype(np.float32))


def test_without_data_only_weights_are_told_of(tmp_path: Path) -> None:
    network = load(conv_relu())
    plan = plan_for(network)
    with pytest.warns(FewbitWarning, match="there was no data: the tables in .* tell of weights only"):
        done = write_debug(network, emit_qdq(network, plan), plan, [], Engine, tmp_path / "d")
    assert (done.rounds, done.cosine) == (0, None)
    assert (tmp_path / "d" / "output_summary.csv").read_text() == SUMMARY + "\n"
    rows = rows_of(tmp_path / "d" / "round_0.csv")
    assert [(r["TensorName"], r["DataTypeFlag"]) for r in rows] == [("w", "Origin"), ("w", "Dequant")]
    assert len(rows_of(tmp_path / "d" / "quant_param.csv")) == 6


# -- which tensors ----------------------------------------------------------------------------------------------------


def test_lines_follow_the_graph_and_each_reader_has_its_own(tmp_path: Path) -> None:
    network = load(concat())
    plan = plan_for(network)
    write_debug(network, emit_qdq(network, plan), plan, data(network, 1), Engine, tmp_path)
    rows = rows_of(tmp_path / "round_0.csv")
    told = [(r["NodeName"], r["TensorName"], r["InOutFlag"]) for r in rows if r["DataTypeFlag"] == "Dequant"]
    conv = [
        (f"conv{i}", t, f)
        for i, y in ((1, "a"), (2, "b"))
        for t, f in (("x", "Input"), (f"w{i}", "Input"), (y, "Output"))
    ]
    assert told == [*conv, ("cat", "a", "Input"), ("cat", "b", "Input"), ("cat", "y", "Output")]
    assert [r[""] for r in rows] == [str(i) for i in range(18)]
    same = [[r[k] for k in NUMBERS] for r in rows if r["TensorName"] == "a" and r["DataTypeFlag"] == "Dequant"]
    assert len(same) == 2 and same[0] == same[1]


def test_layers_in_float_are_left_out(tmp_path: Path) -> None:
    network = load(concat())
    plan = plan_for(network, exclude_layers=("conv2", "cat"))
    write_debug(network, emit_qdq(network, plan), plan, data(network, 1), Engine, tmp_path)
    assert {r["NodeName"] for r in rows_of(tmp_path / "round_0.csv")} == {"conv1"}


def test_rows_that_the_data_ranks_are_no_outputs(tmp_path: Path, rng: np.random.Generator) -> None:
    network = model(detector())
    batch = Batch({"x": rng.random((1, 6, 4)).astype(np.float32)}, None, 0, ["a"])
    write_debug(network, network.clone(), Plan({}, {}), [batch], Engine, tmp_path)
    told = [r["TensorName"] for r in rows_of(tmp_path / "output_summary.csv")]
    assert "found" not in told and {"scores", "boxes"} <= set(told)


def test_names_with_commas_are_quoted(tmp_path: Path) -> None:
    network = load(conv_relu())
    network.node("conv").name = "a,b"
    plan = plan_for(network)
    write_debug(network, emit_qdq(network, plan), plan, data(network, 1), Engine, tmp_path)
    found = list(csv.reader((tmp_path / "round_0.csv").read_text().splitlines()))
    assert {len(r) for r in found} == {18} and found[1][1] == "a,b"


def test_a_value_that_is_not_finite_is_told(tmp_path: Path) -> None:
    network = load(matmul())
    plan = plan_for(network)
    batches = data(network, 2)

    class Broken(Engine):
        def run(self, feeds: Feeds) -> dict[str, Array]:
            return {k: v * np.float32(np.nan) if feeds is not batches[0] else v for k, v in super().run(feeds).items()}

    done = write_debug(network, emit_qdq(network, plan), plan, batches, Broken, tmp_path)
    assert done.cosine is not None and math.isnan(done.cosine)
    assert rows_of(tmp_path / "round_1.csv")[-1]["CosineSimilarity"] == "nan"


# -- memory -----------------------------------------------------------------------------------------------------------


class Stream:
    """Batches made on demand, that see to it that the one before is gone and its lines are written."""

    def __init__(self, network: Model, count: int, folder: Path) -> None:
        self.network, self.count, self.folder = network, count, folder
        self.passes, self.lines = 0, []  # type: ignore[var-annotated]

    def __iter__(self) -> Iterator[Batch]:
        self.passes += 1
        alive: Any = lambda: None  # noqa: E731
        for n in range(self.count):
            assert alive() is None, "an array outlives its batch"
            x = feeds_for(self.network, n)["x"]
            alive = weakref.ref(x)
            batch = Batch({"x": x}, None, n, ["a", "b"])
            del x
            yield batch
            del batch
            (part,) = [f for f in self.folder.iterdir() if f.name.startswith(".fewbit-")]
            self.lines.append(len((part / f"round_{n}.csv").read_text().splitlines()))


def test_one_batch_is_in_memory_and_lines_are_written_as_they_come(tmp_path: Path) -> None:
    network = load(concat())
    plan = plan_for(network)
    stream = Stream(network, 4, tmp_path)
    write_debug(network, emit_qdq(network, plan), plan, stream, Engine, tmp_path)
    assert stream.passes == 1 and stream.lines[1:] == [19, 19, 19]  # the first batch decides on the groups


def test_layers_in_groups_give_the_same_tables(tmp_path: Path) -> None:
    network = load(conv_relu(size=160))  # values of 0.6 and 0.8 MiB
    plan, batches = plan_for(network), data(network, 2)
    integer = emit_qdq(network, plan)
    opened: list[int] = []

    def opening(m: Model) -> Engine:
        opened.append(len(m.outputs))
        return Engine(m)

    write_debug(network, integer, plan, batches, opening, tmp_path / "whole")
    whole = len(opened)
    write_debug(network, integer, plan, batches, opening, tmp_path / "parts", memory_limit=1)
    assert len(opened) - whole > whole
    for file in sorted((tmp_path / "whole").iterdir()):
        assert file.read_text() == (tmp_path / "parts" / file.name).read_text(), file.name


def test_groups_need_data_that_can_be_visited_again(tmp_path: Path) -> None:
    network = load(conv_relu(size=160))
    plan, batches = plan_for(network), data(network, 2)
    integer = emit_qdq(network, plan)
    for rounds in (None, 1):
        with pytest.raises(
            DataError, match=r"need 2 passes over the data, which can be visited only once.*memory_limit"
        ):
            write_debug(network, integer, plan, iter(batches), Engine, tmp_path / "d", memory_limit=1, rounds=rounds)

    class Shrinking(list[Batch]):
        def __iter__(self) -> Iterator[Batch]:
            self.pop()
            return super().__iter__()

    with pytest.raises(DataError, match="had 2 batches on its first pass and 1 on pass 2"):
        shrinking = Shrinking([*batches, batches[0]])
        write_debug(network, integer, plan, shrinking, Engine, tmp_path / "d", memory_limit=1)
    assert not (tmp_path / "d").exists()


# -- files ------------------------------------------------------------------------------------------------------------


def test_rounds_limit_the_data_and_older_tables_go(tmp_path: Path) -> None:
    network = load(conv_relu())
    plan = plan_for(network)
    integer = emit_qdq(network, plan)
    write_debug(network, integer, plan, data(network), Engine, tmp_path)
    (tmp_path / "round_x.csv").write_text("mine")
    for batches in (data(network), iter(data(network))):
        assert write_debug(network, integer, plan, batches, Engine, tmp_path, rounds=2).rounds == 2
        names = sorted(f.name for f in tmp_path.iterdir())
        assert names == [
            "output_summary.csv", "plan.json", "quant_param.csv", "round_0.csv", "round_1.csv", "round_x.csv"
        ]  # fmt: skip
    assert len(rows_of(tmp_path / "output_summary.csv")) == 2


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    network = load(conv_relu())
    plan = plan_for(network)
    integer = emit_qdq(network, plan)

    class Failing(Engine):
        def run(self, feeds: Feeds) -> dict[str, Array]:
            if feeds["x"][0, 0, 0, 0] == data(network)[1].feeds["x"][0, 0, 0, 0]:
                raise EngineError("no")
            return super().run(feeds)

    with pytest.raises(EngineError):
        write_debug(network, integer, plan, data(network), Failing, tmp_path / "a" / "b")
    assert not (tmp_path / "a" / "b").exists()
    write_debug(network, integer, plan, data(network, 1), Engine, tmp_path / "c")
    before = {f.name: f.read_bytes() for f in (tmp_path / "c").iterdir()}
    with pytest.raises(EngineError):
        write_debug(network, integer, plan, data(network), Failing, tmp_path / "c")
    assert {f.name: f.read_bytes() for f in (tmp_path / "c").iterdir()} == before


def test_mistakes_are_refused(tmp_path: Path) -> None:
    network = load(conv_relu())
    plan = plan_for(network)
    integer = emit_qdq(network, plan)
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OutputError, match=r"cannot write debug tables to .*file: it is a file; debug_info_save_path must"
    ):
        write_debug(network, integer, plan, data(network), Engine, tmp_path / "file")
    check_folder(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()
    with pytest.raises(OutputError, match=r"tables to .*file/below: .*file is a file; debug_info_save_path must name"):
        check_folder(tmp_path / "file" / "below")
    for words in ({"rounds": 0}, {"memory_limit": 0}):
        with pytest.raises(ConfigError, match="is 0; it must be 1 or more"):
            write_debug(network, integer, plan, data(network), Engine, tmp_path, **words)

    class Cut(Engine):
        def __init__(self, given: Model) -> None:
            super().__init__(given)
            self.most = None if "x_q" not in given.values() else 1

        def run(self, feeds: Feeds) -> dict[str, Array]:
            return {k: v[: self.most] for k, v in super().run(feeds).items()}

    with pytest.raises(ModelError, match=r"value '\w+' has shape \(2, .*\) in the float network and \(1, "):
        write_debug(network, integer, plan, data(network), Cut, tmp_path / "d")

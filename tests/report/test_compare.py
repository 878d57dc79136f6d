from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from fewbit.core.runner import Feeds
from fewbit.data.base import Batch
from fewbit.errors import ConfigError, DataError, EmptyData, ModelError, OutputError, UnknownName
from fewbit.graph.model import Model
from fewbit.report.compare import compare
from fewbit.report.comparison import Comparison, LayerError
from tests.report.helpers import Fake, Reference, batches, chain, golden, model, with_qdq

FORMATS = {"x": (0.03, 128), "a": (0.02, 128), "b": (0.05, 128), "y": (0.04, 0)}


@pytest.fixture
def x(rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.standard_normal((12, 4)).astype(np.float32)


@pytest.fixture
def pair() -> tuple[Model, Model]:
    return model(chain()), model(with_qdq(chain(), FORMATS))


def fake_quantize(v: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    s, z = FORMATS[name]
    return ((np.clip(np.rint(v / np.float32(s)) + z, 0, 255) - z) * np.float32(s)).astype(np.float32)


def test_the_numbers_are_those_of_a_direct_computation(pair: tuple[Model, Model], x: NDArray[np.float32]) -> None:
    found = {e.name: e for e in compare(*pair, batches(x, 5), Reference).layers}
    a = x + 1
    a_q = fake_quantize(fake_quantize(x, "x") + 1, "a")
    s, z = FORMATS["a"]
    error = a.astype(np.float64) - a_q
    assert found["a"].sqnr == pytest.approx(10 * math.log10((a.astype(float) ** 2).sum() / (error**2).sum()), rel=1e-5)
    assert found["a"].cosine == pytest.approx((a * a_q).sum() / np.sqrt((a**2).sum() * (a_q**2).sum()), rel=1e-5)
    assert found["a"].max_abs == pytest.approx(np.abs(error).max(), rel=1e-5)
    assert found["a"].clip == np.mean((a < -z * s) | (a > (255 - z) * s)) > 0
    assert (found["a"].op, found["a"].node) == ("Add", "add") and found["x"].op == "Input"


def test_worst_comes_first(pair: tuple[Model, Model], x: NDArray[np.float32]) -> None:
    c = compare(*pair, batches(x, 4), Reference)
    sqnr = [e.sqnr for e in c.layers]
    assert len(sqnr) == 4 and sqnr == sorted(sqnr)
    assert c.worst(2) == list(c.layers[:2])


@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize("limit", [1, 512])
def test_batches_and_groups_do_not_change_the_numbers(x: NDArray[np.float32], size: int, limit: int) -> None:
    wide = np.tile(x[:4], (1, 1 << 15))  # 0.5 MiB a row: some values are over 1 MiB
    f, q = (model(p) for p in (wide_chain(), with_qdq(wide_chain(), FORMATS)))
    c = compare(f, q, batches(wide, size), Reference, memory_limit=limit)
    ref = compare(f, q, batches(wide, 4), Reference)
    assert [e.name for e in c.layers] == [e.name for e in ref.layers]
    for a, b in zip(c.layers, ref.layers, strict=True):
        assert (a.sqnr, a.cosine, a.clip) == pytest.approx((b.sqnr, b.cosine, b.clip))
        assert a.max_abs == b.max_abs


def wide_chain():  # type: ignore[no-untyped-def]
    proto = chain()
    for v in (*proto.graph.input, *proto.graph.output):
        v.type.tensor_type.shape.dim[1].dim_value = 4 << 15
    return proto


class Spy(Reference):
    """Counts what is opened; a network that shows inner values answers with wrong outputs."""

    opened: ClassVar[list[list[str]]] = []

    def __init__(self, network: Model) -> None:
        super().__init__(network)
        Spy.opened.append(self.names)

    def run(self, feeds: Feeds):  # type: ignore[no-untyped-def]
        found = super().run(feeds)
        return found | {"y": found["y"] * 1000} if len(self.names) > 1 else found


def test_the_end_is_measured_on_the_networks_as_they_are(pair: tuple[Model, Model], x: NDArray[np.float32]) -> None:
    Spy.opened = []
    c = compare(*pair, batches(x, 4), Spy)
    assert sorted(map(len, Spy.opened)) == [1, 1, 3, 4]
    assert c.outputs[0].max_abs < 1 and c.outputs[0].name == "y"
    assert compare(*pair, batches(x, 4), Reference).outputs == c.outputs


def test_outputs_alone_need_two_networks_and_one_pass(pair: tuple[Model, Model], x: NDArray[np.float32]) -> None:
    Spy.opened = []
    c = compare(*pair, iter(batches(x, 4)), Spy, layers=False)
    assert len(Spy.opened) == 2 and c.layers == () and c.batches == 3 and not c.notes
    assert c.cosine == c.outputs[0].cosine and c.sqnr == c.outputs[0].sqnr


def test_equal_networks_are_equal(x: NDArray[np.float32]) -> None:
    c = compare(model(chain()), model(chain()), batches(x, 4), Reference)
    assert c.sqnr == math.inf and c.cosine == 1
    assert {(e.sqnr, e.max_abs, e.clip, e.own) for e in c.layers} == {(math.inf, 0.0, None, math.inf)}
    assert c.suspects() == []


def test_a_suspect_is_who_adds_noise_not_who_inherits_it(x: NDArray[np.float32]) -> None:
    q = model(with_qdq(chain(), {"a": (0.25, 128), "b": (0.0499, 128), "y": (0.0498, 0)}))
    c = compare(model(chain()), q, batches(x, 4), Reference)
    assert [e.node for e in c.suspects(1)] == ["add"]
    own = {e.name: e.own for e in c.layers}
    assert own["a"] == next(e.sqnr for e in c.layers if e.name == "a")  # what it reads is exact
    assert own["b"] is not None and own["a"] is not None and own["b"] > own["a"] + 10


def test_noise_passes_through_values_that_are_not_compared(x: NDArray[np.float32]) -> None:
    q = model(with_qdq(chain(), {"a": (0.25, 128)}))
    c = compare(model(chain()), q, batches(x, 4), Reference, pairs=[("a", "a_dq"), ("y", "y")])
    own = {e.name: e.own for e in c.layers}
    assert own["a"] is not None and (own["y"] is None or own["y"] > own["a"])


def test_nan_comes_before_all_and_is_never_a_good_cosine(pair: tuple[Model, Model], x: NDArray[np.float32]) -> None:
    def broken(network: Model) -> Fake:
        inner = Reference(network)
        quantized = any(n.op_type == "QuantizeLinear" for n in network.nodes)

        def run(feeds: Feeds):  # type: ignore[no-untyped-def]
            found = inner.run(feeds)
            return {k: v * np.nan for k, v in found.items()} if quantized else found

        return Fake(run)

    c = compare(*pair, batches(x, 4), broken)
    assert c.cosine is not None and math.isnan(c.cosine) and c.sqnr is not None and math.isnan(c.sqnr)
    assert math.isnan(c.layers[0].sqnr) and math.isnan(c.layers[0].max_abs) and c.layers[0].own is None
    assert json.loads(json.dumps(c.to_json(), allow_nan=False))["cosine"] == "nan"


def test_outputs_of_whole_numbers_are_counted_not_measured(x: NDArray[np.float32]) -> None:
    def open_(network: Model) -> Fake:
        quantized = any(n.op_type == "QuantizeLinear" for n in network.nodes)
        return Fake(lambda feeds: {"y": np.array([1, 2, 3, 4 + quantized])})

    f, q = model(chain()), model(with_qdq(chain(), {"x": (0.1, 0)}))
    c = compare(f, q, batches(x, 12), open_, layers=False)
    assert c.outputs == () and c.cosine is None and c.sqnr is None
    assert c.notes == ("output y holds whole numbers: 75.00% of them are equal",)


def test_limit_stops(pair: tuple[Model, Model], x: NDArray[np.float32]) -> None:
    assert compare(*pair, batches(x, 4), Reference, limit=2).batches == 2


def test_named_pairs_are_the_only_ones(pair: tuple[Model, Model], x: NDArray[np.float32]) -> None:
    c = compare(*pair, batches(x, 4), Reference, pairs=[("b", "b_dq")])
    assert [e.name for e in c.layers] == ["b"]
    with pytest.raises(UnknownName, match="'bb'"):
        compare(*pair, batches(x, 4), Reference, pairs=[("bb", "b_dq")])


def test_networks_without_a_common_value_say_so(x: NDArray[np.float32]) -> None:
    c = compare(model(chain()), model(chain()), batches(x, 4), Reference, pairs=[])
    assert c.layers == () and "name what belongs together with pairs" in c.notes[0]


def test_no_data_other_outputs_bad_numbers(pair: tuple[Model, Model], x: NDArray[np.float32]) -> None:
    with pytest.raises(EmptyData, match="holds no batch"):
        compare(*pair, [], Reference)
    with pytest.raises(ModelError, match="answers with y, the quantized one with y, a"):
        compare(pair[0], model(chain(extra=("a",))), batches(x, 4), Reference)
    with pytest.raises(ConfigError, match="limit is 0"):
        compare(*pair, batches(x, 4), Reference, limit=0)
    with pytest.raises(ConfigError, match="memory_limit is 0"):
        compare(*pair, batches(x, 4), Reference, memory_limit=0)


def test_shapes_that_differ_name_the_value(pair: tuple[Model, Model], x: NDArray[np.float32]) -> None:
    def open_(network: Model) -> Fake:
        n = 3 if any(n.op_type == "QuantizeLinear" for n in network.nodes) else 4
        return Fake(lambda feeds: {"y": np.zeros((n, 4), np.float32)})

    with pytest.raises(ModelError, match=r"'y' has shape \(4, 4\).*\(3, 4\).*pairs"):
        compare(*pair, batches(x, 4), open_, layers=False)


def test_data_that_can_be_visited_once_is_refused_if_it_is_needed_twice(x: NDArray[np.float32]) -> None:
    wide = np.tile(x[:4], (1, 1 << 15))
    f, q = (model(p) for p in (wide_chain(), with_qdq(wide_chain(), FORMATS)))
    with pytest.raises(DataError, match=r"4 passes .* visited only once.*memory_limit \(it is 1 MiB\)"):
        compare(f, q, iter(batches(wide, 1)), Reference, memory_limit=1)


class Shrinking:
    """Gives one batch less on every pass."""

    def __init__(self, found: list[Batch]) -> None:
        self.found = found

    def __iter__(self) -> Iterator[Batch]:
        self.found = self.found[:-1]
        return iter(self.found)


def test_data_that_changes_between_passes_is_refused(x: NDArray[np.float32]) -> None:
    wide = np.tile(x[:4], (1, 1 << 15))
    f, q = (model(p) for p in (wide_chain(), with_qdq(wide_chain(), FORMATS)))
    with pytest.raises(DataError, match=r"3 batches on its first pass and 2 on pass 2"):
        compare(f, q, Shrinking(batches(wide, 1)), Reference, memory_limit=1)


# -- text and files ---------------------------------------------------------------------------------------------------


@pytest.fixture
def told() -> Comparison:
    return Comparison(
        layers=(
            LayerError("logits", "Gemm", "fc", 12.34, 0.97123, 0.5, 0.0123, 14.5),
            LayerError("r1", "Relu", "a_block_with_a_rather_long_name/relu", math.inf, 1.0, 0.0, None, math.inf),
        ),
        outputs=(LayerError("logits", "Gemm", "fc", 12.34, 0.97123, 0.5),),
        batches=3,
        notes=("output index holds whole numbers: 99.00% of them are equal",),
    )


def test_text(told: Comparison) -> None:
    golden("compare", told.text())


def test_saved_tables_read_back(told: Comparison, tmp_path: Path) -> None:
    told.save(tmp_path / "new" / "debug")
    folder = tmp_path / "new" / "debug"
    assert sorted(p.name for p in folder.iterdir()) == ["layers.csv", "outputs.csv", "summary.json"]
    rows = list(csv.DictReader((folder / "layers.csv").read_text("utf-8").splitlines()))
    texts = {"name", "op", "node"}
    read = [{k: v if k in texts else float(v) if v else None for k, v in r.items()} for r in rows]
    assert read == [vars(e) for e in told.layers]
    found = json.loads((folder / "summary.json").read_text("utf-8"))
    assert found["sqnr"] == 12.34 and found["worst"] == ["logits", "r1"] and found["suspects"] == ["fc"]


def test_saving_over_a_file_leaves_it_alone(told: Comparison, tmp_path: Path) -> None:
    (tmp_path / "debug").write_text("mine")
    with pytest.raises(OutputError, match="debug"):
        told.save(tmp_path / "debug")
    assert (tmp_path / "debug").read_text() == "mine"


def test_nothing_is_left_if_a_table_cannot_be_written(
    told: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def full(self: Path, *args: str) -> int:
        if self.name == "outputs.csv":
            raise OSError(28, "No space left on device")
        return write(self, *args)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="No space left"):
        told.save(tmp_path)
    assert list(tmp_path.iterdir()) == []

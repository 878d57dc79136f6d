from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np
import pytest

from fewbit.core.plan import NodePlan, Plan
from fewbit.core.runner import Feeds, NodeTime
from fewbit.data.base import Batch
from fewbit.errors import EmptyData, EngineError
from fewbit.graph.model import Model
from fewbit.report.verify import verify_quantized
from tests.report.helpers import Reference, batches, chain, model, with_qdq

PLAN = Plan({}, {name: NodePlan(True, "core operator") for name in ("add", "mul", "relu")})


class Slow(Reference):
    """Takes `seconds` for a run with Q/DQ in it, and 2 ms for one without; counts what is opened."""

    seconds = 0.0
    opened: ClassVar[list[list[str]]] = []

    def __init__(self, network: Model) -> None:
        super().__init__(network)
        self.integer = any(n.op_type == "QuantizeLinear" for n in network.nodes)
        Slow.opened.append(self.names)

    def run(self, feeds: Feeds) -> Any:
        time.sleep(self.seconds if self.integer else 2e-3)
        return super().run(feeds)

    def profile(self, feeds: Feeds, repeat: int = 10) -> list[NodeTime]:
        return [NodeTime("mul", "Mul", "u8", 1e6 * self.seconds if self.integer else 2e3)]


@pytest.fixture
def data(rng: np.random.Generator) -> list[Batch]:
    return batches(rng.standard_normal((6, 4)).astype(np.float32), 3)


def quantized(scale: float) -> Model:
    return model(with_qdq(chain(), {"b": (scale, 128), "y": (0.05, 0)}))


def verify(data: list[Batch], seconds: float, scale: float, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(Slow, "seconds", seconds)
    Slow.opened = []
    return verify_quantized(model(chain()), quantized(scale), PLAN, data, Slow, seconds=0.01)


def test_a_fast_and_close_network_passes(data: list[Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    r = verify(data, 0.0, 0.05, monkeypatch)
    assert r.cosine > 0.98 and not r.off and r.latency is not None and r.latency.batch == 3
    assert r.latency.ratio < 1 and not r.slower and r.slowest == () and r.worst == ()
    assert Slow.opened == [["y"], ["y"]]  # each network once: what is fine is not looked into


def test_a_network_that_is_off_names_its_layers(data: list[Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    r = verify(data, 0.0, 0.0005, monkeypatch)
    assert r.off and r.worst and r.suspects[0] == "mul"
    assert any("exclude_layers = mul" in a for a in r.advice())


def test_a_slow_network_names_its_layers(data: list[Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    r = verify(data, 6e-3, 0.05, monkeypatch)
    assert r.slower and [row.layer for row in r.slowest] == ["mul"]
    assert any("SLOWER THAN FLOAT" in p and "mul (+4,000 us)" in p for p in r.problems())


def test_no_batch_is_an_error() -> None:
    with pytest.raises(EmptyData, match="no batch to check"):
        verify_quantized(model(chain()), quantized(0.05), PLAN, [], Slow)


def test_a_float_network_that_answers_with_nan_is_to_blame_itself(
    data: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Slow.run

    def broken(self: Slow, feeds: Feeds) -> Any:
        return {k: x * np.float32(np.nan) for k, x in plain(self, feeds).items()}

    monkeypatch.setattr(Slow, "run", broken)
    r = verify(data, 0.0, 0.05, monkeypatch)
    assert r.off and r.worst == () and r.suspects == ()
    assert r.warnings == (
        "the float network itself answers with NaN or inf on onnxruntime; no layer is to blame for that",
    )


class Wrong(Slow):
    """An engine that computes every network in the same wrong way."""

    shape: ClassVar[tuple[int, ...]] = (-1, 4)

    def run(self, feeds: Feeds) -> Any:
        return {k: (x[:, ::-1] * 2).reshape(self.shape) for k, x in super().run(feeds).items()}


def test_an_engine_that_is_wrong_in_float_is_found_out(data: list[Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slow, "seconds", 0.0)
    words: dict[str, Any] = {"seconds": 0.01}
    fooled = verify_quantized(model(chain()), quantized(0.05), PLAN, data, Wrong, **words)
    assert fooled.sqnr > 30 and not fooled.off
    r = verify_quantized(model(chain()), quantized(0.05), PLAN, data, Wrong, **words, trusted=Slow)
    assert r.float_sqnr is not None and r.float_sqnr < 5 and r.sqnr < 5 and r.off
    assert "WRONG ALREADY IN FLOAT: onnxruntime answers the float network with" in r.text()
    assert any("target = onnxruntime" in a for a in r.advice())
    same = verify_quantized(model(chain()), quantized(0.05), PLAN, data, Slow, **words, trusted=Slow)
    assert same.float_sqnr is None and "WRONG" not in same.text()


def test_what_is_right_is_told_against_the_right_float_answer(
    data: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slow, "seconds", 0.0)

    def engine(network: Model) -> Slow:
        return (Slow if any(n.op_type == "QuantizeLinear" for n in network.nodes) else Wrong)(network)

    r = verify_quantized(model(chain()), quantized(0.05), PLAN, data, engine, seconds=0.01, trusted=Slow)
    assert r.sqnr > 30 and not r.off and r.float_sqnr is not None and "WRONG ALREADY" in r.text()


def test_an_answer_of_another_shape_names_the_way_out(data: list[Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slow, "seconds", 0.0)
    monkeypatch.setattr(Wrong, "shape", (2, -1))
    with pytest.raises(EngineError, match="computes the quantized network wrongly: value 'y' has shape") as e:
        verify_quantized(model(chain()), quantized(0.05), PLAN, data, Wrong, seconds=0.01, trusted=Slow)
    assert "exclude_layers" in str(e.value) and "verify = False" in str(e.value) and "pairs" not in str(e.value)


def test_a_network_that_the_other_engine_refuses_is_told_as_before(
    data: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slow, "seconds", 0.0)

    def refuses(network: Model) -> Slow:
        raise EngineError("no")

    r = verify_quantized(model(chain()), quantized(0.05), PLAN, data, Slow, seconds=0.01, trusted=refuses)
    assert r.float_sqnr is None and not r.off


def test_nan_of_the_quantized_network_alone_names_layers(data: list[Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Slow.run

    def broken(self: Slow, feeds: Feeds) -> Any:
        return {k: x * np.float32(np.nan if self.integer else 1) for k, x in plain(self, feeds).items()}

    monkeypatch.setattr(Slow, "run", broken)
    r = verify(data, 0.0, 0.05, monkeypatch)
    assert r.off and r.worst and r.warnings == ()

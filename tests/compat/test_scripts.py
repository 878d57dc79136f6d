"""Habits of MXNet scripts: inputs by name, labels beside them, names of fused layers, the order of 1.x."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbit as fb
import fewbit.compat.mxnet as mx
from fewbit.compat.mxnet.network import Symbol
from fewbit.errors import FewbitError, FewbitWarning, UnknownName, UsageError
from fewbit.frontends.mxnet.graph import Entry, SymbolGraph, SymbolNode

pytestmark = pytest.mark.filterwarnings("ignore:.*(float time|SLOWER|FASTER|OFF):fewbit.errors.FewbitWarning")
FUSED = Path(__file__).parents[1] / "golden" / "mxnet" / "quantized.npz"


def two() -> tuple[Symbol, dict[str, np.ndarray]]:
    """y = softmax(a·Wᵀ - b), with a label, as symbols for training have it."""
    nodes = (
        SymbolNode("null", "a"),
        SymbolNode("null", "w"),
        SymbolNode("FullyConnected", "fc", {"num_hidden": "3", "no_bias": "True"}, (Entry(0, 0), Entry(1, 0))),
        SymbolNode("null", "b"),
        SymbolNode("elemwise_sub", "sub", {}, (Entry(2, 0), Entry(3, 0))),
        SymbolNode("null", "softmax_label"),
        SymbolNode("SoftmaxOutput", "softmax", {}, (Entry(4, 0), Entry(5, 0))),
    )
    return Symbol(SymbolGraph(nodes, (Entry(6, 0),), (0, 1, 3, 5))), {"w": np.eye(3, dtype=np.float32)}


A, B = np.float32([[5, 0, 0]]), np.float32([[0, 0, 3]])
RIGHT = np.exp([5.0, 0, -3]) / np.exp([5.0, 0, -3]).sum()


@pytest.mark.parametrize("names", [["a", "b"], ["b", "a"]])
@pytest.mark.parametrize("data", [{"a": A, "b": B}, {"b": B, "a": A}])
def test_modules_go_by_name(names: list[str], data: dict[str, np.ndarray]) -> None:
    sym, params = two()
    batches = mx.io.NDArrayIter(data, np.zeros(1), batch_size=1)
    assert [d.name for d in batches.provide_data] == ["a", "b"]  # sorted, as MXNet does
    mod = mx.mod.Module(sym, names, context=[mx.cpu()])
    mod.bind(batches.provide_data, batches.provide_label, for_training=False)
    mod.set_params(params, {})
    assert mod.predict(batches)[0] == pytest.approx(RIGHT, abs=1e-6)


def test_blocks_go_by_position_and_do_without_labels() -> None:
    sym, params = two()
    block = mx.gluon.SymbolBlock(sym, ["b", "a", "softmax_label"], params)
    assert block(B, A, np.zeros(1))[0] == pytest.approx(RIGHT, abs=1e-6)
    assert block(B, A)[0] == pytest.approx(RIGHT, abs=1e-6)


def test_calibration_goes_by_name() -> None:
    sym, params = two()
    data = mx.io.NDArrayIter({"b": np.repeat(B, 4, 0), "a": np.repeat(A, 4, 0)}, np.zeros(4), batch_size=2)
    found, _, _ = mx.quantize_model(sym, params, {}, ["b", "a"], calib_mode="naive", calib_data=data,
                                    quantized_dtype="auto", quantize_mode="full", effort="fast")  # fmt: skip
    assert found.plan.values["a"].hi == 5.0


@pytest.mark.parametrize("names", [["aa", "b"], ["a", "bb"]])
def test_a_name_that_is_no_input_is_told(names: list[str]) -> None:
    sym, params = two()
    for make in (mx.gluon.SymbolBlock, mx.mod.Module):
        with pytest.raises(UnknownName, match=r"unknown input '(aa|bb)'; did you mean"):
            make(sym, names)
    mod = mx.mod.Module(sym, ["a", "b"])
    mod.bind([("a", (1, 3)), ("b", (1, 3)), ("c", (1, 3))], for_training=False)
    mod.set_params(params, {})
    with pytest.raises(UnknownName, match="unknown input 'c'"):
        mod.forward(mx.io.DataBatch([A, B, B]))
    with pytest.raises(UsageError, match="b is not among"):
        mod.forward(mx.io.DataBatch([A], provide_data=[mx.io.DataDesc("a", (1, 3))]))


def test_shapes_come_from_the_first_batch_of_a_loader() -> None:
    sym, params = two()
    block = mx.gluon.SymbolBlock(sym, ["a", "b"], params)
    data = mx.gluon.data.DataLoader(mx.gluon.data.ArrayDataset(np.repeat(A, 4, 0), np.repeat(B, 4, 0)), 2)
    net = mx.quantize_net(block, calib_mode="naive", calib_data=data, data_shapes=[(2, 3), (2, 3)], effort="fast")
    assert [i.shape[1:] for i in net.model.inputs] == [(3,), (3,)]
    again = mx.quantize_net(mx.gluon.SymbolBlock(sym, ["a", "b"], params), calib_mode="naive", calib_data=data,
                            effort="fast")  # fmt: skip
    assert [i.shape[1:] for i in again.model.inputs] == [(3,), (3,)]


def test_whole_numbers_become_floats() -> None:
    assert mx.nd.array(np.arange(3)).dtype == np.float32 and mx.nd.array(np.uint8([1])).dtype == np.float32
    sym, params = two()
    block = mx.gluon.SymbolBlock(sym, ["a", "b"], params)
    assert block(A.astype(np.uint8), B.astype(np.int64))[0] == pytest.approx(RIGHT, abs=1e-6)


# -- names of fused layers -----------------------------------------------------------------------------------------


def test_names_of_fused_layers_stand_for_what_they_are_built_around() -> None:
    inner = SymbolGraph(
        (SymbolNode("null", "x"), SymbolNode("null", "w"),
         SymbolNode("FullyConnected", "fc", {"num_hidden": "3", "no_bias": "True"}, (Entry(0, 0), Entry(1, 0))),
         SymbolNode("Activation", "act", {"act_type": "relu"}, (Entry(2, 0),))),
        (Entry(3, 0),), (0, 1),
    )  # fmt: skip
    fused = SymbolNode("_sg_mkldnn_fully_connected", "sg_mkldnn_fully_connected_relu_0", {},
                       (Entry(0, 0), Entry(1, 0)), (inner,))  # fmt: skip
    sym = Symbol(SymbolGraph((SymbolNode("null", "a"), SymbolNode("null", "w"), fused), (Entry(2, 0),), (0, 1)))
    for name in ("sg_mkldnn_fully_connected_relu_0", "fc"):
        qsym, *_ = mx.quantize_graph(sym, {"w": np.eye(3, dtype=np.float32)}, {}, excluded_sym_names=[name],
                                     quantized_dtype="auto")  # fmt: skip
        assert not qsym.plan.nodes["fc"].quantized


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sg_mkldnn_conv_bn_act_0", "keep the names of their parts"),
        ("fashion_conv0_fwd_output", "did you mean 'fashion_conv0_fwd'"),
    ],
)
def test_names_that_only_mxnet_has_are_explained(prefix: str, name: str, said: str) -> None:
    with pytest.warns(FewbitWarning, match=said):
        mx.quantize_graph(prefix, excluded_sym_names=[name], quantized_dtype="auto")


def test_fewbit_takes_operators_in_mxnets_words(prefix: str) -> None:
    fused = fb.fuse(fb.load(prefix))
    plan = fb.make_plan(fused, exclude_operators=["Convolution"])
    assert all(not plan.nodes[str(n.name)].quantized for n in fused.nodes if n.op_type == "Conv")


# -- the order of 1.x ------------------------------------------------------------------------------------------------


def test_calls_by_position_in_the_order_of_mxnet_1(prefix: str, images: Any) -> None:
    sym, args, auxs = mx.model.load_checkpoint(prefix, 0)
    data = mx.io.NDArrayIter(images[:40], np.zeros(40), 20)
    found, _, _ = mx.quantize_model_mkldnn(
        sym, args, auxs, ("data",), ("softmax_label",), mx.cpu(), ["fashion_dense0_fwd"], None, "naive", data, 20,
        "auto", "full", "tensor-wise", None,
    )  # fmt: skip
    assert not found.plan.nodes["fashion_dense0_fwd"].quantized
    assert found.plan.values["data"].hi == pytest.approx(float(images[:20].max()))
    net = mx.quantize_net(
        prefix, "auto", "full", ["fashion_conv0_fwd"], None, None, data, None, "naive", 20, mx.cpu(), None
    )  # fmt: skip
    assert not net.model.plan.nodes["fashion_conv0_fwd"].quantized
    qsym, qargs, _, collector = mx.quantize_graph(sym, args, auxs, calib_mode="naive", quantized_dtype="auto")
    watch = mx.gluon.SymbolBlock(sym, "data", {**args, **auxs})
    watch.register_op_hook(collector.collect)
    watch(images[:2])
    assert mx.calib_graph(qsym, qargs, {}, collector, "naive", "auto", None)[0].plan.calibrated
    with pytest.raises(TypeError, match=r"16 arguments; MXNet 1\.x has 15"):
        mx.quantize_model(sym, args, auxs, ("data",), ("softmax_label",), *range(11))


def test_collectors_of_mxnet_1_have_no_base_class(prefix: str, images: Any) -> None:
    class Old:
        def __init__(self) -> None:
            self.min_max_dict: dict[str, Any] = {}

        def collect(self, name: str, arr: Any) -> None:
            lo, hi = self.min_max_dict.get(name, (0.0, 0.0))
            self.min_max_dict[name] = (min(lo, arr.asnumpy().min()), max(hi, arr.asnumpy().max()))

    collector = Old()
    net = mx.quantize_net(prefix, calib_mode="customize", calib_data=[images[:20]], LayerOutputCollector=collector,
                          effort="fast")  # fmt: skip
    assert net.model.plan.values["data"].hi == pytest.approx(collector.min_max_dict["data"][1])
    old = mx.LayerHistogramCollector(8001, include_layer=["x"])
    assert old.num_bins == 8001 and old.include_layers == ["x"]
    assert mx.LayerOutputMinMaxCollector("auto", include_layer=["x"]).include_layers == ["x"]


# -- the rest of an inference script -----------------------------------------------------------------------------------


def test_metrics_by_the_batch(prefix: str, images: Any, golden: Any) -> None:
    mod = mx.mod.Module.load(prefix, 0, label_names=None)
    data = mx.io.NDArrayIter(images[:60], golden["labels"][:60], 20)
    metrics = mx.metric.create(["acc", mx.metric.create("top_k_accuracy", top_k=5)])
    for batch in data:
        mod.forward(batch, is_train=False)
        mod.update_metric(metrics, batch.label)
    (name, share), (_, five) = metrics.get_name_value()
    assert name == "accuracy" and share == pytest.approx(
        (golden["float"][:60].argmax(1) == golden["labels"][:60]).mean()
    )
    assert five >= share and mod.score(data, ["acc"]) == [("accuracy", share)]


@pytest.mark.parametrize("name", ["image", "nd.softmax", "sym.Group", "gluon.nn", "metric.F1"])
def test_what_is_not_there_says_so(name: str) -> None:
    found: Any = mx
    with pytest.raises(FewbitError, match=r"is not part of fewbit\.compat\.mxnet") as e:
        for part in name.split("."):
            found = getattr(found, part)
    assert isinstance(e.value, AttributeError)

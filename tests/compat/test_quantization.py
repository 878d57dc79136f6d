"""The functions of mxnet.contrib.quantization: their signatures, their errors, and results beside MXNet's own."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import fewbit as fb
import fewbit.compat.mxnet as mx
from fewbit.compat.mxnet.network import PlannedSymbol
from fewbit.engines import open_runner
from fewbit.errors import ConfigError, FewbitWarning, NotCalibrated, UnknownName, UsageError
from tests.compat.conftest import sqnr

Make = Callable[..., mx.io.ImageRecordIter]
pytestmark = pytest.mark.filterwarnings("ignore:.*(float time|SLOWER|FASTER):fewbit.errors.FewbitWarning")

ORDER = {
    "quantize_model": "sym arg_params aux_params data_names device excluded_sym_names excluded_op_names calib_mode "
    "calib_data num_calib_batches quantized_dtype quantize_mode quantize_granularity logger",
    "quantize_graph": "sym arg_params aux_params device excluded_sym_names excluded_op_names calib_mode "
    "quantized_dtype quantize_mode quantize_granularity LayerOutputCollector logger",
    "calib_graph": "qsym arg_params aux_params collector calib_mode logger",
    "quantize_net": "network quantized_dtype quantize_mode quantize_granularity exclude_layers exclude_layers_match "
    "exclude_operators calib_data data_shapes calib_mode num_calib_batches device LayerOutputCollector logger",
}
ORDER["quantize_model_onednn"] = ORDER["quantize_model"]
DEFAULTS = {
    "quantize_model": {"calib_mode": "entropy", "quantized_dtype": "int8", "quantize_mode": "smart"},
    "quantize_model_onednn": {"calib_mode": "entropy", "quantized_dtype": "int8", "quantize_mode": "smart"},
    "quantize_graph": {"calib_mode": "entropy", "quantized_dtype": "int8", "quantize_mode": "full"},
    "calib_graph": {"calib_mode": "entropy"},
    "quantize_net": {"calib_mode": "none", "quantized_dtype": "auto", "quantize_mode": "full"},
}


@pytest.mark.parametrize("name", ORDER)
def test_names_order_and_defaults_are_mxnets(name: str) -> None:
    params = inspect.signature(getattr(mx, name)).parameters
    positional = [p for p, v in params.items() if v.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert positional == ORDER[name].split()
    for word, value in DEFAULTS[name].items():
        assert params[word].default == value
    if "quantize_granularity" in params:
        assert params["quantize_granularity"].default == "tensor-wise"


def test_both_spellings_are_there() -> None:
    assert mx.quantize_model_mkldnn is mx.quantize_model_onednn
    assert mx.contrib.quantization.quantize_net_v2 is mx.quantize_net_v2


@pytest.mark.parametrize("mode", ["naive", "entropy"])
def test_quantize_model_is_no_worse_than_mxnet(
    mode: str, prefix: str, iterator: Make, images: Any, golden: Any
) -> None:
    sym, args, auxs = mx.model.load_checkpoint(prefix, 0)
    found, weights, rest = mx.quantize_model(
        sym, args, auxs, calib_mode=mode, calib_data=iterator(), num_calib_examples=200, quantized_dtype="auto",
        ctx=mx.cpu(), label_names=("softmax_label",),
    )  # fmt: skip
    assert isinstance(found, fb.Quantized) and rest == {}
    assert found.plan.calibrated and {a.dtype.name for a in weights.values()} >= {"int8"}
    runner = open_runner("onnxruntime", found)
    scores = runner.run({"data": images})[found.outputs[0].name]
    assert sqnr(golden["float"], scores) >= sqnr(golden["float"], golden[f"{mode}_int8"])
    ran = [e.op for e in runner.executed()]
    assert ran.count("com.microsoft.QLinearConv") == 8  # all but the first, which has one channel to read


def test_models_and_prefixes_are_taken(prefix: str, images: Any) -> None:
    words: dict[str, Any] = {"calib_mode": "naive", "quantized_dtype": "auto", "effort": "fast"}
    one, _, _ = mx.quantize_model(prefix, calib_data=[images[:40]], **words)
    two, _, _ = mx.quantize_model(fb.load(prefix), calib_data=[images[:40]], **words)
    assert one.digest() == two.digest()


def steps(prefix: str, mode: str, images: Any, **words: Any) -> tuple[Any, Any]:
    """quantize_graph, and a collector that saw the images."""
    sym, args, auxs = mx.model.load_checkpoint(prefix, 0)
    sym = sym.get_backend_symbol("MKLDNN_QUANTIZE")
    qsym, _, _, collector = mx.quantize_graph(sym, args, auxs, calib_mode=mode, quantized_dtype="auto", **words)
    net = mx.gluon.SymbolBlock(sym, "data", {**args, **auxs})
    net.register_op_hook(collector.collect, monitor_all=True)
    net(mx.nd.array(images))
    return qsym, collector


def test_naive_ranges_are_mxnets(prefix: str, images: Any, golden: Any) -> None:
    qsym, collector = steps(prefix, "naive", images[:200])
    found, _, _ = mx.calib_graph(qsym, {}, {}, collector, "naive")
    ours = sorted(found.plan.values[n].hi for n in qsym.plan.observed())
    theirs = sorted(float(v[1]) for k, v in golden.items() if k.startswith("range|"))
    matched = [min(abs(t - o) / t for o in ours) < 1e-5 for t in theirs]
    assert sum(matched) == len(theirs) - 1  # the last is the output of the classifier, which stays float here


def test_a_filled_collector_gives_what_one_call_gives(prefix: str, images: Any) -> None:
    qsym, collector = steps(prefix, "naive", images[:40], quantize_granularity="channel-wise", quantize_mode="smart")
    stepped, _, _ = mx.calib_graph(qsym, None, None, collector, "naive", quantized_dtype="auto")
    called, _, _ = mx.quantize_model(prefix, calib_data=[images[:40]], calib_mode="naive", quantized_dtype="auto",
                                     quantize_granularity="channel-wise", effort="fast")  # fmt: skip
    for name in stepped.plan.observed():
        assert stepped.plan.values[name].hi == pytest.approx(called.plan.values[name].hi, rel=1e-5)


def test_calib_layer_leaves_values_out_and_that_is_told(prefix: str, images: Any) -> None:
    qsym, collector = steps(prefix, "naive", images[:4], calib_layer=lambda name: "relu" in name)
    assert all("relu" in n for n in collector.include_layers)
    with pytest.raises(NotCalibrated, match=r"values were never collected: data, .* see every name in include_layers"):
        mx.calib_graph(qsym, {}, {}, collector, "naive")


def test_without_calibration_the_network_runs_at_once(prefix: str, images: Any, golden: Any) -> None:
    sym, args, auxs = mx.model.load_checkpoint(prefix, 0)
    qsym, _, _, collector = mx.quantize_graph(sym, args, auxs, calib_mode="none")
    assert collector is None and isinstance(qsym, fb.Quantized)
    scores = open_runner("onnxruntime", qsym).run({"data": images})[qsym.outputs[0].name]
    assert sqnr(golden["float"], scores) > 30


class Widest(mx.CalibrationCollector):
    """As the tutorial of MXNet 2 writes one."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: set[str] = set()

    def collect(self, name: str, op_name: str, arr: Any) -> None:
        if name not in self.include_layers:
            return
        arr = arr.copyto(mx.cpu()).asnumpy()
        self.ops.add(op_name)
        lo, hi = self.min_max_dict.get(name, (0.0, 0.0))
        self.min_max_dict[name] = (min(lo, np.min(arr)), max(hi, np.max(arr)))


def test_a_collector_of_ones_own(prefix: str, images: Any, golden: Any) -> None:
    collector = Widest()
    net = mx.quantize_net(prefix, calib_mode="custom", calib_data=[images[:200]], LayerOutputCollector=collector,
                         effort="fast")  # fmt: skip
    assert set(collector.min_max_dict) == set(collector.include_layers)
    assert collector.ops >= {"", "Activation", "Pooling"}  # MXNet's names of operators
    assert sqnr(golden["float"], net(images)) > 25


def test_a_collector_with_layers_of_its_own_keeps_them(
    prefix: str, images: Any, caplog: pytest.LogCaptureFixture
) -> None:
    collector, logger = Widest(), logging.getLogger("mine")
    collector.include_layers = ["data"]
    with caplog.at_level("INFO"):
        mx.quantize_graph(prefix, calib_mode="custom", LayerOutputCollector=collector, logger=logger)
    assert collector.include_layers == ["data"] and "has its own include_layers" in caplog.text


@pytest.mark.parametrize("wrong", [Widest, object()])
def test_what_is_no_collector_is_refused(prefix: str, wrong: Any) -> None:
    with pytest.raises(UsageError, match="LayerOutputCollector is"):
        mx.quantize_graph(prefix, calib_mode="custom", LayerOutputCollector=wrong)


# -- what stays float --------------------------------------------------------------------------------------------------


def floats(found: Any) -> set[str]:
    return {n for n, v in found.plan.nodes.items() if not v.quantized}


def test_layers_are_left_out_by_name_part_of_a_name_and_operator(prefix: str, images: Any) -> None:
    net = mx.quantize_net(prefix, calib_mode="naive", calib_data=[images[:20]], effort="fast",
                          exclude_layers=["fashion_conv0_fwd"],
                          exclude_layers_match=["block2"], exclude_operators=["FullyConnected"])  # fmt: skip
    left = floats(net.model)
    assert {"fashion_conv0_fwd", "fashion_dense0_fwd", "fashion_block2_conv0_fwd"} <= left
    assert "fashion_block1_conv0_fwd" not in left


@pytest.mark.parametrize("word", ["Convolution", "Conv", "_sg_mkldnn_conv", "_sg_onednn_conv"])
def test_operators_may_be_said_in_any_tongue(prefix: str, images: Any, word: str) -> None:
    found, _, _ = mx.quantize_model(prefix, calib_mode="naive", calib_data=[images[:20]], excluded_op_names=[word],
                                    quantized_dtype="auto", effort="fast")  # fmt: skip
    convs = {str(n.name) for n in fb.fuse(fb.load(prefix)).nodes if n.op_type == "Conv"}
    assert convs <= floats(found)


def test_names_that_stand_for_nothing_are_told(prefix: str) -> None:
    with pytest.warns(FewbitWarning, match=r"'fashion_conv0' is not in the network; did you mean 'fashion_conv0_fwd'"):
        mx.quantize_graph(prefix, excluded_sym_names=["fashion_conv0"], quantized_dtype="auto")
    with pytest.warns(FewbitWarning, match="no layer's name contains 'stage9'"):
        mx.quantize_net(prefix, exclude_layers_match=["stage9"], data_shapes=[("data", (1, 1, 28, 28))])


def test_granularity_is_for_fully_connected_layers(prefix: str) -> None:
    for word, kind in (("tensor-wise", "tensor"), ("channel-wise", "channel")):
        qsym, *_ = mx.quantize_graph(prefix, quantized_dtype="auto", quantize_granularity=word)
        assert isinstance(qsym, PlannedSymbol)
        weights = {n: v.spec.granularity for n, v in qsym.plan.values.items() if v.role == "weight"}
        assert weights["fashion_dense0_weight"] == kind
        assert {k for n, k in weights.items() if "conv" in n} == {"channel"}


# -- data --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labelled", ["iterator", "loader", "tuples"])
def test_labels_beside_the_inputs_are_left_out_with_a_warning(prefix: str, images: Any, labelled: str) -> None:
    labels = np.zeros(len(images), np.float32)
    data: Any = {
        "iterator": mx.io.NDArrayIter(images[:40], labels[:40], 20),
        "loader": mx.gluon.data.DataLoader(mx.gluon.data.ArrayDataset(images[:40], labels[:40]), 20),
        "tuples": [(images[:20], labels[:20]), (images[20:40], labels[20:40])],
    }[labelled]
    told = pytest.warns(FewbitWarning, match="2 arrays a batch; the network has 1 input")
    with nullcontext() if labelled == "iterator" else told:  # an iterator says which of its arrays are labels
        net = mx.quantize_net(prefix, calib_mode="naive", calib_data=data, effort="fast")
    assert net.model.plan.values["data"].hi == pytest.approx(float(images[:40].max()))


def test_batches_are_counted(prefix: str, images: Any) -> None:
    loud = images.copy()
    loud[100:] *= 100
    batches = [loud[i : i + 20] for i in range(0, 200, 20)]
    for words in ({"num_calib_batches": 5}, {"num_calib_examples": 100}):
        data: Any = batches if "num_calib_batches" in words else mx.io.NDArrayIter(loud[:200], batch_size=20)
        net = mx.quantize_net(prefix, calib_mode="naive", calib_data=data, effort="fast", **words)
        assert net.model.plan.values["data"].hi == pytest.approx(float(images[:100].max()))


def test_shapes_without_data(prefix: str) -> None:
    for shapes in ([("data", (1, 1, 28, 28))], [mx.io.DataDesc("data", (1, 1, 28, 28))], [(1, 1, 28, 28)]):
        net = mx.quantize_net(prefix, data_shapes=shapes)
        assert net(np.zeros((2, 1, 28, 28), np.float32)).shape == (2, 10)


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        ({"calib_mode": "naive"}, UsageError, "calib_data must be provided when calib_mode='naive'"),
        ({"calib_mode": "kl"}, UsageError, "calib_data must be provided when calib_mode='kl'"),
        ({"calib_mode": "kl", "calib_data": []}, UnknownName, "unknown calib_mode 'kl'"),
        ({"calib_mode": "none", "quantized_dtype": "int4"}, UnknownName, "unknown quantized_dtype 'int4'"),
        ({"calib_mode": "none", "quantize_mode": "fast"}, UnknownName, "unknown quantize_mode 'fast'"),
        ({"calib_mode": "none", "quantize_granularity": "channel"}, UnknownName, "did you mean 'channel-wise'"),
        ({"calib_mode": "none", "excluded_sym_names": "conv0"}, ConfigError, "it must be a list of names"),
        ({"calib_mode": "none", "excluded_op_names": ["Convolutio"]}, UnknownName, "did you mean 'Convolution'"),
        (
            {"calib_mode": "none", "ctx": mx.gpu(0)},
            UsageError,
            r"ctx is gpu\(0\); fewbit calibrates and runs on the CPU",
        ),
        ({"calib_mode": "custom", "calib_data": []}, UsageError, "needs LayerOutputCollector"),
        ({"calib_mode": "naive", "calib_data": [], "num_calib_batches": 0}, UsageError, "num_calib_batches is 0"),
        ({"calib_mode": "naive", "calib_data": 7}, UsageError, "calib_data is a int; it must be an iterable"),
    ],
)
def test_what_is_wrong_is_said(prefix: str, words: dict[str, Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said) as e:
        mx.quantize_model(prefix, **words)
    assert isinstance(e.value, ValueError)  # as in MXNet


def test_quantize_net_needs_shapes_or_data(prefix: str) -> None:
    with pytest.raises(ValueError, match="at least one of data_shapes and calib_data"):
        mx.quantize_net(prefix)


def test_calib_graph_refuses_what_it_cannot_use(prefix: str, images: Any) -> None:
    qsym, collector = steps(prefix, "naive", images[:2])
    for words, said in (
        ({"calib_mode": "none"}, "please set calib_mode"),
        ({"qsym": fb.load(prefix)}, "it must be what quantize_graph returned"),
        ({"collector": None}, "collector is None"),
        ({"quantized_dtype": "int8"}, "quantize_graph was given 'auto'"),
    ):
        given = {
            "qsym": qsym,
            "arg_params": {},
            "aux_params": {},
            "collector": collector,
            "calib_mode": "naive",
        } | words
        with pytest.raises(ValueError, match=said):
            mx.calib_graph(**given)


def test_what_has_no_ranges_cannot_run_or_be_saved(prefix: str, tmp_path: Any) -> None:
    qsym, *_ = mx.quantize_graph(prefix, quantized_dtype="auto")
    for call in (lambda: mx.mod.Module(qsym), lambda: mx.gluon.SymbolBlock(qsym), lambda: qsym.save("x-symbol.json"),
                 lambda: mx.model.save_checkpoint(str(tmp_path / "x"), 0, qsym, {}, {})):  # fmt: skip
        with pytest.raises(UsageError, match="no ranges yet"):
            call()
    assert not list(tmp_path.iterdir())

"""Symbols, modules, blocks, iterators and files: what scripts do around quantizing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbit as fb
import fewbit.compat.mxnet as mx
from fewbit.compat.mxnet.network import QuantizedSymbol, Symbol
from fewbit.errors import DataError, ModelFormatError, UnknownName, UnsafePath, UsageError

Make = Callable[..., mx.io.ImageRecordIter]
Triple = tuple[Symbol, Any, Any]


@pytest.fixture(scope="module")
def checkpoint(prefix: str) -> Triple:
    """Symbol and parameters."""
    sym, args, auxs = mx.model.load_checkpoint(prefix, 0)
    assert isinstance(sym, Symbol)
    return sym, args, auxs


@pytest.fixture(scope="module")
def integer(prefix: str, images: Any) -> QuantizedSymbol:
    """The network, quantized."""
    fused = fb.fuse(fb.load(prefix))
    plan = fb.calibrate(fused, fb.make_plan(fused), {"data": images[:100]})
    return QuantizedSymbol(fb.apply(fused, plan))


def module(symbol: Any, args: Any, auxs: Any, batch: int = 20) -> mx.mod.Module:
    mod = mx.mod.Module(symbol=symbol, label_names=None, context=mx.cpu())
    mod.bind(for_training=False, data_shapes=[("data", (batch, 1, 28, 28))])
    mod.set_params(args, auxs)
    return mod


# -- symbols -----------------------------------------------------------------------------------------------------------


def test_a_symbol_lists_what_it_has(checkpoint: Triple) -> None:
    sym, args, auxs = checkpoint
    assert sym.name == "fashion_dense0_fwd" and sym.list_outputs() == ["fashion_dense0_fwd_output"]
    assert set(sym.list_arguments()) == {"data", *args} and set(sym.list_auxiliary_states()) == set(auxs)
    assert set(sym.list_inputs()) == {*sym.list_arguments(), *sym.list_auxiliary_states()}


def test_a_symbol_can_be_cut_anywhere(checkpoint: Triple, images: Any) -> None:
    sym, args, auxs = checkpoint
    part = sym.get_internals()["fashion_pool0_fwd_output"]
    assert part.list_outputs() == ["fashion_pool0_fwd_output"] and "fashion_dense0_weight" not in part.list_arguments()
    net = mx.gluon.SymbolBlock(part, "data", {**args, **auxs})
    assert net(images[:3]).shape == (3, 48, 1, 1)
    with pytest.raises(UnknownName, match="did you mean 'fashion_pool0_fwd_output'"):
        sym.get_internals()["fashion_pool0_output"]


def test_a_symbol_travels_as_text(checkpoint: Triple) -> None:
    sym, _, _ = checkpoint
    again = mx.sym.load_json(sym.tojson())
    assert again.list_arguments() == sym.list_arguments() and again.tojson() == sym.tojson()
    assert [s.name for s in sym] == [sym.name]


@pytest.mark.parametrize("call", ["get_backend_symbol", "optimize_for"])
def test_backends_are_mxnets(checkpoint: Triple, call: str) -> None:
    for backend in ("MKLDNN", "MKLDNN_QUANTIZE", "ONEDNN_QUANTIZE"):
        assert getattr(checkpoint[0], call)(backend).fused
    with pytest.raises(UnknownName, match="unknown backend 'TensorRT'"):
        getattr(checkpoint[0], call)("TensorRT")


# -- modules and blocks ------------------------------------------------------------------------------------------------


def test_a_module_gives_mxnets_scores(checkpoint: Triple, iterator: Make, golden: Any) -> None:
    found = module(*checkpoint).predict(iterator())
    np.testing.assert_allclose(found, golden["float"], atol=1e-4)


@pytest.mark.parametrize("k", [1, 5])
def test_a_module_scores_like_mxnet(checkpoint: Triple, iterator: Make, golden: Any, k: int) -> None:
    metric = mx.metric.create("top_k_accuracy", top_k=k) if k > 1 else "acc"
    ((_, share),) = module(*checkpoint).score(iterator(batch_size=32), metric, num_batch=None)
    order = np.argsort(-golden["float"], 1)[:, :k]
    assert share == pytest.approx((order == golden["labels"][:, None]).any(1).mean())


def test_a_module_says_what_is_missing(checkpoint: Triple) -> None:
    sym, args, auxs = checkpoint
    mod = mx.mod.Module(sym, label_names=None)
    with pytest.raises(UsageError, match="no parameters; call set_params"):
        mod.forward(mx.io.DataBatch([np.zeros((1, 1, 28, 28), np.float32)]))
    with pytest.raises(UsageError, match="for_training is True"):
        mod.bind([("data", (1, 1, 28, 28))])
    with pytest.raises(UsageError, match="is_train is True"):
        module(sym, args, auxs).forward(mx.io.DataBatch([]), is_train=True)
    with pytest.raises(UsageError, match="a batch has 0 arrays; the network has the inputs data"):
        module(sym, args, auxs).forward(mx.io.DataBatch([]), is_train=False)
    with pytest.raises(ModelFormatError, match="lack fashion_conv0_weight"):
        module(sym, {k: v for k, v in args.items() if k != "fashion_conv0_weight"}, auxs)
    with pytest.raises(UsageError, match=r"ctx is gpu\(0\)"):
        mx.mod.Module(sym, context=mx.gpu())


def test_parameters_of_an_integer_network_can_be_set(integer: QuantizedSymbol, images: Any) -> None:
    from fewbit.compat.mxnet.network import params_of

    weights = params_of(integer)
    batch = mx.io.DataBatch([images[:20]])
    mod = module(integer, weights, {})
    mod.forward(batch)
    before = mod.get_outputs()[0]
    name = next(k for k, v in weights.items() if v.dtype == np.int8 and "conv0" in k)
    mod.set_params({**weights, name: np.zeros_like(weights[name])}, {})
    mod.forward(batch)
    assert not np.array_equal(before, mod.get_outputs()[0])
    with pytest.raises(UsageError, match="allow_missing=True"):
        mod.set_params({}, {})
    with pytest.raises(UnknownName, match="unknown parameter 'other'"):
        mod.set_params({**weights, "other": weights[name]}, {})
    with pytest.raises(UsageError, match=f"parameter '{name}' is float32"):
        mod.set_params({**weights, name: weights[name].astype(np.float32)}, {})
    assert weights[name].any()  # the network that was handed in stays as it was


def test_every_value_is_shown_to_a_monitor(checkpoint: Triple, images: Any) -> None:
    sym, args, auxs = checkpoint
    seen: dict[str, Any] = {}
    for fused in (sym, sym.get_backend_symbol("MKLDNN_QUANTIZE")):
        mod = module(fused, args, auxs)
        mod._exec_group.execs[0].set_monitor_callback(lambda name, op, arr: seen.update({name: (op, arr)}))
        mod.forward(mx.io.DataBatch([images[:20]]))
        assert seen["fashion_block0_activation1_output"][0] == "Activation"
        assert isinstance(seen["data"][1], mx.nd.NDArray)
        needed = fb.make_plan(fb.fuse(fb.load(str(Path(fb.__file__).parents[2] / "examples/mxnet/fashion")))).observed()
        assert set(needed) <= set(seen)
        seen.clear()


def test_monitors_of_mxnet_1_take_two_arguments(checkpoint: Triple, images: Any) -> None:
    names: list[str] = []
    net = mx.gluon.SymbolBlock(checkpoint[0], "data", {**checkpoint[1], **checkpoint[2]})
    net.register_op_hook(lambda name, arr: names.append(name))
    net(images[:1])
    assert "data" in names and "fashion_relu0_fwd_output" in names


def test_a_block_refuses_other_numbers_of_arrays(prefix: str, images: Any) -> None:
    net = mx.gluon.SymbolBlock(prefix, "data")
    with pytest.raises(UsageError, match="was called with 2 arrays; its inputs are data"):
        net(images[:1], images[:1])


# -- files -------------------------------------------------------------------------------------------------------------


def test_float_checkpoints_are_written_as_mxnet_writes_them(checkpoint: Triple, tmp_path: Path, prefix: str) -> None:
    mx.model.save_checkpoint(str(tmp_path / "net"), 3, *checkpoint)
    sym, args, auxs = mx.model.load_checkpoint(str(tmp_path / "net"), 3)
    assert isinstance(sym, Symbol) and sym.list_arguments() == checkpoint[0].list_arguments()
    assert all(np.array_equal(args[k], v) for k, v in checkpoint[1].items()) and set(auxs) == set(checkpoint[2])
    assert fb.load(tmp_path / "net").digest() == fb.load(prefix).digest()
    net = mx.gluon.SymbolBlock.imports(f"{prefix}-symbol.json", ["data"], f"{prefix}-0000.params")
    net.export(str(tmp_path / "again"), epoch=0)
    assert fb.load(tmp_path / "again").digest() == fb.load(prefix).digest()


def test_integer_networks_are_onnx_behind_mxnets_names(integer: QuantizedSymbol, tmp_path: Path, images: Any) -> None:
    net = mx.gluon.SymbolBlock(integer, "data")
    expected = net(images[:20])
    written = net.export(str(tmp_path / "int8"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "int8-0000.params", "int8-symbol.json", "int8.onnx", "int8.plan.json",
    ]  # fmt: skip
    assert np.array_equal(mx.gluon.SymbolBlock.imports(written[0], "data", written[1])(images[:20]), expected)
    sym, args, auxs = mx.model.load_checkpoint(str(tmp_path / "int8"), 0)
    assert isinstance(sym, QuantizedSymbol) and sym.plan == integer.plan and auxs == {}
    mod = module(sym, args, auxs)
    mod.forward(mx.io.DataBatch([images[:20]]))
    assert np.array_equal(mod.get_outputs()[0], expected)
    assert fb.load(written[0], allow_quantized=True).digest() == integer.digest()


def test_a_pointer_leads_nowhere_else(tmp_path: Path) -> None:
    bad = tmp_path / "x-symbol.json"
    for name, kind, said in (
        ("../other.onnx", UnsafePath, "only point to a file in its own folder"),
        ("gone.onnx", ModelFormatError, "which is not there"),
        (7, UnsafePath, "points to 7"),
    ):
        bad.write_text(json.dumps({"fewbit": 1, "network": name}))
        with pytest.raises(kind, match=said):
            mx.sym.load(bad)


def test_files_that_are_not_there(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(ModelFormatError, match="there is no file"):
        mx.model.load_checkpoint(str(tmp_path / "no"), 0)
    with pytest.raises(ModelFormatError, match=r"fashion-0007\.params"):
        mx.model.load_checkpoint(prefix, 7)


def test_arrays_are_saved_and_read_by_name_or_as_a_list(tmp_path: Path) -> None:
    a, b = mx.nd.ones((2, 3)), mx.nd.array([1, 2], dtype="int32")
    mx.nd.save(tmp_path / "d", {"arg:a": a, "b": b})
    mx.nd.save(tmp_path / "l", [a, b])
    found = mx.nd.load(tmp_path / "d")
    assert set(found) == {"arg:a", "b"} and found["b"].dtype == np.int32 and found["b"].asnumpy().tolist() == [1, 2]
    listed = mx.nd.load(tmp_path / "l")
    assert isinstance(listed, list) and listed[0].shape == (2, 3)


# -- arrays and iterators ----------------------------------------------------------------------------------------------


def test_arrays_answer_to_mxnets_methods() -> None:
    x = mx.nd.array([[1.0, 2.0]])
    assert x.dtype == np.float32 and x.context == mx.cpu() and x.as_in_context(mx.cpu()) is x
    y = x.copyto(mx.cpu())
    y[0, 0] = 7
    assert x[0, 0] == 1 and type(x.asnumpy()) is np.ndarray and x[0, 1:].asscalar() == 2.0
    assert np.array_equal(x.copyto(mx.nd.zeros((1, 2))), x)
    with pytest.raises(UsageError, match="asscalar is for arrays of one element"):
        x.asscalar()
    x.wait_to_read()
    mx.nd.waitall()


@pytest.mark.parametrize(
    ("handle", "sizes", "pads"), [("pad", 3, [0, 0, 2]), ("discard", 2, [0, 0]), ("roll_over", 2, [0, 0])]
)
def test_the_last_batch(handle: str, sizes: int, pads: list[int]) -> None:
    data = np.arange(10, dtype=np.float32)[:, None]
    it = mx.io.NDArrayIter(data, data[:, 0], batch_size=4, last_batch_handle=handle)
    batches = list(it)
    assert len(batches) == sizes and [b.pad for b in batches] == pads
    assert it.provide_data[0][:2] == ("data", (4, 1)) and it.provide_label[0].name == "softmax_label"
    if handle == "pad":
        assert batches[2].data[0][:, 0].tolist() == [8, 9, 0, 1]
    it.reset()
    first = next(it).data[0][:, 0].tolist()
    assert first == ([8, 9, 0, 1] if handle == "roll_over" else [0, 1, 2, 3])


def test_iterators_refuse_what_does_not_fit() -> None:
    with pytest.raises(UsageError, match=r"\[3, 4\] samples"):
        mx.io.NDArrayIter(np.zeros(3), np.zeros(4))
    with pytest.raises(UsageError, match="batch_size is 9; it must be from 1 to the 3"):
        mx.io.NDArrayIter(np.zeros(3), batch_size=9)
    with pytest.raises(UnknownName, match="unknown last_batch_handle 'keep'"):
        mx.io.NDArrayIter(np.zeros(3), last_batch_handle="keep")


def test_images_of_a_record_file_are_mxnets(iterator: Make, golden: Any) -> None:
    batches = list(iterator(batch_size=64))
    assert [b.pad for b in batches] == [0] * 9 + [40]
    labels = np.concatenate([b.label[0] for b in batches])[:600]
    assert np.array_equal(labels, golden["labels"])
    scaled = next(iterator(batch_size=2, scale=0.5))
    assert np.allclose(scaled.data[0], batches[0].data[0][:2] / 2)
    short = list(iterator(batch_size=64, round_batch=False))
    assert len(short) == 10 and short[-1].pad == 40


def test_shuffling_is_seeded(iterator: Make) -> None:
    one, two, other = (next(iterator(shuffle=True, seed=s)).label[0].tolist() for s in (1, 1, 2))
    assert one == two != other


def test_words_that_would_change_the_images_are_refused(iterator: Make) -> None:
    with pytest.raises(UsageError, match="fewbit does not know rand_crop=True, which changes the images"):
        iterator(rand_crop=True)
    iterator(rand_crop=False, preprocess_threads=8)
    with pytest.raises(DataError, match="no such file"):
        mx.io.ImageRecordIter("gone.rec", (1, 28, 28), 1)


@pytest.mark.parametrize(("last", "sizes"), [("keep", [4, 4, 2]), ("discard", [4, 4]), ("rollover", [4, 4])])
def test_a_loader_makes_batches(last: str, sizes: list[int]) -> None:
    data = mx.gluon.data.ArrayDataset(np.zeros((10, 2), np.float32), np.arange(10))
    loader = mx.gluon.data.DataLoader(data, 4, last_batch=last, num_workers=2)
    found = list(loader)
    assert [len(x) for x, _ in found] == sizes and len(loader) == (3 if last != "discard" else 2)
    with pytest.raises(UsageError, match="does not know sampler"):
        mx.gluon.data.DataLoader(data, 4, sampler=1)


def test_metrics_count_over_batches() -> None:
    metric = mx.metric.create("acc")
    metric.update([np.array([0, 1])], [np.array([[1, 0], [1, 0]])])
    metric.update(np.array([1, 1]), np.array([[0, 1], [0, 1]]))
    assert metric.get() == ("accuracy", 0.75)
    metric.reset()
    assert np.isnan(metric.get()[1])
    with pytest.raises(UsageError, match=r"2 labels and scores of shape \(1, 2\)"):
        metric.update(np.array([1, 1]), np.array([[0, 1]]))
    with pytest.raises(UnknownName, match="unknown metric 'f1'"):
        mx.metric.create("f1")

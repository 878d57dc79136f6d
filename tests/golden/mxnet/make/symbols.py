"""Symbols and checkpoints as MXNet 1.9.1 writes or reads them; `lists.json` holds what MXNet itself says of each.

Run in an environment with mxnet 1.9.1 and numpy 1.23, from anywhere:  python tests/golden/mxnet/make/symbols.py

Also proves that MXNet reads what fewbit writes, whole and cut.
"""

from __future__ import annotations

import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any

import mxnet as mx
from mxnet.gluon import nn

HERE = Path(__file__).parents[1] / "symbols"
SOURCE = Path(__file__).parents[4] / "src" / "fewbit"
S = mx.sym


def fewbit(module: str) -> Any:
    """A module of frontends/mxnet without the rest of fewbit, which needs a newer numpy."""
    for name in ("fewbit", "fewbit.core", "fewbit.frontends", "fewbit.frontends.mxnet"):
        package = types.ModuleType(name)
        package.__path__ = [str(SOURCE.joinpath(*name.split(".")[1:]))]
        sys.modules.setdefault(name, package)
    return importlib.import_module(f"fewbit.frontends.mxnet.{module}")


def small() -> mx.sym.Symbol:
    x = S.Convolution(S.var("data"), kernel=(3, 3), num_filter=4, no_bias=True, name="conv0")
    x = S.Activation(S.BatchNorm(x, fix_gamma=False, name="bn0"), act_type="relu", name="relu0")
    x = S.FullyConnected(x, num_hidden=3, name="fc0", attr={"__lr_mult__": "2"})
    return S.SoftmaxOutput(x, name="softmax")


def checkpoint() -> None:
    module = mx.mod.Module(small())
    module.bind([("data", (1, 2, 5, 5))], [("softmax_label", (1,))])
    module.init_params(mx.init.Xavier())
    mx.model.save_checkpoint(str(HERE / "checkpoint"), 1, small(), *module.get_params())


def gluon() -> None:
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(nn.Conv2D(3, 3), nn.BatchNorm(), nn.Activation("relu"), nn.Dense(2))
    net.initialize()
    net.hybridize()
    net(mx.nd.ones((1, 2, 5, 5)))
    net.export(str(HERE / "gluon"))
    net.save_parameters(str(HERE / "gluon.params"))


def odd_outputs() -> mx.sym.Symbol:
    """Operators with several outputs, with names of their own, or with one that is numbered."""
    x, y, z = (S.var(n) for n in "xyz")
    six = [S.var(f"c{i}") for i in range(6)]
    return S.Group([
        S.BatchNorm(x, name="bn", output_mean_var=True), S.BatchNorm_v1(x, name="bn1", output_mean_var=True),
        S.LayerNorm(x, name="ln", output_mean_var=True), S.GroupNorm(x, name="gn"), S.InstanceNorm(x, name="in"),
        S.SliceChannel(x, num_outputs=3, name="split"), S.SliceChannel(x, num_outputs=1, name="split1"),
        S._internal._split_v2(x, indices=(0, 1, 3), name="cut"),
        S._internal._split_v2(x, indices=(), sections=2, name="cut2"),
        S.RNN(x, state_size=2, num_layers=1, mode="gru", name="gru"),
        S.RNN(x, state_size=2, num_layers=1, mode="lstm", state_outputs=True, name="lstm"),
        S.topk(x, ret_typ="both", name="top"), S.topk(x, ret_typ="value", name="top1"), S.topk(x, name="top2"),
        S.contrib.Proposal(x, y, z, output_score=True, name="prop"), S.contrib.MultiProposal(x, y, z, name="prop2"),
        S.contrib.MultiBoxTarget(x, y, z, name="target"), S.contrib.MultiBoxDetection(x, y, z, name="detect"),
        S.contrib.box_nms(x, name="nms"), S.contrib.box_encode(*six, name="encode"),
        S.contrib.bipartite_matching(x, threshold=0.1, name="match"), S.moments(x, name="moments"),
        S.LeakyReLU(x, act_type="rrelu", name="rrelu"), S.LeakyReLU(x, act_type="prelu", name="prelu"),
        S.UpSampling(x, scale=2, sample_type="bilinear", num_filter=2, name="up"), S.CTCLoss(x, y, name="ctc"),
        S.sample_multinomial(x, get_prob=True, name="draw"), S.amp_multicast(x, y, num_outputs=2, name="amp"),
        S.contrib.quantize_v2(x, name="q"), S.contrib.requantize(x, y, z, name="rq"),
        S.contrib.dequantize(x, y, z, name="dq"), S.contrib.quantized_act(x, y, z, act_type="relu", name="qact"),
        S.contrib.quantized_concat(*six, num_args=2, name="qcat"), S.contrib.quantized_elemwise_add(*six, name="qadd"),
        S.contrib.quantized_elemwise_mul(*six, enable_float_output=True, name="qmul"),
        S.IdentityAttachKLSparseReg(x, name="kl"), S.make_loss(x, name="loss"), S.MakeLoss(x, name="loss2"),
        S.sort(x, name="sort"), S.SliceChannel(y, num_outputs=2, name="half")[1], S.relu(z, name=""), z,
    ])  # fmt: skip


def loop() -> mx.sym.Symbol:
    """An operator with subgraphs."""
    out, state = S.contrib.foreach(lambda d, s: (d + s[0], [d * 2]), S.var("x"), [S.var("s")], name="loop")
    return S.Group([out, state[0]])


def fused() -> mx.sym.Symbol:
    """A quantized network with fused layers."""
    net = small().get_internals()["fc0_output"]
    shapes = {"data": (1, 2, 5, 5)}
    args, _, auxs = net.infer_shape(**shapes)
    params = {n: mx.nd.ones(s) for n, s in zip(net.list_arguments(), args, strict=True) if n != "data"}
    states = {n: mx.nd.ones(s) for n, s in zip(net.list_auxiliary_states(), auxs, strict=True)}
    net = net.get_backend_symbol("MKLDNN_QUANTIZE")
    data = mx.io.NDArrayIter(mx.nd.random.uniform(shape=(2, 2, 5, 5)), batch_size=1)
    from mxnet.contrib.quantization import quantize_model

    made = quantize_model(
        net, params, states, label_names=None, calib_mode="naive", calib_data=data, quantized_dtype="auto", ctx=mx.cpu()
    )
    return made[0].get_backend_symbol("MKLDNN_QUANTIZE")


def node(op: str, name: str, inputs: list[list[int]] | None = None, **more: dict[str, str]) -> dict[str, Any]:
    """A node as MXNet 0.8 wrote it."""
    return {"op": op, "param": {}, "name": name, "inputs": inputs or [], "backward_source_id": -1, **more}


def old() -> dict[str, str]:
    """Files of times gone by; the operators are the last four."""
    kernel = {"kernel": "(3,3)", "num_filter": "4", "no_bias": "True"}
    hidden = {"weight_lr_mult": "3", "ctx_group": "a"}
    variables = [
        node("null", "data"),
        node("null", "conv_weight", attr={"lr_mult": "1", "wd_mult": "0.5"}),
        node("null", "bn_gamma"),
        node("null", "bn_beta"),
    ]
    states = [node("null", "bn_moving_mean"), node("null", "bn_moving_var"), node("null", "slope")]
    first = {"nodes": variables + operators(4, 0, kernel, hidden), "arg_nodes": [0, 1, 2, 3], "heads": [[7, 0]]}
    nodes = variables + states + operators(7, 3, kernel, hidden)
    nodes = [{"op": n["op"], "name": n["name"], "inputs": n["inputs"], "attr": {**n["param"], **n.get("attr", {})}}
             for n in nodes]  # fmt: skip
    whole = {"nodes": nodes, "arg_nodes": list(range(7)), "heads": [[10, 0]]}
    texts = {v: json.dumps({**whole, "attrs": {"mxnet_version": ["int", v]}}) for v in (904, 905, 10000)}
    return {
        "v080": json.dumps(first), "v094": texts[904], "v095": texts[905],
        "v100": texts[10000].replace('"attr"', '"attrs"'),
    }  # fmt: skip


def operators(at: int, states: int, kernel: dict[str, str], hidden: dict[str, str]) -> list[dict[str, Any]]:
    """Four operators from place `at` on; with `states`, the inputs that 0.8 left out are there."""
    return [
        node("Convolution", "conv", [[0, 0], [1, 0]], param=kernel, attr=hidden),
        node(
            "BatchNorm", "bn", [[at, 0], [2, 0], [3, 0], *([[4, 0], [5, 0]] if states else [])], param={"eps": "0.002"}
        ),
        node("LeakyReLU", "act", [[at + 1, 0], *([[6, 0]] if states else [])], param={"act_type": "prelu"}),
        node("argmax", "top", [[at + 2, 0]], param={"axis": "-1"}),
    ]


def said(symbol: mx.sym.Symbol) -> dict[str, Any]:
    """What MXNet says of a symbol."""
    return {
        "arguments": symbol.list_arguments(),
        "auxiliaries": symbol.list_auxiliary_states(),
        "outputs": symbol.list_outputs(),
        "internals": symbol.get_internals().list_outputs(),
    }


def attrs(symbol: mx.sym.Symbol, text: str) -> dict[str, dict[str, str]]:
    """The attributes of the nodes in the file; MXNet makes up some for the variables that it adds."""
    stored = {node["name"] for node in json.loads(text)["nodes"]}
    return {name: found for name, found in symbol.attr_dict().items() if name in stored}


def check_written(text: str, name: str) -> None:
    """MXNet reads what fewbit writes, and sees in a part what it sees in its own."""
    symbols, whole = fewbit("symbol"), mx.sym.load_json(text)
    graph = fewbit("upgrade").upgrade(symbols.parse_symbol(text, name))
    again = mx.sym.load_json(symbols.symbol_text(graph))
    assert said(again) == said(whole) and attrs(again, text) == attrs(whole, text), name
    inside = whole.get_internals()
    for layer in [n for n in inside.list_outputs() if inside.list_outputs().count(n) == 1][-1:0:-3]:
        part = mx.sym.load_json(symbols.symbol_text(graph.cut([layer])))
        assert said(part) == said(inside[layer]), (name, layer)


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    mx.random.seed(0)
    checkpoint()
    gluon()
    for name, symbol in (("odd_outputs", odd_outputs()), ("loop", loop()), ("fused", fused())):
        symbol.save(str(HERE / f"{name}-symbol.json"))
    for name, text in old().items():
        (HERE / f"{name}-symbol.json").write_text(text)
    lists = {}
    for path in sorted(HERE.glob("*-symbol.json")):
        symbol = mx.sym.load_json(path.read_text())
        lists[path.name] = said(symbol) | (
            {"attrs": attrs(symbol, path.read_text())} if path.name.startswith("v") else {}
        )
        check_written(path.read_text(), path.name)
    (HERE / "lists.json").write_text(json.dumps(lists, indent=1))
    print("MXNet reads what fewbit writes")

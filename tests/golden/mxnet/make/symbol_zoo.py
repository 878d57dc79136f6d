"""Networks as MXNet's old symbol zoo built them: Inception-BN and pre-activation ResNets, with their names and labels.

    data → … → fc1 → SoftmaxOutput "softmax" (reads softmax_label)

`old_json` writes a symbol as files of version 0.8 have it: attributes under "param", entries of two numbers, auxiliary
states left out. Imported by miniature.py beside it and by bench/mxnet/zoo_make.py.
"""

from __future__ import annotations

import json

import mxnet as mx

S = mx.sym
RESNET_152 = (3, 8, 36, 3)


def resnet(units, classes: int = 1000, width: int = 64, deep: bool = True):
    """Pre-activation, in the spelling of resnet-152-symbol.json. `units`: for each stage."""
    x = S.BatchNorm(S.var("data"), fix_gamma=True, eps=2e-5, momentum=0.9, name="bn_data")
    x = S.Convolution(
        x, num_filter=width, kernel=(7, 7), stride=(2, 2), pad=(3, 3), no_bias=True, name="conv0", workspace=256
    )
    x = S.Activation(_norm(x, "bn0"), act_type="relu", name="relu0")
    x = S.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max")
    for stage, count in enumerate(units):
        filters = (4 if deep else 1) * width * 2**stage
        for unit in range(count):
            stride = 2 if unit == 0 and stage > 0 else 1
            x = _unit(x, filters, stride, unit == 0, f"stage{stage + 1}_unit{unit + 1}", deep)
    x = S.Activation(_norm(x, "bn1"), act_type="relu", name="relu1")
    x = S.Flatten(S.Pooling(x, global_pool=True, kernel=(7, 7), pool_type="avg", name="pool1"))
    return S.SoftmaxOutput(S.FullyConnected(x, num_hidden=classes, name="fc1"), name="softmax")


def _norm(x, name):
    return S.BatchNorm(x, fix_gamma=False, eps=2e-5, momentum=0.9, name=name)


def _unit(x, filters, stride, changes, name, deep):
    act = S.Activation(_norm(x, f"{name}_bn1"), act_type="relu", name=f"{name}_relu1")
    plan = (
        ((filters // 4, 1, 1), (filters // 4, 3, stride), (filters, 1, 1))
        if deep
        else ((filters, 3, stride), (filters, 3, 1))
    )
    y = act
    for i, (count, kernel, step) in enumerate(plan, 1):
        if i > 1:
            y = S.Activation(_norm(y, f"{name}_bn{i}"), act_type="relu", name=f"{name}_relu{i}")
        y = S.Convolution(y, num_filter=count, kernel=(kernel,) * 2, stride=(step,) * 2, pad=(kernel // 2,) * 2,
                          no_bias=True, workspace=256, name=f"{name}_conv{i}")  # fmt: skip
    if changes:
        x = S.Convolution(act, num_filter=filters, kernel=(1, 1), stride=(stride, stride), no_bias=True, workspace=256,
                          name=f"{name}_sc")  # fmt: skip
    return y + x


def inception_bn(classes: int = 1000):
    """In the spelling of Inception-BN-symbol.json: pooling without padding rounds up."""
    x = _conv(S.var("data"), 64, 7, 2, 3, "1")
    x = _pool(x, "max", 2, 0, "pool_1")
    x = _conv(_conv(x, 64, 1, 1, 0, "2_red"), 192, 3, 1, 1, "2")
    x = _pool(x, "max", 2, 0, "pool_2")
    for name, *sizes in (("3a", 64, 64, 64, 64, 96, "avg", 32), ("3b", 64, 64, 96, 64, 96, "avg", 64),
                         ("3c", 128, 160, 64, 96), ("4a", 224, 64, 96, 96, 128, "avg", 128),
                         ("4b", 192, 96, 128, 96, 128, "avg", 128), ("4c", 160, 128, 160, 128, 160, "avg", 128),
                         ("4d", 96, 128, 192, 160, 192, "avg", 128), ("4e", 128, 192, 192, 256),
                         ("5a", 352, 192, 320, 160, 224, "avg", 128),
                         ("5b", 352, 192, 320, 192, 224, "max", 128)):  # fmt: skip
        x = _halving(x, name, *sizes) if len(sizes) == 4 else _mixed(x, name, *sizes)
    x = S.Pooling(x, kernel=(7, 7), stride=(1, 1), global_pool=True, pool_type="avg", name="global_pool")
    return S.SoftmaxOutput(
        S.FullyConnected(S.Flatten(x, name="flatten"), num_hidden=classes, name="fc1"), name="softmax"
    )


def _conv(x, filters, kernel, stride, pad, name):
    x = S.Convolution(
        x, num_filter=filters, kernel=(kernel,) * 2, stride=(stride,) * 2, pad=(pad,) * 2, name=f"conv_{name}"
    )
    return S.Activation(S.BatchNorm(x, fix_gamma=False, name=f"bn_{name}"), act_type="relu", name=f"relu_{name}")


def _pool(x, kind, stride, pad, name):
    return S.Pooling(x, kernel=(3, 3), stride=(stride,) * 2, pad=(pad,) * 2, pool_type=kind, name=name,
                     pooling_convention="valid" if pad else "full")  # fmt: skip


def _mixed(x, name, one, reduced, three, double_reduced, double, kind, projected):
    branches = [
        _conv(x, one, 1, 1, 0, f"{name}_1x1"),
        _conv(_conv(x, reduced, 1, 1, 0, f"{name}_3x3_reduce"), three, 3, 1, 1, f"{name}_3x3"),
        _twice(x, name, double_reduced, double, 1),
        _conv(_pool(x, kind, 1, 1, f"{kind}_pool_{name}_pool"), projected, 1, 1, 0, f"{name}_proj"),
    ]
    return S.Concat(*branches, name=f"ch_concat_{name}_chconcat")


def _halving(x, name, reduced, three, double_reduced, double):
    branches = [
        _conv(_conv(x, reduced, 1, 1, 0, f"{name}_3x3_reduce"), three, 3, 2, 1, f"{name}_3x3"),
        _twice(x, name, double_reduced, double, 2),
        _pool(x, "max", 2, 1, f"max_pool_{name}_pool"),
    ]
    return S.Concat(*branches, name=f"ch_concat_{name}_chconcat")


def _twice(x, name, reduced, filters, stride):
    x = _conv(_conv(x, reduced, 1, 1, 0, f"{name}_double_3x3_reduce"), filters, 3, 1, 1, f"{name}_double_3x3_0")
    return _conv(x, filters, 3, stride, 1, f"{name}_double_3x3_1")


def old_json(sym) -> str:
    """A symbol as MXNet 0.8 wrote it."""
    new = json.loads(sym.tojson())
    states = set(sym.list_auxiliary_states())
    kept = [i for i, n in enumerate(new["nodes"]) if not (n["op"] == "null" and n["name"] in states)]
    place = {old: i for i, old in enumerate(kept)}
    nodes = []
    for i in kept:
        node = new["nodes"][i]
        inputs = [[place[e[0]], e[1]] for e in node["inputs"] if e[0] in place]
        param = {} if node["op"] == "null" else node.get("attrs", {})
        nodes.append({"op": node["op"], "param": param, "name": node["name"], "inputs": inputs,
                      "backward_source_id": -1})  # fmt: skip
    args = [i for i, n in enumerate(nodes) if n["op"] == "null"]
    heads = [[place[e[0]], e[1]] for e in new["heads"]]
    return json.dumps({"nodes": nodes, "arg_nodes": args, "heads": heads}, indent=1)

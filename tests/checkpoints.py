"""Small MXNet checkpoints with the layer names of Gluon's zoo, written as MXNet would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fewbit.frontends.mxnet.graph import Entry, SymbolGraph, SymbolNode
from fewbit.frontends.mxnet.ndarray import save_params
from fewbit.frontends.mxnet.symbol import save_symbol

CONV = {"kernel": "(3, 3)", "pad": "(1, 1)", "num_filter": "32", "no_bias": "True"}


class Net:
    """A symbol in the making."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[SymbolNode] = []
        self.args: dict[str, Any] = {}
        self.auxs: dict[str, Any] = {}
        self.rng = np.random.default_rng(seed)

    def add(self, op: str, name: str, *inputs: int, **attrs: str) -> int:
        self.nodes.append(SymbolNode(op, name, attrs, tuple(Entry(i, 0) for i in inputs)))
        return len(self.nodes) - 1

    def weight(self, name: str, *shape: int) -> int:
        self.args[name] = (self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        return self.add("null", name)

    def norm(self, name: str, x: int, channels: int) -> int:
        reads = []
        for kind, low in (("gamma", 0.5), ("beta", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
            held = self.auxs if kind.startswith("running") else self.args
            held[f"{name}_{kind}"] = self.rng.uniform(low, low + 1, channels).astype(np.float32)
            reads.append(self.add("null", f"{name}_{kind}"))
        return self.add("BatchNorm", f"{name}_fwd", x, *reads, eps="1e-05", fix_gamma="False")


def zoo_like(folder: Path, name: str, layers: str, *, first_norm: bool = False, epoch: int = 0) -> Path:
    """data → [BatchNorm →] Convolution → BatchNorm → relu → Convolution → relu → Pooling → Flatten → FullyConnected

    Args:
        name: prefix of the files. layers: prefix of the layers, such as "mobilenet0_".

    Returns:
        its symbol.
    """
    net = Net()
    x = net.add("null", "data")
    x = net.norm(f"{layers}batchnorm0", x, 3) if first_norm else x
    x = net.add("Convolution", f"{layers}conv0_fwd", x, net.weight(f"{layers}conv0_weight", 32, 3, 3, 3), **CONV)
    x = net.norm(f"{layers}batchnorm1", x, 32)
    x = net.add("Activation", f"{layers}relu0_fwd", x, act_type="relu")
    x = net.add("Convolution", f"{layers}conv1_fwd", x, net.weight(f"{layers}conv1_weight", 32, 32, 3, 3), **CONV)
    x = net.add("Activation", f"{layers}relu1_fwd", x, act_type="relu")
    x = net.add("Pooling", f"{layers}pool0_fwd", x, kernel="(1, 1)", global_pool="True", pool_type="avg")
    x = net.add("Flatten", f"{layers}flatten0_flatten0", x)
    w, b = net.weight(f"{layers}dense0_weight", 5, 32), net.weight(f"{layers}dense0_bias", 5)
    x = net.add("FullyConnected", f"{layers}dense0_fwd", x, w, b, num_hidden="5")
    variables = tuple(i for i, n in enumerate(net.nodes) if n.op == "null")
    folder.mkdir(parents=True, exist_ok=True)
    save_symbol(folder / f"{name}-symbol.json", SymbolGraph(tuple(net.nodes), (Entry(x, 0),), variables))
    save_params(folder / f"{name}-{epoch:04d}.params", net.args, net.auxs)
    return folder / f"{name}-symbol.json"

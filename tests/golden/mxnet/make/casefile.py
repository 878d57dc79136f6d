"""Golden cases of single MXNet operators: symbol, parameters, inputs and MXNet's own answers, many in one .npz.

Imported by ops_*.py beside it, which are run in an environment of their own (they only read and write files here):

    python3.11 -m venv oracle && oracle/bin/pip install mxnet==1.9.1 numpy==1.23.5 scipy==1.10.1
    oracle/bin/python tests/golden/mxnet/make/ops_layers.py
"""

from __future__ import annotations

import json
from pathlib import Path

import mxnet as mx
import numpy as np

FOLDER = Path(__file__).resolve().parent.parent / "ops"


TYPES = ["float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool"]


def layer(op: str, feeds: dict, outputs: int = 1, **attrs):
    """The symbol of one layer, by any name that MXNet has for its operator.

    Args:
        op: the operator. feeds: its inputs by name, as arrays, whose types are noted.
        outputs: how many. attrs: of the layer.
    """
    nodes = [{"op": "null", "name": k, "attrs": {"__dtype__": str(TYPES.index(v.dtype.name))}, "inputs": []}
             for k, v in feeds.items()]  # fmt: skip
    text = {k: str(v) for k, v in attrs.items()}
    n = len(nodes)
    nodes.append({"op": op, "name": "layer", "attrs": text, "inputs": [[i, 0, 0] for i in range(n)]})
    heads = [[n, i, 0] for i in range(outputs)]
    version = {"mxnet_version": ["int", 10901]}
    return mx.sym.load_json(json.dumps({"nodes": nodes, "arg_nodes": list(range(n)), "heads": heads, "attrs": version}))


class CaseFile:
    """Collects cases; `save` writes them.

    Args:
        group: name of the file.
    """

    def __init__(self, group: str) -> None:
        self.group, self.kept = group, {}
        self.rng = np.random.RandomState(len(group))

    def add(self, name: str, sym, *, shapes=None, params=None, feeds=None, free=()) -> None:
        """Run a symbol in MXNet and keep everything.

        Args:
            name: of the case. sym: the symbol.
            shapes: of the inputs that get random numbers. feeds: inputs given as arrays.
            params: arguments and auxiliary states to be kept as parameters; what is in none of the three gets random
                numbers of the inferred shape, and is a parameter.
            free: inputs whose shape the importer is not told.
        """
        feeds = dict(feeds or {})
        for key, shape in (shapes or {}).items():
            feeds[key] = self.rng.standard_normal(shape).astype(np.float32)
        known = {k: v.shape for k, v in feeds.items()} | {k: v.shape for k, v in (params or {}).items()}
        arg_shapes, _, aux_shapes = sym.infer_shape(**{k: v for k, v in known.items() if k in sym.list_arguments()})
        args, auxs = dict(feeds), {}
        for key, shape in zip(sym.list_arguments(), arg_shapes, strict=True):
            if key not in args:
                args[key] = (params or {}).get(key, self.rng.standard_normal(shape).astype(np.float32) * 0.5)
        for key, shape in zip(sym.list_auxiliary_states(), aux_shapes, strict=True):
            auxs[key] = (params or {}).get(key, (self.rng.random_sample(shape) + 0.5).astype(np.float32))
        run = sym.bind(
            mx.cpu(),
            {k: mx.nd.array(v, dtype=v.dtype) for k, v in args.items()},
            aux_states={k: mx.nd.array(v, dtype=v.dtype) for k, v in auxs.items()},
            grad_req="null",
        )
        outs = run.forward(is_train=False)
        self.kept[f"{name}|json"] = np.frombuffer(sym.tojson().encode(), np.uint8)
        for i, out in enumerate(outs):
            self.kept[f"{name}|out|{i}"] = out.asnumpy()
        for key, value in {**args, **auxs}.items():
            kind = ("free" if key in free else "in") if key in feeds else "param"
            self.kept[f"{name}|{kind}|{key}"] = value

    def run(self, op: str, *arrays, outputs: int = 1, case: str = "", params=(), **attrs) -> None:
        """Add a case of one layer.

        Args:
            op: the operator; in NumPy's style it may give scalars.
            arrays: its inputs, or their shapes for random numbers.
            case: name of the case, if operator and attributes do not tell. params: which inputs are parameters.
        """
        given = [self.rng.standard_normal(a).astype(np.float32) if isinstance(a, tuple) else a for a in arrays]
        feeds = {f"in{i}": a for i, a in enumerate(given)}
        name = " ".join([case or op, *(f"{k}={v}" for k, v in attrs.items() if not case)])
        name += "".join(f" {a.dtype}" for a in given[:1] if a.dtype != np.float32)
        same = sum(k.split("|")[0].split(" #")[0] == name for k in self.kept if k.endswith("|json"))
        name += f" #{same + 1}" if same else ""
        inputs = dict(feeds)
        kept = {f"in{i}": feeds.pop(f"in{i}") for i in params}
        with mx.util.np_shape(op.startswith("_np")):
            self.add(name, layer(op, inputs, outputs, **attrs), feeds=feeds, params=kept)

    def save(self) -> None:
        """Write the file."""
        path = FOLDER / f"{self.group}.npz"
        np.savez_compressed(path, **self.kept)
        print(path.name, path.stat().st_size, "bytes", sum(k.endswith("|json") for k in self.kept), "cases")

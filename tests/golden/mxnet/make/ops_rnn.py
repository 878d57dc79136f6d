"""Golden cases of the fused RNN, and of Gluon's recurrent layers as exported. How to run it: see casefile.py."""

from __future__ import annotations

import mxnet as mx
import numpy as np
from casefile import CaseFile
from mxnet.gluon import rnn

S = mx.sym
X, PARAMETERS, STATE, CELL = (S.var(n) for n in ("data", "parameters", "state", "state_cell"))
T, N, IN, H = 5, 2, 3, 4


def main() -> None:
    file = CaseFile("rnn")
    for mode in ("rnn_relu", "rnn_tanh", "lstm", "gru"):
        for levels, both in ((1, False), (1, True), (2, False), (3, True)):
            for ends in (False, True):
                fused(file, mode, levels, both, ends)
        gluon(file, mode)
    file.save()


def fused(file: CaseFile, mode: str, levels: int, both: bool, ends: bool) -> None:
    """With first states that are fed, or that are zero."""
    shape = (levels * (1 + both), N, H)
    states = [STATE, CELL] if mode == "lstm" else [STATE]
    fed = {s.name: shape for s in states} if ends else {}
    zero = {} if ends else {s.name: np.zeros(shape, "float32") for s in states}
    sym = S.RNN(X, PARAMETERS, *states, state_size=H, num_layers=levels, bidirectional=both, mode=mode, p=0.1,
                state_outputs=ends, name="rnn0")  # fmt: skip
    name = f"{mode}_{levels}{'_both' if both else ''}{'_ends' if ends else ''}"
    file.add(name, S.Group(list(sym)) if ends else sym, shapes={"data": (T, N, IN), **fed}, params=zero,
             free={"data"} if not ends else ())  # fmt: skip


def gluon(file: CaseFile, mode: str) -> None:
    """A layer of Gluon: its parameters are joined in the graph, its first states are zeros."""
    make = {"lstm": rnn.LSTM, "gru": rnn.GRU, "rnn_relu": rnn.RNN, "rnn_tanh": rnn.RNN}[mode]
    more = {"activation": mode[4:]} if mode.startswith("rnn") else {}
    layer = make(H, num_layers=2, bidirectional=True, layout="NTC", prefix="rnn_", **more)
    layer.initialize(mx.init.Xavier())
    layer.hybridize()
    x = file.rng.standard_normal((N, T, IN)).astype("float32")
    layer(mx.nd.array(x))
    sym = layer(S.var("data"))
    params = {p.name: p.data().asnumpy() for p in layer.collect_params().values()}
    file.add(f"gluon_{mode}", sym, feeds={"data": x}, params=params)


if __name__ == "__main__":
    main()

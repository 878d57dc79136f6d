"""What MXNet's own print_summary prints for four symbols, blanks at line ends left out.

Run with MXNet 1.9.1:  python tests/golden/mxnet/make/summary.py
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import mxnet as mx

HERE = Path(__file__).resolve().parents[1]
CASES = {
    "fashion": (HERE.parents[2] / "examples" / "mxnet" / "fashion-symbol.json", (1, 1, 28, 28)),
    **{name: (HERE / "nets" / f"{name}-symbol.json", (1, 3, 32, 32)) for name in ("resnetv2", "mobilenetv2", "old")},
}

for name, (file, shape) in CASES.items():
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        mx.viz.print_summary(mx.sym.load(str(file)), shape={"data": shape})
    lines = [line.rstrip() for line in said.getvalue().splitlines()]
    (HERE / "summary" / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

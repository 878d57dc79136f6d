"""`mx.viz` in MXNet's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fewbit.compat.mxnet as mx
from fewbit.compat.mxnet.missing import NotThere
from fewbit.compat.mxnet.network import PlannedSymbol
from fewbit.errors import UnknownName, UsageError

GOLDEN = Path(__file__).parents[1] / "golden" / "mxnet"
SHAPE = {"data": (1, 1, 28, 28)}


@pytest.fixture(scope="module")
def symbol(prefix: str) -> Any:
    """Of the tutorial, without parameters."""
    return mx.sym.load(f"{prefix}-symbol.json")


@pytest.mark.parametrize("name", ["fashion", "resnetv2", "mobilenetv2", "old"])
def test_a_summary_is_the_one_that_mxnet_prints(name: str, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = f"{prefix}-symbol.json" if name == "fashion" else GOLDEN / "nets" / f"{name}-symbol.json"
    mx.viz.print_summary(mx.sym.load(file), shape=SHAPE if name == "fashion" else {"data": (1, 3, 32, 32)})
    assert capsys.readouterr().out == (GOLDEN / "summary" / f"{name}.txt").read_text("utf-8")


def test_a_summary_without_shapes(symbol: Any, capsys: pytest.CaptureFixture[str]) -> None:
    mx.viz.print_summary(symbol, line_length=60, positions=(20, 40, 50, 60))
    out = capsys.readouterr().out
    assert "Total params: 0" in out and max(map(len, out.splitlines())) == 60


def test_a_network_is_drawn_as_the_digraph_was(symbol: Any, tmp_path: Path) -> None:
    drawn = mx.viz.plot_network(symbol, title="net", shape=SHAPE, node_attrs={"shape": "oval", "fixedsize": "false"})
    assert "Convolution" in drawn.source and 'shape="oval"' in drawn.source and "1×16×28×28" in drawn.source
    assert "conv0_weight" not in drawn.source
    written = drawn.render(tmp_path / "net", format="png")
    assert written == str(tmp_path / "net.png") and Path(written).read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "net").read_text("utf-8") == drawn.source
    assert drawn.render("other", tmp_path, cleanup=True).endswith("other.svg") and not (tmp_path / "other").exists()
    assert drawn._repr_svg_().startswith("<?xml")


def test_weights_can_be_shown(symbol: Any) -> None:
    drawn = mx.viz.plot_network(symbol, shape=SHAPE, hide_weights=False)
    (stage,) = drawn.drawing.data.stages
    weights = {b.name: b.detail for b in stage.boxes if b.kind == "weight"}
    assert weights["fashion_conv0_weight"] == "16×1×3×3" and "data" not in weights


def test_integer_networks_are_drawn_too(prefix: str) -> None:
    import fewbit as fb

    fused = fb.fuse(fb.load(prefix))
    planned = PlannedSymbol(fused, fb.make_plan(fused))
    drawn = mx.visualization.plot_network(planned)
    assert {b.verdict for s in drawn.drawing.data.stages for b in s.boxes} >= {"integer"}
    assert mx.viz.plot_network(fb.load(prefix)).drawing.stages == ("float",)


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ({"save_format": "pdf"}, UnknownName, "dot, html, png, svg"),
        ({"dtype": "float16"}, UsageError, "dtype has no effect"),
        ({"node_attrs": {"shap": "box"}}, UnknownName, "did you mean 'shape'"),
        ({"shape": {"date": (1, 1, 28, 28)}}, UnknownName, "did you mean 'data'"),
        ({"shape": {}}, UsageError, "does not tell that of input 'data'"),
    ],
)
def test_what_has_no_effect_is_refused(symbol: Any, words: dict, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        mx.viz.plot_network(symbol, **words)


def test_what_is_missing_is_told(symbol: Any) -> None:
    with pytest.raises(NotThere, match=r"Digraph.pipe.*render\(\)"):
        mx.viz.plot_network(symbol).pipe()
    with pytest.raises(UsageError, match="opens a window"):
        mx.viz.plot_network(symbol).render("x", view=True)
    with pytest.raises(NotThere, match=r"mx\.viz\.plot_tree"):
        mx.viz.plot_tree(symbol)
    with pytest.raises(UsageError, match="positions holds 2"):
        mx.viz.print_summary(symbol, positions=(0.5, 1.0))

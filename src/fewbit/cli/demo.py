"""`fewbit demo`: the network that comes along, float → int8, and what that costs and gains on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fewbit.cli.bar import Say, counted, work
from fewbit.cli.given import Json, Quiet
from fewbit.cli.screen import answer
from fewbit.errors import OutputError

if TYPE_CHECKING:
    from fewbit.graph.model import Model
    from fewbit.report.benchmark import Benchmark
    from fewbit.report.compare import Comparison
    from fewbit.report.evaluate import Evaluation
    from fewbit.report.quantized import Quantized

BATCH_SIZES = (1, 32)
SECONDS = 0.5
"""To time each network for, at each batch size."""

WORST, LAYER_IMAGES = 5, 200
"""Layers shown, and images that they are compared on."""


@dataclass(frozen=True)
class OnEngine:
    """What was measured on one engine."""

    engine: str
    evaluation: Evaluation
    timing: Benchmark


def run(
    *,
    save: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep the networks, the plan and the layers there.", show_default=False),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Quantize the small network that comes along.

    Shows accuracy, size, latency and the worst layers, on ONNX Runtime, and on OpenVINO if it is installed.
    """
    from fewbit import api
    from fewbit.data.demo import DEMO_MODEL, demo_calibration, demo_test

    if save is not None:
        try:
            save.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise OutputError(f"cannot make the folder {save}: {e.strerror or e}; give another one") from e
    given = api.load(DEMO_MODEL)
    with work("calibrating", 10, quiet=quiet) as (tick, step):
        made = api.quantize(given, demo_calibration(), verify=False, progress=tick, say=step, batch_size=32)
    engines = ["onnxruntime", *(["openvino"] if find_spec("openvino") else [])]
    images = {k: v[:LAYER_IMAGES] for k, v in demo_test().items() if k != "labels"}
    with work("comparing", None, quiet=quiet, still=True) as (_, step):
        measured = [measure(engine, given, made, demo_test(), step) for engine in engines]
        layers = api.compare(given, made, images, batch_size=100, progress=counted(step, "comparing layers"))
    if save is not None:
        given.save(save / "demo.onnx")
        made.save(save / "demo-int8.onnx")
        layers.save(save / "layers")
    answer(
        lambda: text(given, made, measured, layers, save),
        lambda: found(given, made, measured, layers),
        json=json,
        quiet=quiet,
    )


def measure(engine: str, given: Model, made: Quantized, test: Any, step: Say | None) -> OnEngine:
    """Accuracy and latency, float and integer, on one engine."""
    from fewbit import api

    return OnEngine(
        engine,
        cast(
            "Evaluation",
            api.evaluate(
                made,
                test,
                reference=given,
                engine=engine,
                batch_size=100,
                progress=counted(step, f"evaluating on {engine}"),
            ),
        ),
        api.benchmark(
            made,
            given,
            engine=engine,
            batch_sizes=BATCH_SIZES,
            min_time=SECONDS,
            progress=counted(step, f"timing on {engine}", "%"),
        ),
    )


def text(given: Model, made: Quantized, measured: list[OnEngine], layers: Comparison, save: Path | None) -> str:
    """What people see."""
    from fewbit.core.tables import number, pairs, size, table, times, wrapped
    from fewbit.report.reasons import grouped, kept_float
    from fewbit.report.summary import correction_lines

    assert made.report is not None
    kept = kept_float(made.plan, {str(n.name): n.op_type for n in [*given.nodes, *made.nodes]})
    integer = sum(n.quantized for n in made.plan.nodes.values())
    first = measured[0].evaluation
    parts = [
        "a residual network for Fashion-MNIST, float -> int8, calibrated on 320 images, tested on "
        f"{first.samples:,} others",
        "",
        pairs([
            ("weights", f"{size(given.nbytes)} -> {size(made.nbytes)} ({times(made.nbytes / given.nbytes)})"),
            ("layers", f"{integer} of {len(made.plan.nodes)} integer, {len(kept)} kept float"),
        ]),
        *(line for g in grouped(kept) for line in wrapped(f"  {g}")),
        *correction_lines(made.report.corrections),
    ]  # fmt: skip
    for on in measured:
        e = on.evaluation
        lines = [
            ("accuracy float", str(e.reference[1])),
            ("accuracy int8", str(e.accuracy[1])),
            ("agreement", str(e.agreement)),
        ]
        head = ("<network", ">batch", ">ms", ">samples/s", ">ratio")
        rows = [
            ("float" if t.name == on.timing.against else "int8", str(t.batch), number(t.ms, 3),
             number(t.throughput, 0), times(t.ratio))
            for t in on.timing.timings
        ]  # fmt: skip
        parts += ["", f"on {on.engine}, 1 thread", pairs(lines), "", table(head, rows)]
    if not any(on.engine == "openvino" for on in measured):
        parts += ["", "OpenVINO is not installed; to see it too: pip install 'fewbit[openvino]'"]
    parts += ["", layers.text(WORST)]
    return "\n".join([*parts, *(["", f"kept in {save}"] if save is not None else [])])


def found(given: Model, made: Quantized, measured: list[OnEngine], layers: Comparison) -> dict[str, Any]:
    """What machines see."""
    from fewbit.core.tables import plain

    assert made.report is not None
    return {
        "size_float": given.nbytes,
        "size_quantized": made.nbytes,
        "layers": len(made.plan.nodes),
        "integer": sum(n.quantized for n in made.plan.nodes.values()),
        "kept_float": made.plan.kept_float(),
        "corrections": plain(made.report.corrections),
        "engines": {
            on.engine: {"evaluation": on.evaluation.to_json(), "timing": on.timing.to_json()} for on in measured
        },
        "comparison": layers.to_json(),
    }

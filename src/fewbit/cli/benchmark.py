"""`fewbit benchmark`: latency and throughput, in turns with the float network; of one process or several at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fewbit.cli.bar import counted, work
from fewbit.cli.flags import flag, with_flags
from fewbit.cli.given import AnyModel, Config, Data, Engine, InputShapes, Json, Quiet, data_words, read_shapes
from fewbit.cli.screen import answer
from fewbit.config import DataConfig
from fewbit.errors import UsageError

Warmup = Annotated[
    int | None,
    typer.Option(min=0, metavar="INT", help="Runs that do not count [default: 5].", show_default=False),
]
MinTime = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", help="How long each network is timed at each batch size [default: 1].", show_default=False
    ),
]
NumWarmup = Annotated[
    int | None, typer.Option(min=0, metavar="INT", help="Another word for --warmup.", show_default=False)
]
NumInference = Annotated[
    int | None,
    typer.Option(min=1, metavar="INT", help="Time so many runs of each network, for --min-time.", show_default=False),
]
Instances = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="INT",
        help="So many processes run the network at once, each on cores of its own; shows what each gets done, and all.",
        show_default=False,
    ),
]
CoresEach = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="INT", help="Cores of each instance [default: all, divided by them].", show_default=False
    ),
]


@with_flags(DataConfig, without=("batch_size",))
def run(
    *,
    model: AnyModel,
    against: Annotated[
        Path | None,
        typer.Option(metavar="FLOAT", help="The float network; ratios refer to it.", show_default=False),
    ] = None,
    batch_sizes: Annotated[str, typer.Option(metavar="N,M,…", help="Samples in a run; each is timed.")] = "1",
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="INT", help="Cores that one run may use [default: 1].", show_default=False),
    ] = None,
    engine: Engine = "onnxruntime",
    input_shapes: InputShapes = None,
    data: Data = None,
    config: Config = None,
    warmup: Warmup = None,
    min_time: MinTime = None,
    num_warmup_batches: NumWarmup = None,
    num_inference_batches: NumInference = None,
    instances: Instances = None,
    cores_per_instance: CoresEach = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Time every layer as well, float and integer side by side.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    words: dict[str, Any],
) -> None:
    """Time a network, in turns with the float network.

    Shows medians, quartiles, throughput and ratios. Taking turns lets what else the machine does hit both alike. Inputs
    are random unless DATA is given.
    """
    from fewbit import api

    sizes = read_sizes(batch_sizes)
    if profile and against is None:
        raise UsageError("--profile puts two networks side by side; give the float one with --against FLOAT")
    if profile and instances is not None:
        raise UsageError("--profile times the layers of one process; leave it or --instances out")
    if words and data is None:
        raise UsageError(f"{flag(next(iter(words)))} says how data is read; give it with --data PATH")
    asked = data_words(config, words)
    asked.pop("batch_size", None)  # --batch-sizes says it
    shapes = read_shapes(input_shapes)
    with work("reading", None, quiet=quiet, still=True) as (_, step):
        given = api.load(model, allow_quantized=True, input_shapes=shapes)
        other = api.load(against, allow_quantized=True, input_shapes=shapes) if against is not None else None
        found = api.benchmark(
            given,
            other,
            data=data,
            batch_sizes=sizes,
            threads=threads,
            engine=engine,
            warmup=warmup,
            min_time=min_time,
            num_warmup_batches=num_warmup_batches,
            num_inference_batches=num_inference_batches,
            instances=instances,
            cores_per_instance=cores_per_instance,
            batch_size=max(sizes),
            progress=counted(step, "timing", "%"),
            **asked,
        )
        layers, batch = None, found.timings[-1].batch  # a network with a fixed batch has its own
        if profile:
            assert other is not None
            if step is not None:
                step("timing every layer", 0, 0)
            layers = api.profile(
                given, other, data=data, batch_size=batch, threads=threads or 1, engine=engine, **asked
            )
    answer(
        lambda: found.text() + (f"\n\nprofile, batch {batch}\n{layers.text()}" if layers is not None else ""),
        lambda: found.to_json() | ({"profile": {"batch": batch, **layers.to_json()}} if layers is not None else {}),
        json=json,
        quiet=quiet,
    )


def read_sizes(text: str) -> tuple[int, ...]:
    """`1,32` → (1, 32), each once.

    Raises:
        UsageError: something else.
    """
    parts = [p.strip() for p in text.split(",")]
    if not all(p.isdecimal() and int(p) > 0 for p in parts):
        raise UsageError(f"batch_sizes is {text!r}; it must be whole numbers of 1 or more with commas between them")
    return tuple(dict.fromkeys(int(p) for p in parts))

"""`fewbit simulate`: what a network would answer in so many bits; with --sweep a grid of settings as table and plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fewbit.cli.flags import flag, with_flags
from fewbit.cli.given import Data, InputShapes, Json, Quiet, Threads, read_shapes
from fewbit.cli.outputs import output_file
from fewbit.cli.quantize import warnings_at_the_end
from fewbit.cli.resuming import going_on
from fewbit.cli.screen import answer, list_networks, say, work
from fewbit.cli.scripts import read_script_words
from fewbit.config import DataConfig
from fewbit.config.simulate import SimulateConfig
from fewbit.errors import UsageError, one_of

ModelName = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="A network's file, a reference network (--list-models), or 'module:function' that returns a torch module.",
        show_default=False,
    ),
]
Named = Annotated[
    str | None, typer.Option("--model", metavar="MODEL", help="Another place for MODEL.", show_default=False)
]
Dataset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Labelled images: fashion-mnist, mnist, cifar10, cifar100 or imagenet; evaluates on the test part, "
        "calibrates on the training part.",
        show_default=False,
    ),
]
DatasetRoot = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Where the files of the data set are.", show_default=False)
]
CalibData = Annotated[
    str | None,
    typer.Option(
        metavar="DATA", help="To calibrate on, beside --data [default: its first samples].", show_default=False
    ),
]
TestLimit = Annotated[
    int | None,
    typer.Option(min=1, metavar="INT", help="Evaluate on so many test images [default: all].", show_default=False),
]
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Where torch networks run: cpu, cuda, auto [default: cpu].", show_default=False),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Weights: .pt, .npz or .safetensors of a torch network [default: a reference network is trained once]; "
        ".params of an MXNet symbol.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE",
        help="The simulated network as .onnx; of a sweep, its table as .md, .csv or .json.", show_default=False,
    ),
]  # fmt: skip
Plot = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Plot of the sweep, .png or .svg [default: beside the table, .png].", show_default=False
    ),
]
SWEEP = "Sweep"
READ = read_script_words


def _axis(text: str, default: str) -> Any:
    return typer.Option(metavar="A,B,…", help=f"{text} [default: {default}]", rich_help_panel=SWEEP, show_default=False)


@with_flags(SimulateConfig, DataConfig, without=("seed", "shuffle"))
def run(
    *,
    model: ModelName = None,
    named: Named = None,
    dataset: Dataset = None,
    dataset_root: DatasetRoot = None,
    data: Data = None,
    calib_data: CalibData = None,
    limit: TestLimit = None,
    params: Weights = None,
    input_shapes: InputShapes = None,
    use_gn: Annotated[bool, typer.Option("--use-gn", help="Reference network: GroupNorm for BatchNorm.")] = False,
    use_se: Annotated[bool, typer.Option("--use-se", help="Reference network: squeeze and excitation.")] = False,
    last_gamma: Annotated[
        bool, typer.Option("--last-gamma", help="Reference network: the last scale of a block begins at 0.")
    ] = False,
    device: Device = None,
    use_gpu: Annotated[
        int | None,
        typer.Option(metavar="INT", help="Another word for --device: cuda:INT; -1 is cpu.", show_default=False),
    ] = None,
    threads: Threads = None,
    print_model: Annotated[bool, typer.Option("--print-model", help="Show what becomes of each layer.")] = False,
    list_models: Annotated[bool, typer.Option("--list-models", help="Show the reference networks and exit.")] = False,
    output: Out = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Simulate every combination of some settings.", rich_help_panel=SWEEP)
    ] = False,
    sweep_bits: Annotated[str | None, _axis("Bits of inputs and weights", "8,6,5,4,3")] = None,
    sweep_quant_type: Annotated[str | None, _axis("What shares a weight scale", "layer,channel")] = None,
    sweep_calib_mode: Annotated[str | None, _axis("Where ranges come from", "naive,kl")] = None,
    sweep_merge_bn: Annotated[str | None, _axis("Whether BatchNorm is merged", "no,yes")] = None,
    plot: Plot = None,
    json: Json = False,
    quiet: Quiet = False,
    words: dict[str, Any],
) -> None:
    """Show what a network would lose in so many bits.

    Convolutions and dense layers round their inputs and weights, in any width from 1 to 16 bits; top-1 and top-5 are
    put beside those of float. Files need nothing but fewbit; reference networks and torch modules need PyTorch.
    """
    if list_models:
        list_networks(json=json, quiet=quiet)
        return
    what = _one_model(model, named)
    if data is None and dataset is None:
        raise UsageError(
            "a simulation is evaluated on labelled images; give them with --dataset fashion-mnist, or --data PATH"
        )
    shared = {
        "dataset": dataset, "dataset_root": dataset_root, "calib_data": calib_data, "limit": limit, "params": params,
        "input_shapes": read_shapes(input_shapes), "device": _device(device, use_gpu), "threads": threads,
        "use_gn": use_gn, "use_se": use_se, "last_gamma": last_gamma, **words,
    }  # fmt: skip
    axes = {
        "bits": _numbers(sweep_bits), "quant_type": _parts(sweep_quant_type), "calib_mode": _parts(sweep_calib_mode),
        "merge_bn": _switches(sweep_merge_bn),
    }  # fmt: skip
    if output is not None:
        output_file(output, Path(what), params, dataset_root, data=data)
    if sweep:
        if print_model:
            raise UsageError("--print-model is about one setting; leave it or --sweep out")
        _sweep(what, data, axes, output, plot, shared, json=json, quiet=quiet)
        return
    for axis, values in axes.items():
        if values is not None:
            raise UsageError(f"{flag('sweep_' + axis)} is an axis of a sweep; add --sweep")
    if plot is not None:
        raise UsageError("--plot draws a sweep; add --sweep")
    _simulate(what, data, output, shared, print_model, json=json, quiet=quiet)


def _simulate(
    what: str, data: str | None, output: Path | None, shared: dict[str, Any], layers: bool, *, json: bool, quiet: bool
) -> None:
    from fewbit import api
    from fewbit.api.simulating import is_file_name

    if output is not None and output.suffix != ".onnx":
        raise UsageError(f"the output {output} is the simulated network; it must end in .onnx")
    if output is not None and not is_file_name(what):
        raise UsageError(
            f"{what} is simulated in torch, which writes no ONNX; simulate its ONNX export, or leave -o out"
        )
    with warnings_at_the_end() as said, work("simulating", None, quiet=quiet) as (_, step):
        found = api.simulate(what, data, say=step, tell=None if quiet or step else say, **shared)
        said |= set() if json or quiet else set(found.warnings)  # the text has them
    if output is not None:
        found.save(output)
    answer(
        lambda: "\n".join([*([found.layers_text(), ""] if layers else []), found.text()]),
        found.to_json,
        json=json,
        quiet=quiet,
    )


def _sweep(
    what: str,
    data: str | None,
    axes: Mapping[str, Any],
    output: Path | None,
    plot: Path | None,
    shared: dict[str, Any],
    *,
    json: bool,
    quiet: bool,
) -> None:
    from fewbit.api.sweeping import sweep
    from fewbit.report.pictures import can_plot, check_plot
    from fewbit.report.sweep import check_table
    from fewbit.report.sweep_plot import save_plot

    if output is not None:
        check_table(output)
        if plot is None and can_plot():
            plot = output.with_suffix(".png")
        elif plot is None and not quiet:
            say("note: no plot, since matplotlib is not installed; it comes with: pip install 'fewbit[plot]'")
    if plot is not None:
        check_plot(plot)
        output_file(plot, Path(what), output, data=data)
    store = output.with_name(f"{output.name}.sweep") if output is not None else None
    with going_on(store), work("sweep", None, unit="settings", quiet=quiet) as (_, step):
        found = sweep(what, data, axes, store=store, say=step, tell=None if quiet or step else say, **shared)
    if output is not None:
        found.save(output)
    if plot is not None:
        save_plot(found, plot)
    answer(found.text, found.to_json, json=json, quiet=quiet)


def _one_model(model: str | None, named: str | None) -> str:
    """The network, wherever it was said."""
    if model is not None and named is not None:
        raise UsageError(f"two networks are given, {model} and {named}; leave one of them out")
    found = model if model is not None else named
    if found is None:
        raise UsageError("no network is given; give a file, or a name that --list-models shows")
    return found


def _device(device: str | None, gpu: int | None) -> str:
    if gpu is None:
        return device or "cpu"
    if device is not None:
        raise UsageError("--use-gpu and --device say the same; leave one of them out")
    return "cpu" if gpu < 0 else f"cuda:{gpu}"


def _parts(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(p.strip() for p in text.split(",") if p.strip())


def _numbers(text: str | None) -> tuple[int, ...] | None:
    parts = _parts(text)
    if parts is None:
        return None
    if not all(p.isdecimal() for p in parts):
        raise UsageError(f"--sweep-bits is {text!r}; it must be whole numbers with commas between them: 8,6,4")
    return tuple(int(p) for p in parts)


def _switches(text: str | None) -> tuple[bool, ...] | None:
    parts = _parts(text)
    return (
        None if parts is None else tuple(one_of("value of --sweep-merge-bn", p, ("no", "yes")) == "yes" for p in parts)
    )

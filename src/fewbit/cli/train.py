"""`fewbit train`: a float network in, an integer network that was trained as one out."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from fewbit.cli.flags import with_flags
from fewbit.cli.given import Json, Output, Quiet
from fewbit.cli.outputs import apart, network_files, output_file
from fewbit.cli.quantize import warnings_at_the_end
from fewbit.cli.screen import answer, list_networks, say, work
from fewbit.config import QuantConfig, configure
from fewbit.config.train import TrainConfig
from fewbit.errors import UsageError

WORDS = (
    "bit_num", "weight_bit_num", "quantize_granularity", "group_size", "quantized_dtype", "quantize_mode",
    "exclude_layers", "exclude_layers_match", "exclude_operators", "overrides", "target", "calib_mode",
    "num_calib_batches", "percentile", "ema_momentum",
)  # fmt: skip
"""Fields of QuantConfig that say something about training."""

Net = Annotated[
    str | None,
    typer.Argument(metavar="NET", help="A reference network (--list-models), or module:function.", show_default=False),
]
Dataset = Annotated[
    str, typer.Option(metavar="NAME", help="Images: fashion-mnist, mnist, cifar10, cifar100, imagenet.")
]
Root = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of their files [default: looked for].", show_default=False),
]
Params = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Float weights: a state_dict as .pt, .npz or .safetensors.", show_default=False),
]
SaveParams = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the trained weights there.", show_default=False)
]
FloatOnly = Annotated[bool, typer.Option("--float-only", help="Train a float network.")]
FloatEpochs = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="INT",
        help="Epochs of the float network, if it must be trained first [default: 10].",
        show_default=False,
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from OUTPUT.train, which is written after each epoch.")]


@with_flags(QuantConfig, TrainConfig, without=[f.name for f in fields(QuantConfig) if f.name not in WORDS])
def run(
    *,
    net: Net = None,
    dataset: Dataset = "fashion-mnist",
    dataset_root: Root = None,
    output: Output = None,
    params: Params = None,
    save_params: SaveParams = None,
    float_only: FloatOnly = False,
    float_epochs: FloatEpochs = None,
    use_gn: Annotated[bool, typer.Option("--use-gn", help="GroupNorm instead of BatchNorm.")] = False,
    use_se: Annotated[bool, typer.Option("--use-se", help="With squeeze and excitation.")] = False,
    last_gamma: Annotated[bool, typer.Option("--last-gamma", help="Residual blocks start as their shortcut.")] = False,
    resume: Resume = False,
    list_models: Annotated[bool, typer.Option("--list-models", help="List the reference networks and exit.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    words: dict[str, Any],
) -> None:
    """Train a network with its integers in place.

    Writes OUTPUT, an integer ONNX network, and beside it the plan. A reference network without --params is trained as
    a float network first, once: it is kept in ~/.cache/fewbit (or FEWBIT_CACHE). A network of your own is taken with
    the weights that it has. First ranges are measured on 512 training images, or 32 for each of --num-calib-batches.
    After Ctrl-C, --resume goes on from the last epoch.
    """
    if list_models:
        list_networks(json=json, quiet=quiet)
        return
    if net is None:
        raise UsageError("there is no network; name one of --list-models, or module:function")
    _check(output, params, save_params, float_only, float_epochs, dataset_root)
    from fewbit.api.training import train

    kept = checkpoint_of(output or save_params or Path())
    recipe = configure(TrainConfig, None, epochs=float_epochs) if float_epochs else None
    start = stamp(kept)
    try:
        with warnings_at_the_end(), work("training", None, unit="steps", quiet=quiet) as (_, step):
            made = train(
                net, dataset, root=dataset_root, params=params, recipe=recipe, float_only=float_only,
                variants={"use_gn": use_gn, "use_se": use_se, "last_gamma": last_gamma}, checkpoint=kept, resume=resume,
                say=step, tell=None if quiet else say, **words,
            )  # fmt: skip
    except BaseException as e:
        if not isinstance(e, Exception) and kept.exists() and (resume or stamp(kept) != start):
            say(f"the last epoch is kept in {kept}; the same command with --resume goes on from there")
        raise
    if output is not None:
        made.save(output)
    if save_params is not None:
        made.save_params(save_params)
    kept.unlink(missing_ok=True)
    wrote = [str(f) for f in (output, save_params) if f is not None]
    answer(
        lambda: f"{made.text()}\n\nwrote {' and '.join(wrote)}",
        lambda: {**made.to_json(), "output": str(output) if output else None, "wrote": wrote},
        json=json,
        quiet=quiet,
    )


def checkpoint_of(out: Path) -> Path:
    """Where the progress of a training is kept."""
    return out.with_name(f"{out.name}.train")


def stamp(file: Path) -> int | None:
    """What is different after a file was written."""
    return file.stat().st_mtime_ns if file.exists() else None


def _check(
    output: Path | None, params: Path | None, save_params: Path | None, float_only: bool, float_epochs: int | None,
    root: Path | None,
) -> None:  # fmt: skip
    """Say what is wrong with files before anything is trained."""
    if params is not None and not params.is_file():
        raise UsageError(f"--params is {params}, and there is no such file; check the name")
    if output is not None and output.suffix.lower() != ".onnx":
        raise UsageError(f"output is {output}; an ONNX file is written, name it .onnx. Weights: --save-params FILE.pt")
    if output is None and not (float_only and save_params is not None):
        raise UsageError("there is no output; give one with -o FILE")
    if float_epochs is not None and (float_only or params is not None):
        raise UsageError(
            "--float-epochs is for a float network that must be trained first; "
            + ("with --float-only say --epochs" if float_only else "with --params there is none")
        )
    beside = network_files(output) if output is not None else {}
    beside.pop("the network", None)
    kept = checkpoint_of(output or save_params or Path())
    apart({"--output": output, **beside, "the progress": kept, "--save-params": save_params})
    read = str(root) if root else None
    for file in (output, save_params):
        if file is not None:
            output_file(file, params or checkpoint_of(file), data=read, network=file == output)

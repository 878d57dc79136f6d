"""Networks of PyTorch: a module with a sample, or an exported program; never a pickle.

load(net, sample)                         torch.onnx exports it, nodes get the names of their modules
load(torch.export.export(net, sample))    the same, with the shapes that were exported
load("net.pt")                            refused: opening it could run any code; the message names the way in
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewbit.errors import UsageError
from fewbit.graph.model import Model

MODULE = "build the module in Python, load its weights, and hand it over: fewbit.load(module, sample)"
TRUSTED = "a pickle can run any code when it is opened, so fewbit opens none"


def load_network(net: Any, sample: Any, words: Sequence[str] = ()) -> Model:
    """The Model of a PyTorch network; it is left as it is.

    Args:
        net: a float `torch.nn.Module` or `torch.export.ExportedProgram`.
        sample: what forward takes; the first axis of a tensor counts samples, and stays free. None for a program.
        words: arguments that were given and say nothing here.

    Raises:
        UsageError: something else, a scripted or quantized module, no sample, or one that the network cannot take.
        AlreadyQuantized: prepared, converted, or quantized by PyTorch. UnsupportedModel: it cannot be exported.
    """
    torch = sys.modules.get("torch")  # whoever hands over a network has imported it
    if torch is None or not isinstance(net, (torch.nn.Module, torch.export.ExportedProgram)):
        raise UsageError(
            f"model is {type(net).__name__}; it must be a path, a Model, or a network of PyTorch: a module, or what "
            "torch.export.export made of one"
        )
    if words:
        raise UsageError(
            f"{' and '.join(words)}: not for networks of PyTorch, which tell that by their sample. To leave more axes "
            "free than the first, hand over torch.export.export(net, (sample,), dynamic_shapes=…)"
        )
    if isinstance(net, torch.jit.ScriptModule):
        what = getattr(net, "original_name", type(net).__name__)
        raise UsageError(
            f"{what} is TorchScript, which PyTorch no longer exports; hand over the module that was scripted or "
            "traced: fewbit.load(module, sample)"
        )
    if isinstance(net, torch.export.ExportedProgram):
        return _program(net, sample)
    return _module(net, sample)


def _module(net: Any, sample: Any) -> Model:
    """A module, exported on its sample."""
    from fewbit.torch.guards import check_float, check_sample
    from fewbit.torch.onnx import arguments, module_to_onnx

    if sample is None:
        raise UsageError(
            f"{type(net).__name__} is a module of PyTorch, which does not tell its inputs; hand a sample of what its "
            "forward takes: fewbit.load(net, sample)"
        )
    inputs = arguments(sample)
    check_float(net)
    check_sample(net, inputs)
    return module_to_onnx(net, inputs)


def _program(program: Any, sample: Any) -> Model:
    """What torch.export made; it has its shapes with it."""
    from fewbit.torch.onnx import program_to_onnx

    if sample is not None:
        raise UsageError("sample is for modules; an exported program tells its inputs itself, leave sample out")
    return program_to_onnx(program)


def way_in(path: Path) -> str:
    """What a file of PyTorch is, told without opening any pickle in it, and how its network gets in."""
    if path.suffix.lower() == ".safetensors":
        return f"holds weights without their network; {MODULE}"
    kind = _kind(path)
    if kind == "program":
        return (
            f"holds an exported program, with pickles inside; {TRUSTED}. If you trust it: "
            "fewbit.load(torch.export.load(path))"
        )
    if kind == "script":
        return f"holds TorchScript, which PyTorch no longer exports; {MODULE}"
    return f"holds a pickle of PyTorch: {TRUSTED}; {MODULE}"


def _kind(path: Path) -> str:
    """What the names of a zip file's members say."""
    try:
        with zipfile.ZipFile(path) as held:
            names = [n.partition("/")[2] for n in held.namelist()]
    except (OSError, zipfile.BadZipFile):
        return ""
    if any(n.startswith("models/") or n == "archive_format" for n in names):
        return "program"
    return "script" if any(n.startswith("code/") for n in names) else ""

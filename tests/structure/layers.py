"""The rules of direction, as a table and two functions over syntax trees.

    errors → core → config → mindspore → graph → {calib, data} → {quantization, engines, torch}
           → {report, search, frontends, deployment} → api → compat → cli

A file may import from its own folder and from what stands left of it; siblings in braces never import each other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

ORDER = (
    {"errors"},
    {"core"},
    {"config"},
    {"mindspore"},
    {"graph"},
    {"calib", "data"},
    {"quantization", "engines", "torch"},
    {"report", "search", "frontends", "deployment"},
    {"api"},
    {"compat"},
    {"cli"},
    {"fewbit"},  # the package itself: only hands out what the others make
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
FORBIDDEN = {("report", "engines"), ("search", "engines")}  # a Runner and a Target are passed in
ONLY_GRAPH = {"onnx", "onnx_ir", "onnxscript", "onnxslim"}
OPTIONAL = {"matplotlib", "py_mini_racer", "resvg_py", "openvino", "torch", "ncnn", "pnnx", "tensorrt", "ray", "tflite"}


@dataclass(frozen=True)
class Import:
    """One imported module, by its full name. `late`: inside a function, or for type checkers alone."""

    name: str
    line: int
    late: bool


def layer_of(module: str) -> str:
    """fewbit.core.spec → core; fewbit, fewbit.__main__ → fewbit."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__main__" else "fewbit"


def imports(module: str, code: ast.Module, *, package: bool = False) -> Iterator[Import]:
    """Every import of a file, wherever it stands; relative ones resolved against `module`."""
    yield from _walk(code, module.split(".") if package else module.split(".")[:-1], late=False)


def _walk(node: ast.AST, here: list[str], late: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, late) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = here[: len(here) - child.level + 1] if child.level else []
            name = ".".join([*base, *(child.module.split(".") if child.module else [])])
            # `from fewbit import core` names the folder only after the word import
            whole = [f"{name}.{alias.name}" if name == "fewbit" else name for alias in child.names]
            yield from (Import(w, child.lineno, late) for w in dict.fromkeys(whole))
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing = isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
            yield from _walk(child, here, late or function or typing)


def violations(module: str, code: ast.Module, *, package: bool = False) -> list[str]:
    """What a file imports against the rules, one sentence each."""
    own, found = layer_of(module), []
    if own not in RANK:
        return [f"{module}: {own!r} has no place in the order of layers"]
    for i in imports(module, code, package=package):
        top = i.name.split(".")[0]
        where = f"{module}:{i.line} imports {i.name}"
        if top == "fewbit" and i.name != "fewbit.__version__":
            other = layer_of(i.name) if layer_of(i.name) in RANK else "fewbit"
            if other != own and RANK[other] >= RANK[own]:
                found.append(f"{where}: {other} does not stand left of {own}")
            elif (own, other) in FORBIDDEN:
                found.append(f"{where}: {own} takes a Runner and a Target as arguments")
            elif other == "torch" != own and i.name != "fewbit.torch" and not i.late:
                found.append(f"{where}: what needs torch is imported inside the function that needs it")
        elif top in ONLY_GRAPH and own != "graph":
            found.append(f"{where}: only graph may")
        elif top in OPTIONAL and not i.late and own != top:  # fewbit/torch/ is itself loaded late
            found.append(f"{where}: an optional package is imported inside the function that needs it")
    return found

"""MXNet's words for what to quantize → fewbit's settings for one network.

excluded_sym_names, exclude_layers      names of layers; those of fused-away layers count for what they are part of
exclude_layers_match                    parts of names
excluded_op_names, exclude_operators    MXNet's operators (Convolution, _sg_mkldnn_conv) or ONNX's (Conv)
quantize_granularity                    of fully connected layers; convolutions have a scale a channel always
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from fewbit.compat.mxnet.collectors import DTYPES
from fewbit.errors import ConfigError, FewbitWarning, UsageError, unknown
from fewbit.frontends.mxnet.layer import OPS
from fewbit.graph.model import SOURCE_OP, Model, known_operators, op_names

FUSED_OPS = {
    f"_sg_{backend}_{name}": op
    for backend in ("mkldnn", "onednn")
    for name, op in (("conv", "Convolution"), ("fully_connected", "FullyConnected"), ("batch_dot", "batch_dot"))
}
"""Operators of fused graphs → what they are built around."""

MODES = {"none": "none", "naive": "naive", "entropy": "entropy", "custom": "custom", "customize": "custom"}
GRANULARITIES = ("tensor-wise", "channel-wise")


def settings(
    model: Model,
    fused: Model,
    *,
    names: Sequence[str] | None,
    match: Sequence[str] | None,
    ops: Sequence[str] | None,
    calib_mode: str | None,
    quantized_dtype: str,
    quantize_mode: str,
    quantize_granularity: str,
    target: str,
) -> dict[str, Any]:
    """Keywords of `QuantConfig`.

    Args:
        model, fused: the network as it came, whose operators are excluded, and fused, whose layers are.

    Raises:
        UsageError: a word that MXNet refuses, too.
    """
    _listed("excluded_sym_names", names)
    _listed("exclude_layers_match", match)
    _listed("excluded_op_names", ops)
    mode = MODES.get(calib_mode or "none")
    if mode is None:
        raise unknown("calib_mode", calib_mode, ("none", "naive", "entropy", "custom"))
    for word, value, allowed in (
        ("quantized_dtype", quantized_dtype, DTYPES),
        ("quantize_mode", quantize_mode, ("full", "smart")),
        ("quantize_granularity", quantize_granularity, GRANULARITIES),
    ):
        if value not in allowed:
            raise unknown(word, value, allowed)
    if mode == "none" and quantized_dtype == "int8":
        quantized_dtype = "auto"  # ranges at run time: the engine has uint8 only
    layers = _layers(model, fused, names or (), match or (), ops or ())
    return {
        "calib_mode": mode,
        "quantized_dtype": quantized_dtype,
        "quantize_mode": quantize_mode,
        "exclude_layers": tuple(layers),
        "overrides": {n: {"granularity": "tensor"} for n in _dense(fused)}
        if quantize_granularity == "tensor-wise"
        else {},
        "target": target,
    }


def _listed(word: str, given: Any) -> None:
    if given is not None and (isinstance(given, str) or not all(isinstance(n, str) for n in given)):
        raise ConfigError(f"{word} is {given!r}; it must be a list of names")


def _layers(model: Model, fused: Model, names: Sequence[str], match: Sequence[str], ops: Sequence[str]) -> list[str]:
    """The layers that are meant. MXNet takes names that stand for nothing in silence; here they are told."""
    known = {*(str(n.name) for n in fused.nodes), *fused.aliases}
    found = [n for n in names if n in known]
    for name in names:
        if name not in known:
            bare = name.removeprefix("quantized_").removesuffix("_output")
            near = [bare] if bare in known else get_close_matches(bare, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            if name.startswith("sg_"):
                hint = "; layers that fewbit fuses keep the names of their parts, such as that of the convolution"
            warnings.warn(f"excluded layer {name!r} is not in the network{hint}", FewbitWarning, stacklevel=5)
    for part in match:
        hits = sorted(n for n in known if part in n)
        if not hits:
            warnings.warn(f"no layer's name contains {part!r} of exclude_layers_match", FewbitWarning, stacklevel=5)
        found += hits
    for op in ops:
        found += _made_by(model, op, known)
    return list(dict.fromkeys(found))


def _made_by(model: Model, op: str, known: set[str]) -> list[str]:
    """Layers of an operator, in MXNet's words or in ONNX's."""
    mxnet = FUSED_OPS.get(op, op)
    if mxnet not in OPS and mxnet not in known_operators():
        raise unknown("operator", op, {*OPS, *FUSED_OPS, *known_operators()})
    hits = [str(n.name) for n in model.nodes if mxnet in op_names(n)]
    return [n for n in hits if n in known]


def _dense(fused: Model) -> list[str]:
    return [
        str(n.name)
        for n in fused.nodes
        if n.metadata_props.get(SOURCE_OP) == "FullyConnected"
        or (SOURCE_OP not in n.metadata_props and n.op_type == "Gemm")
    ]


def limit(num_calib_batches: int | None, num_calib_examples: int | None, batch_size: int) -> int | None:
    """Batches to calibrate on; examples are rounded up to whole batches, as MXNet does."""
    for word, value in (("num_calib_batches", num_calib_batches), ("num_calib_examples", num_calib_examples)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UsageError(f"{word} is {value!r}; it must be a whole number of 1 or more, or None for all")
    if num_calib_batches is not None or num_calib_examples is None:
        return num_calib_batches
    return -(-num_calib_examples // max(1, batch_size))

"""network.json: what the scripts in a deployed folder need to know of the network.

{"model": "model.onnx", "engine": "onnxruntime", "form": "qdq", "samples": 4,
 "inputs":  [{"name": "image", "type": "float32", "shape": ["N", 1, 28, 28], "file": "image.npy",
              "image": {"colour": "GRAY", "resize": [28, 28], …} or null, "why": why null}],
 "outputs": [{"name": "logits", "type": "float32", "shape": ["N", 10], "file": "logits.npy", "tolerance": 0.05}]}
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fewbit.config import DataConfig
from fewbit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fewbit.data.signature import Slot
    from fewbit.graph.model import Model, TensorInfo

TOLERANCE = 0.05
"""How far outputs may be from those of the machine that deployed: distance ÷ length. Kernels for other processors round
other sums, and one activation that rounds the other way moves an output by up to some percent."""

WHOLE_TOLERANCE = 0.1
"""The same for outputs of whole numbers, such as classes: share that may differ."""


def about(model: Model, recipe: DataConfig) -> dict[str, Any]:
    """Inputs and outputs, and how images become inputs.

    Raises:
        ConfigError: words about images were said, and contradict the network.
    """
    from fewbit.data.signature import read_signature

    slots = read_signature(model.inputs).slots
    inputs = [{**entry, **_image(slot, recipe)} for entry, slot in zip(_entries(model.inputs), slots, strict=True)]
    said = recipe != DataConfig()
    if said and not any(i["image"] for i in inputs):
        raise ConfigError(f"words about images were given, and no input takes images: {inputs[0]['why']}")
    outputs = [
        {**entry, "tolerance": TOLERANCE if o.dtype.kind == "f" else WHOLE_TOLERANCE}
        for entry, o in zip(_entries(model.outputs), model.outputs, strict=True)
    ]
    return {"inputs": inputs, "outputs": outputs}


def _entries(infos: Sequence[TensorInfo]) -> list[dict[str, Any]]:
    """Name, type, shape and file of each; files are told apart by more than the case of their letters."""
    found: list[dict[str, Any]] = []
    for i, info in enumerate(infos):
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", info.name).lstrip(".")[:80] or "tensor"
        if any(e["file"].lower() == f"{stem}.npy".lower() for e in found):
            stem = f"{stem}-{i}"
        shape = [d if d is not None else "?" for d in info.shape]
        found.append({"name": info.name, "type": info.dtype.name, "shape": shape, "file": f"{stem}.npy"})
    return found


def _image(slot: Slot, recipe: DataConfig) -> dict[str, Any]:
    """How an image becomes this input, or why none can."""
    from fewbit.data.images import METHODS, image_recipe

    try:
        settled = image_recipe(slot, recipe)
    except (DataError, ConfigError) as e:
        return {"image": None, "why": str(e)}
    method = next(word for word, known in METHODS.items() if known == settled.method)
    return {
        "image": {
            "colour": settled.colour,
            "shorter": settled.shorter,
            "resize": settled.resize,
            "crop": settled.crop,
            "method": method,
            "mean": settled.mean.tolist(),
            "std": settled.std.tolist(),
            "layout": settled.layout,
            "type": settled.dtype.name,
        }
    }


def image_text(image: dict[str, Any]) -> str:
    """A recipe in words."""
    steps = [f"8-bit {image['colour']}, 0 … 255"]
    if image["shorter"]:
        steps.append(f"shorter edge resized to {image['shorter']} ({image['method'].lower()})")
    elif image["resize"]:
        steps.append("resized to {}x{} (width x height, {})".format(*image["resize"], image["method"].lower()))
    if image["crop"]:
        steps.append("{}x{} cut from the centre".format(*image["crop"]))
    if any(image["mean"]) or any(s != 1 for s in image["std"]):
        mean, std = (", ".join(f"{x:.6g}" for x in image[key]) for key in ("mean", "std"))
        steps.append(f"(x - [{mean}]) / [{std}]")
    return "; ".join([*steps, f"axes {image['layout']}, {image['type']}"])

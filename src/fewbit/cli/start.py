"""What `fewbit` alone says: the three commands that most people want, and how to see the rest."""

from __future__ import annotations

STEPS = (
    (
        "Make the integer network. Some hundred samples, like those it will meet, say which range each layer needs:",
        "fewbit quantize net.onnx -o net-int8.onnx --data photos/",
    ),
    (
        "See what that cost, layer by layer, and what it gained, on a page for the browser:",
        "fewbit report net.onnx net-int8.onnx --data photos/ -o report.html",
    ),
    (
        "Take it to where it runs, without fewbit: ONNX Runtime, OpenVINO, ncnn or TensorRT:",
        "fewbit deploy net-int8.onnx --target onnxruntime -o deployed/",
    ),
)


def start() -> str:
    """The text, in paragraphs of the page's width."""
    from fewbit import __version__
    from fewbit.cli.app import HELP
    from fewbit.core.tables import wrapped

    parts = [*wrapped(f"fewbit {__version__}. {HELP}")]
    for why, example in STEPS:
        parts += ["", *wrapped(why), f"    {example}"]
    rest = [
        "No network at hand? This quantizes one that comes along, and shows what that costs and gains:",
        "    fewbit demo",
        "",
        "All commands: fewbit --help      One of them: fewbit quantize --help",
    ]
    return "\n".join([*parts, "", *wrapped(rest[0]), *rest[1:]])

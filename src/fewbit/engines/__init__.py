"""Engines: the tables of what each does in integers (targets), and the runners.

Importing this registers all targets and runners; an engine itself is loaded when a model is opened with it.
"""

from fewbit.engines import onnxruntime, onnxruntime_rules  # the built-in engine comes first in every list

# isort: split
from fewbit.engines import ncnn, ncnn_rules, openvino, openvino_rules, tensorrt_rules
from fewbit.engines.base import ENGINES, engine, engine_of, engine_version, open_runner, random_feeds

__all__ = [
    "ENGINES",
    "engine",
    "engine_of",
    "engine_version",
    "ncnn",
    "ncnn_rules",
    "onnxruntime",
    "onnxruntime_rules",
    "open_runner",
    "openvino",
    "openvino_rules",
    "random_feeds",
    "tensorrt_rules",
]

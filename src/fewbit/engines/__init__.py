"""Engines: the tables of what each does in integers (targets), and the runners.

Importing this registers all targets and runners; an engine itself is loaded when a model is opened with it.
"""

from fewbit.engines import onnxruntime, openvino
from fewbit.engines.base import ENGINES, engine, open_runner, random_feeds

__all__ = ["ENGINES", "engine", "onnxruntime", "open_runner", "openvino", "random_feeds"]

"""fewbit: trained float networks in, small and fast integer networks out, with proof of what that cost.

    import fewbit as fb
    q = fb.quantize(fb.load("net.onnx"), data, calib_mode="entropy")
    print(q.report)
    q.save("net-int8.onnx")

Names are loaded when they are first used, so that importing fewbit costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "apply": "fewbit.api",
    "attach": "fewbit.api",
    "benchmark": "fewbit.api",
    "calibrate": "fewbit.api",
    "compare": "fewbit.api",
    "correct": "fewbit.api",
    "deploy": "fewbit.api",
    "evaluate": "fewbit.api",
    "explain": "fewbit.api",
    "fuse": "fewbit.api",
    "inspect": "fewbit.api",
    "load": "fewbit.api",
    "make_plan": "fewbit.api",
    "make_report": "fewbit.api",
    "plot": "fewbit.api",
    "profile": "fewbit.api",
    "quantize": "fewbit.api",
    "sensitivity": "fewbit.api",
    "simulate": "fewbit.api",
    "sizes": "fewbit.api",
    "sweep": "fewbit.api",
    "train": "fewbit.api",
    "verify": "fewbit.api",
    "CalibrationCollector": "fewbit.calib",
    "DataConfig": "fewbit.config",
    "FewbitError": "fewbit.errors",
    "FewbitWarning": "fewbit.errors",
    "Model": "fewbit.graph.model",
    "Plan": "fewbit.core.plan",
    "QuantConfig": "fewbit.config",
    "QuantSpec": "fewbit.core.spec",
    "Quantized": "fewbit.report.quantized",
    "SimulateConfig": "fewbit.config.simulate",
    "TrainConfig": "fewbit.config.train",
}

__all__ = [
    "CalibrationCollector",
    "DataConfig",
    "FewbitError",
    "FewbitWarning",
    "Model",
    "Plan",
    "QuantConfig",
    "QuantSpec",
    "Quantized",
    "SimulateConfig",
    "TrainConfig",
    "apply",
    "attach",
    "benchmark",
    "calibrate",
    "compare",
    "correct",
    "deploy",
    "evaluate",
    "explain",
    "fuse",
    "inspect",
    "load",
    "make_plan",
    "make_report",
    "plot",
    "profile",
    "quantize",
    "sensitivity",
    "simulate",
    "sizes",
    "sweep",
    "train",
    "verify",
]

if TYPE_CHECKING:
    from fewbit.api import (
        apply,
        attach,
        benchmark,
        calibrate,
        compare,
        correct,
        deploy,
        evaluate,
        explain,
        fuse,
        inspect,
        load,
        make_plan,
        make_report,
        plot,
        profile,
        quantize,
        sensitivity,
        simulate,
        sizes,
        sweep,
        train,
        verify,
    )
    from fewbit.calib import CalibrationCollector
    from fewbit.config import DataConfig, QuantConfig
    from fewbit.config.simulate import SimulateConfig
    from fewbit.config.train import TrainConfig
    from fewbit.core.plan import Plan
    from fewbit.core.spec import QuantSpec
    from fewbit.errors import FewbitError, FewbitWarning
    from fewbit.graph.model import Model
    from fewbit.report.quantized import Quantized


def __getattr__(name: str) -> Any:
    if name == "torch":  # the folder: fb.torch.prepare
        return import_module("fewbit.torch")
    if name not in _WHERE:
        raise AttributeError(f"module 'fewbit' has no attribute {name!r}")
    found = getattr(import_module(_WHERE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

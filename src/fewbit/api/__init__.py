"""The Python interface: thin wiring of load → fuse → plan → calibrate → correct → emit → verify."""

from fewbit.api.common import settings, target_named
from fewbit.api.deploying import deploy
from fewbit.api.explaining import explain
from fewbit.api.forms import FORMS, sizes
from fewbit.api.looking import attach, compare, evaluate, inspect, sensitivity
from fewbit.api.making import apply, calibrate, correct, make_plan
from fewbit.api.onecall import VERIFY_SAMPLES, quantize
from fewbit.api.plotting import plot
from fewbit.api.reporting import make_report
from fewbit.api.simulating import simulate
from fewbit.api.speed import benchmark, profile
from fewbit.api.sweeping import sweep
from fewbit.api.training import train
from fewbit.api.verifying import verify
from fewbit.core.target import TARGETS
from fewbit.frontends import load
from fewbit.graph.fuse import fuse

__all__ = [
    "FORMS",
    "TARGETS",
    "VERIFY_SAMPLES",
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
    "settings",
    "simulate",
    "sizes",
    "sweep",
    "target_named",
    "train",
    "verify",
]

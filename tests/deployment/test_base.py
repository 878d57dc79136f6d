"""The registry of deployers: options checked, light to import."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from fewbit.deployment import DEPLOYERS, Deployment, Option, deployer, deployer_named
from fewbit.deployment.base import Deployer
from fewbit.errors import ConfigError, UnknownName


def test_the_targets_are_these() -> None:
    assert sorted(DEPLOYERS) == ["ncnn", "onnxruntime", "openvino", "tensorrt"]


def test_reading_the_registry_loads_nothing_heavy() -> None:
    """The flags of the command line are made of it, so `fewbit --help` pays for it."""
    code = "import sys, json, fewbit.deployment; print(json.dumps(sorted(m for m in sys.modules if '.' not in m)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    heavy = {"numpy", "onnx", "onnx_ir", "onnxruntime", "openvino", "ncnn", "torch", "numba", "PIL"}
    assert not set(json.loads(done.stdout)) & heavy


def test_an_option_has_one_type_and_a_line_of_help() -> None:
    kinds: dict[str, type] = {}
    for found in DEPLOYERS.values():
        for name, option in found.options.items():
            assert name.isidentifier() and option.help and "\n" not in option.help
            assert option.default in option.choices if option.choices else True
            assert kinds.setdefault(name, type(option.default)) is type(option.default), f"{name} has two types"


DEMO = Deployer(
    "demo", lambda job: None, {"fast": Option("x"), "deep": Option("x", 2), "tone": Option("x", "a", ("a", "b"))}
)


def test_options_are_settled() -> None:
    assert DEMO.settled({}) == {"fast": False, "deep": 2, "tone": "a"}
    assert DEMO.settled({"fast": True, "tone": "b"}) == {"fast": True, "deep": 2, "tone": "b"}


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"fats": True}, UnknownName, "unknown option of target demo 'fats'; did you mean 'fast'"),
        ({"deep": True}, ConfigError, "deep is True; it must be a whole number"),
        ({"fast": "yes"}, ConfigError, "fast is 'yes'; it must be true or false"),
        ({"tone": 3}, ConfigError, "tone is 3; it must be a word"),
        ({"tone": "c"}, UnknownName, "unknown tone 'c'"),
    ],
)
def test_wrong_options(given: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        DEMO.settled(given)
    assert says in str(caught.value)


def test_a_name_is_taken_once() -> None:
    with pytest.raises(AssertionError, match="registered twice"):
        deployer("openvino")(lambda job: None)


def test_an_unknown_target_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown deployment target 'tensort'; did you mean 'tensorrt'"):
        deployer_named("tensort")


def test_a_deployment_in_words(tmp_path: Any) -> None:
    done = Deployment("demo", tmp_path, {"a.bin": 2000, "in/x": 5, "in/y": 7}, ("all right",), ("mind the gap",))
    assert "\na.bin          2.00 kB\nin/ (2 files)     12 B\n" in done.text()
    assert replace(done, result="1 of 5 layers integer").text().splitlines()[-3] == "quantized: 1 of 5 layers integer"
    assert done.text().endswith("checked: all right\nnote: mind the gap")
    assert json.loads(json.dumps(done.to_json()))["files"] == {"a.bin": 2000, "in/x": 5, "in/y": 7}

"""The C++ program: configured, built and run against the demo network, and compared with Python.

OpenVINO's Python package carries headers and libraries, so this needs cmake and a C++ compiler only. ONNX Runtime's
carries no headers; its program shares all but network.hpp with this one.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

import fewbit as fb
from fewbit.data.demo import demo_test
from tests.models import info, node, proto

CMAKE = Path(openvino.__file__).parent / "cmake"


def sh(*words: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(w) for w in words], cwd=cwd, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def built(demo: fb.Quantized, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The deployed folder, its program built in build/ as the README says, but for speed of building."""
    tools = {"cmake": "cmake", "c++": "g++"}
    missing = [package for tool, package in tools.items() if shutil.which(tool) is None]
    assert not missing, f"the C++ program cannot be tested; install: apt-get install {' '.join(missing)}"
    folder = tmp_path_factory.mktemp("cpp") / "out"
    fb.deploy(demo, "openvino", folder, data=demo_test()["image"][:4])
    flags = ["-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1 -Wall -Wextra -Werror", f"-DOpenVINO_DIR={CMAKE}"]
    for step in (["-S", "cpp", "-B", "build", *flags], ["--build", "build"]):
        done = sh("cmake", *step, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
    relu = proto([node("Relu", "x", "y")], [info("x", ["n", 1, 28, 28])], [info("y", ["n", 1, 28, 28])])
    (folder / "small.onnx").write_bytes(relu.SerializeToString())  # loads faster
    return folder


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("form", ["npy", "raw"])
def test_it_computes_what_python_does(built: Path, tmp_path: Path, number: int, form: str) -> None:
    file = built / f"inputs/{number}/image.npy"
    if form == "raw":
        x = np.load(file)
        file = tmp_path / "image.raw"
        x.tofile(file)
    done = sh(built / "build/run", "--threads", "1", "--out", tmp_path, "model.onnx", file, cwd=built)
    assert done.returncode == 0, done.stderr
    found, expected = np.load(tmp_path / "output0.npy"), np.load(built / f"expected/{number}/logits.npy")
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    top = np.argsort(-found[0])[:5]
    words = done.stdout.splitlines()[1].split()
    assert [int(w.rstrip(":")) for w in words[1::2]] == top.tolist()
    assert [float(w) for w in words[2::2]] == pytest.approx(found[0][top].tolist(), rel=1e-4)


def test_a_free_batch_and_several_runs(built: Path, tmp_path: Path) -> None:
    x = demo_test()["image"][:3]
    np.save(tmp_path / "x.npy", x)
    done = sh(built / "build/run", "--repeat", 3, "--out", tmp_path, "model.onnx", tmp_path / "x.npy", cwd=built)
    assert done.returncode == 0 and "logits: f4[3, 10]" in done.stdout and "the median of 3" in done.stdout
    expected = np.concatenate([np.load(built / f"expected/{i}/logits.npy") for i in range(3)])
    np.testing.assert_allclose(np.load(tmp_path / "output0.npy"), expected, atol=0.02)


WRONG: dict[str, tuple[Any, str]] = {
    "shape": (np.zeros((1, 1, 28, 27), np.float32), "holds f4[1, 1, 28, 27]; input x takes f4[?, 1, 28, 28]"),
    "type": (np.zeros((1, 1, 28, 28)), "holds f8[1, 1, 28, 28]"),
    "order": (np.asfortranarray(np.zeros((2, 1, 28, 28), np.float32)), "is in Fortran order"),
    "complex": (np.zeros((1, 1, 28, 28), np.complex64), "which this program cannot read"),
    "objects": (np.array([{}]), "holds Python objects; save numbers"),
    "big-endian": (np.zeros((1, 1, 28, 28), ">f4"), "which this program cannot read"),
    "cut": (b"\x93NUMPY\x01\x00\xff\xffabc", "is cut short"),
    "text": (b"no array at all", "is not an .npy file"),
    "short": (
        b"\x93NUMPY\x01\x00\x3b\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 9)}  \n",
        "does not hold",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_it_cannot_take_is_told(built: Path, tmp_path: Path, name: str) -> None:
    content, says = WRONG[name]
    file = tmp_path / "x.npy"
    file.write_bytes(content) if isinstance(content, bytes) else np.save(file, content)
    done = sh(built / "build/run", "small.onnx", file, cwd=built)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and says in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["small.onnx"], "usage: run [--threads N]"),
        (["--fast", "yes", "small.onnx", "x.npy"], "unknown word --fast"),
        (["small.onnx", "missing.npy"], "cannot read missing.npy"),
        (["small.onnx", "a.npy", "b.npy"], "the network has 1 input, and 2 files are given"),
        (["--threads", "abc", "small.onnx", "x.npy"], "--threads is abc; it must be a whole number of at least 0"),
        (["--threads", "-1", "small.onnx", "x.npy"], "--threads is -1; it must be a whole number of at least 0"),
        (["--repeat", "0", "small.onnx", "x.npy"], "--repeat is 0; it must be a whole number of at least 1"),
        (["--out", "gone", "small.onnx", "x.npy"], "cannot write to gone: there is no such folder; make it first"),
        (["small.onnx", "README.md"], "bytes; the input takes f4[?, 1, 28, 28]"),
    ],
)
def test_wrong_words_are_told(built: Path, words: list[str], says: str) -> None:
    done = sh(built / "build/run", *words, cwd=built)
    assert done.returncode == 1 and says in done.stderr


def test_help_is_no_error(built: Path) -> None:
    done = sh(built / "build/run", "--help", cwd=built)
    assert done.returncode == 0 and done.stdout.startswith("usage: run [--threads N]") and not done.stderr

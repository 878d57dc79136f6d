"""Every file of src/fewbit imports in one direction only; see layers.py for the order."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.structure.layers import violations
from tests.structure.source import PACKAGE, files, short, tree

FILES = files("src/fewbit")

BAD = [
    ("fewbit.core.spec", "from fewbit.config import QuantConfig", "config does not stand left of core"),
    ("fewbit.core.spec", "import fewbit.graph.model as m", "graph does not stand left of core"),
    ("fewbit.core.spec", "def f():\n    from fewbit.api import quantize", "api does not stand left of core"),
    ("fewbit.core.spec", "from fewbit import api", "api does not stand left of core"),
    ("fewbit.core.spec", "from fewbit import Model", "fewbit does not stand left of core"),
    ("fewbit.core.spec", "from ..graph import model", "graph does not stand left of core"),
    ("fewbit.cli.main", "import fewbit", "fewbit does not stand left of cli"),
    ("fewbit.calib.minmax", "from fewbit.data.arrays import batches", "data does not stand left of calib"),
    (
        "fewbit.quantization.plan",
        "from fewbit.engines.base import Runner",
        "engines does not stand left of quantization",
    ),
    ("fewbit.report.compare", "from fewbit.engines import onnxruntime", "takes a Runner"),
    ("fewbit.search.smart", "def f():\n    import fewbit.engines.base", "takes a Runner"),
    ("fewbit.calib.base", "import onnx", "only graph may"),
    ("fewbit.engines.base", "from onnx_ir import passes", "only graph may"),
    ("fewbit.engines.base", "if TYPE_CHECKING:\n    import onnx_ir as ir", "only graph may"),
    ("fewbit.engines.openvino", "import openvino as ov", "inside the function"),
    ("fewbit.torch.modules", "class A:\n    import ncnn", "inside the function"),
    ("fewbit.api.retraining", "import torch", "inside the function"),
    ("fewbit.api.retraining", "from fewbit.torch.layers import QuantLinear", "inside the function"),
    ("fewbit.data.arrays", "try:\n    import torch\nexcept ImportError:\n    torch = None", "inside the function"),
    ("fewbit.misc.tool", "", "no place in the order"),
]

GOOD = [
    ("fewbit.graph.fuse", "import onnx_ir as ir\nfrom fewbit.graph.model import Model\nfrom fewbit.errors import X"),
    ("fewbit.graph.emit", "from fewbit import __version__"),
    ("fewbit.engines.openvino", "def run():\n    import openvino as ov"),
    ("fewbit.engines.openvino", "if TYPE_CHECKING:\n    import openvino as ov"),
    ("fewbit.engines.openvino", "from . import base\nfrom .base import Runner\nfrom ..core.target import Target"),
    ("fewbit.torch.modules", "from torch import nn\nfrom fewbit.torch.layers import QuantLinear"),
    ("fewbit.api.retraining", "def f():\n    from fewbit.torch.layers import QuantLinear"),
    ("fewbit", "from fewbit import api\nfrom fewbit.cli import main"),
    ("fewbit.__main__", "from fewbit.cli import main"),
]


@pytest.mark.parametrize("path", FILES, ids=short)
def test_a_file_imports_only_what_stands_left_of_it(path: Path) -> None:
    parts = ["fewbit", *path.relative_to(PACKAGE).with_suffix("").parts]
    package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if package else parts)
    assert not violations(module, tree(path), package=package)


@pytest.mark.parametrize(("module", "code", "words"), BAD, ids=lambda v: v.replace("\n", " "))
def test_a_wrong_import_is_found(module: str, code: str, words: str) -> None:
    (found,) = violations(module, ast.parse(code))
    assert words in found and module in found


@pytest.mark.parametrize(("module", "code"), GOOD, ids=lambda v: v.replace("\n", " "))
def test_a_right_import_passes(module: str, code: str) -> None:
    assert violations(module, ast.parse(code), package=module == "fewbit") == []

"""The table of networks: `NETWORKS[name].build()` gives an ONNX file, `.calib()` and `.judge()` the data for it."""

from __future__ import annotations

from zoo.base import Network
from zoo.vision import VISION

__all__ = ["NETWORKS", "Network"]

NETWORKS: dict[str, Network] = {n.name: n for n in VISION}

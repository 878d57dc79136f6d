"""The table of networks: `NETWORKS[name].build()` gives an ONNX file, `.calib()` and `.judge()` the data for it."""

from __future__ import annotations

from zoo.audio import AUDIO
from zoo.base import Network
from zoo.files import FILES
from zoo.ocr import OCR
from zoo.text import TEXT
from zoo.vision import VISION

__all__ = ["NETWORKS", "UNAVAILABLE", "Network"]

NETWORKS: dict[str, Network] = {n.name: n for n in (*VISION, *TEXT, *OCR, *AUDIO, *FILES)}

UNAVAILABLE: dict[str, str] = {  # network that packages carry -> why it is not above
    "selfie segmentation": "a TFLite file; there is no ONNX form of it in a package",
    "ResNet-50-thin of nsfw": "a Caffe file",
    "Gluon zoo": "MXNet symbols and params with random weights",
}

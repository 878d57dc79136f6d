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

UNAVAILABLE: dict[str, str] = {  # network that packages carry -> where it is, or why it is nowhere
    "selfie segmentation": "measured by tflite_check.py",
    "ResNet-50-thin of nsfw": "measured by caffe_check.py",
    "Gluon zoo": "MXNet symbols and params with random weights",
}

"""What OpenCV answers to the cases of tests/frontends/caffe/cases.py → tests/golden/caffe/outputs.npz.

Run in an environment with numpy and opencv-python-headless 4 (version 5 no longer reads Caffe), from the root:

    PYTHONPATH=. python tests/golden/caffe/make/outputs.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from tests.frontends.caffe.case import Case, arranged, in_order
from tests.frontends.caffe.cases import CASES
from tests.frontends.caffe.nets import ssd, ssd_images
from tests.frontends.caffe.writing import caffemodel

OUT = Path(__file__).parents[1] / "outputs.npz"


def answer(case: Case) -> np.ndarray:
    """The first output."""
    return asked(case.text, case.caffemodel(), case.inputs())


def asked(text: str, weights: bytes, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """The first output of a network."""
    net = cv2.dnn.readNetFromCaffe(np.frombuffer(text.encode(), np.uint8), np.frombuffer(weights, np.uint8))
    for name, x in feeds.items():
        net.setInput(x, name)
    return net.forward(net.getUnconnectedOutLayersNames())[0]


def main() -> None:
    """Ask about every case that OpenCV reads; say which of the others it does."""
    found = {}
    for case in CASES:
        if case.name == "DetectionOutput all":  # without keep_top_k, OpenCV writes where it must not
            continue
        try:
            found[case.name] = arranged(case, answer(case))
        except cv2.error as e:
            if case.opencv:
                print(f"{case.name}: {str(e).strip().splitlines()[0][:150]}", file=sys.stderr)
            continue
        if case.reference is not None:
            own = case.reference(*case.inputs().values(), *(a for w in case.weights().values() for a in w))
            own = np.asarray(own[0] if isinstance(own, tuple) else own, np.float32)
            near = own.size == found[case.name].size and np.allclose(
                own.reshape(-1), found[case.name].reshape(-1), 1e-4, 1e-4
            )
            if near != case.opencv:
                print(f"{case.name}: {'as' if near else 'not as'} the reference", file=sys.stderr)
    text, weights = ssd()
    detections = in_order(asked(text, caffemodel(weights), {"data": ssd_images()}))
    np.savez_compressed(OUT, ssd=detections, **{c.name: found[c.name] for c in CASES if c.opencv and c.name in found})


if __name__ == "__main__":
    main()

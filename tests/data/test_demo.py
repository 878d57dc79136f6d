"""The files that come along for the demo are whole, small, and as good as their README says."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort

from fewbit.data.demo import DEMO_MODEL, FOLDER, demo_calibration, demo_test, normalize


def test_everything_shipped_is_under_one_megabyte() -> None:
    files = [p for p in FOLDER.iterdir() if p.is_file()]
    assert {p.name for p in files} == {"demo.onnx", "calib.npz", "test.npz", "LICENSE", "README.md"}
    assert sum(p.stat().st_size for p in files) < 1_000_000


def test_normalize_gives_what_the_network_takes() -> None:
    x = normalize(np.array([[[0, 255]]], np.uint8))
    assert (x.dtype, x.shape) == (np.float32, (1, 1, 1, 2))
    np.testing.assert_allclose(x.ravel(), [-0.2860 / 0.3530, (1 - 0.2860) / 0.3530], rtol=1e-6)


def test_the_images_are_balanced_and_centred() -> None:
    calib, test = demo_calibration()["image"], demo_test()
    assert calib.shape == (320, 1, 28, 28) and test["image"].shape == (1000, 1, 28, 28)
    assert np.bincount(test["labels"]).tolist() == [100] * 10
    assert abs(calib.mean()) < 0.05 and abs(calib.std() - 1) < 0.05


def test_no_test_image_is_calibrated_on() -> None:
    seen = {image.tobytes() for image in demo_calibration()["image"]}
    assert not any(image.tobytes() in seen for image in demo_test()["image"])


def test_the_network_has_something_to_fuse() -> None:
    graph = onnx.load(DEMO_MODEL).graph
    counts = Counter(node.op_type for node in graph.node)
    assert counts["Conv"] == counts["BatchNormalization"] == 12
    assert counts["Add"] == 4 and counts["Gemm"] == 1
    assert all(node.name for node in graph.node)


def test_the_network_is_as_accurate_as_its_readme_says() -> None:
    test = demo_test()
    session = ort.InferenceSession(DEMO_MODEL, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": test["image"]})
    assert abs((logits.argmax(1) == test["labels"]).mean() - 0.927) < 0.0015  # one image may fall either way

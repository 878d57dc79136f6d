"""Detection operators against MXNet's own answers (tests/golden/mxnet/make/ops_detection.py)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fewbit.errors import UnsupportedModel
from fewbit.frontends.mxnet.convert import convert
from fewbit.graph.rewrite import PATTERN_KEY
from tests.frontends.mxnet.cases import Case, cases, check, run

NAMES = [n for n in cases("detection") if not n.startswith(("target", "matching", "roi_pool", "detect_topk"))]


@pytest.mark.parametrize("reference", [True, False], ids=["reference", "onnxruntime"])
@pytest.mark.parametrize("name", NAMES)
def test_it_is_what_mxnet_gives(name: str, reference: bool) -> None:
    check(cases("detection")[name], reference=reference)


@pytest.mark.parametrize("name", ["roi_pool", "roi_pool_half", "roi_pool_odd"])
def test_regions_are_pooled_as_in_mxnet(name: str) -> None:
    check(cases("detection")[name], reference=False)  # ONNX's reference has no MaxRoiPool


@pytest.mark.parametrize("reference", [True, False], ids=["reference", "onnxruntime"])
@pytest.mark.parametrize(("name", "most"), [("detect_topk_all", 400), ("detect_topk", 8), ("detect_topk_force", 12)])
def test_past_topk_there_are_only_empty_rows(name: str, most: int, reference: bool) -> None:
    case = cases("detection")[name]
    (got,) = run(case.convert(), case.feeds, reference=reference)
    (wanted,) = case.outs
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got[:, :most], wanted[:, :most], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(got[..., 0] < 0, wanted[..., 0] < 0)
    assert (got[:, most:] == -1).all()


def test_a_batch_is_as_good_as_its_images_one_by_one() -> None:
    case = cases("detection")["detect"]
    (whole,) = case.outs
    for i in range(len(whole)):
        feeds = {k: v if k == "anchors" else v[i : i + 1] for k, v in case.feeds.items()}
        (one,) = run(Case(case.graph, feeds=feeds).convert(), feeds, reference=False)
        np.testing.assert_allclose(one[0], whole[i], rtol=1e-4, atol=1e-5)


def test_regions_of_no_image_are_zero() -> None:
    case = cases("detection")["roi_align"]
    feeds = {**case.feeds, "rois": case.feeds["rois"].copy()}
    feeds["rois"][2, 0] = -1
    wanted = case.outs[0].copy()
    wanted[2] = 0  # as documented; MXNet 1.9.1 leaves them unset
    for reference in (True, False):
        np.testing.assert_allclose(run(case.convert(), feeds, reference=reference)[0], wanted, rtol=1e-4, atol=1e-5)


def test_anchors_of_a_known_map_are_a_constant() -> None:
    model = cases("detection")["prior"].convert()
    assert [n.op_type for n in model.nodes if n.op_type != "Identity"] == []


@pytest.mark.parametrize("name", ["detect", "nms_id", "iou_corner", "roi_align", "prior_free"])
def test_all_nodes_of_a_layer_are_one_operator(name: str) -> None:
    tagged = [PATTERN_KEY in n.metadata_props for n in cases("detection")[name].convert().nodes if n.name != "conv"]
    assert all(tagged[:-1]) and len(tagged) >= 3


def test_heads_that_only_training_needs_are_left_out_with_a_note() -> None:
    case = cases("detection")["target"]
    model = convert(case.graph, {}, shapes={"prob": case.feeds["prob"].shape})
    assert [o.name for o in model.outputs] == ["cls_prob_output"]
    assert [i.name for i in model.inputs] == ["prob"]
    found = " ".join(model.notes)
    assert "output loc_loss_output, as it depends on 'target' (_contrib_MultiBoxTarget)" in found
    assert "output cls_label_output" in found
    np.testing.assert_allclose(run(model, case.feeds)[0], case.outs[1], rtol=1e-5)


def test_a_symbol_that_only_trains_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"loc_loss_output depends on 'target'.*nothing is left to infer"):
        convert(cases("detection")["target_only"].graph, {})


def test_matching_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="_contrib_bipartite_matching in match"):
        cases("detection")["matching"].convert()


def changed(name: str, **attrs: str) -> Case:
    """A golden case with other attributes of its last layer."""
    case = cases("detection")[name]
    *rest, last = case.graph.nodes
    graph = replace(case.graph, nodes=(*rest, replace(last, attrs={**last.attrs, **attrs})))
    return replace(case, graph=graph)


@pytest.mark.parametrize(
    ("name", "attrs", "text"),
    [
        ("roi_align", {"position_sensitive": "True"}, "'align'.*position_sensitive pooling has no ONNX operator"),
        ("detect", {"variances": "(0.1, 0.2)"}, r"variances are \(.*; four are needed"),
        ("nms", {"overlap_thresh": "-1"}, "overlap_thresh is -1.0; it must be 0 or more"),
        ("prior", {"sizes": "()"}, "sizes and ratios must not be empty"),
    ],
)
def test_what_cannot_be_said_is_refused(name: str, attrs: dict[str, str], text: str) -> None:
    with pytest.raises(UnsupportedModel, match=text):
        changed(name, **attrs).convert()

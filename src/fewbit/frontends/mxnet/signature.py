"""What MXNet's operators call their inputs and outputs, as far as it does not go without saying.

Outputs are called `<layer>_<name>`; the name is

    output                  the operator has one
    output0, output1, …     it has several and does not name them – even if only the first may be used
    its own                 e.g. output, mean, var of a BatchNorm that shows them

Tables by operator; a function where the attributes decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

Attrs = Mapping[str, str]
Names = tuple[str, ...]


def flag(attrs: Attrs, key: str, default: bool = False) -> bool:
    """Whether an attribute is on, in any of the spellings that MXNet reads."""
    return attrs.get(key, str(default)).strip().lower() in {"true", "1"}


def whole(attrs: Attrs, key: str, default: int = 0) -> int:
    """A whole number among the attributes; the default if it is none, or too large to count outputs."""
    text = attrs.get(key, "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 5 else default


def numbered(count: int) -> Names:
    """The names of outputs that have none."""
    return tuple(f"output{i}" for i in range(count))


def _split_v2(attrs: Attrs) -> Names:
    indices = [i for i in attrs.get("indices", "").strip("()[] ").split(",") if i.strip()]
    return numbered(whole(attrs, "sections") or len(indices))


def _rnn(attrs: Attrs) -> Names:
    if not flag(attrs, "state_outputs"):
        return ("output",)
    return ("output", "state_output", *(["statecell_output"] if attrs.get("mode") == "lstm" else []))


def _moments(third: str) -> Callable[[Attrs], Names]:
    return lambda a: ("output", "mean", third) if flag(a, "output_mean_var") else ("output",)


def _counted(attrs: Attrs) -> Names:
    count = whole(attrs, "num_outputs", 1)
    return numbered(count) if count != 1 else ("output",)


def _scored(attrs: Attrs) -> Names:
    return ("output", "score") if flag(attrs, "output_score") else ("output",)


def _topk(attrs: Attrs) -> Names:
    return {"both": numbered(2), "value": numbered(1)}.get(attrs.get("ret_typ", "indices"), ("output",))


def _ranged(attrs: Attrs) -> Names:
    return ("output",) if flag(attrs, "enable_float_output") else ("output", "min_output", "max_output")


def _fused(attrs: Attrs) -> Names:
    return _ranged(attrs) if flag(attrs, "quantized") else ("output",)


def _fused_conv(attrs: Attrs) -> Names:
    return ("output", "output_min", "output_max") if len(_fused(attrs)) == 3 else ("output",)


RANGED = ("output", "min_output", "max_output")
OUTPUTS: dict[str, Names | Callable[[Attrs], Names]] = {
    # without names
    "_contrib_box_nms": numbered(1), "CTCLoss": numbered(1), "sort": numbered(1), "_linalg_det": numbered(1),
    "_npi_norm": numbered(1), "_npi_average": numbered(1), "_npi_normal": numbered(1), "_npi_normal_n": numbered(1),
    "_npi_exponential": numbered(1), "_npi_logistic": numbered(1), "_npi_gumbel": numbered(1),
    "_npi_pareto": numbered(1), "_npi_rayleigh": numbered(1), "_npi_weibull": numbered(1),
    "_contrib_bipartite_matching": numbered(2), "_contrib_box_encode": numbered(2), "moments": numbered(2),
    "_histogram": numbered(2), "_linalg_gelqf": numbered(2), "_linalg_syevd": numbered(2),
    "_linalg_slogdet": numbered(2), "_npi_eig": numbered(2), "_npi_eigh": numbered(2), "_npi_svd": numbered(3),
    "_sample_unique_zipfian": numbered(2), "_contrib_quantize": numbered(3), "_contrib_quantize_v2": numbered(3),
    "_contrib_requantize": numbered(3),
    "SliceChannel": lambda a: numbered(whole(a, "num_outputs", 1)),
    "amp_multicast": lambda a: numbered(whole(a, "num_outputs", 1)), "_split_v2": _split_v2, "topk": _topk,
    "_sample_multinomial": lambda a: numbered(2) if flag(a, "get_prob") else ("output",),
    "_foreach": _counted, "_while_loop": _counted, "_cond": _counted,
    # with names
    "BatchNorm": _moments("var"), "BatchNorm_v1": _moments("var"), "_contrib_SyncBatchNorm": _moments("var"),
    "_contrib_BatchNormWithReLU": _moments("var"), "LayerNorm": _moments("std"), "GroupNorm": _moments("std"),
    "RNN": _rnn, "LeakyReLU": lambda a: ("output", "mask") if a.get("act_type") == "rrelu" else ("output",),
    "_contrib_Proposal": _scored, "_contrib_MultiProposal": _scored,
    "_contrib_MultiBoxTarget": ("loc_target", "loc_mask", "cls_target"),
    "_contrib_hawkesll": ("output", "out_state"), "_contrib_calibrate_entropy": ("threshold", "divergence"),
    "_contrib_quantize_asym": ("output", "scale", "shift"), "make_loss": ("loss",),
    "_npi_std": ("std",), "_npi_var": ("var",), "_npi_matmul": ("out",), "_npi_concatenate": ("out",),
    "_npi_hstack": ("out",), "_npi_dstack": ("out",),
    "_contrib_quantized_act": RANGED, "_contrib_quantized_batch_norm": RANGED, "_contrib_quantized_concat": RANGED,
    "_contrib_quantized_conv": RANGED, "_contrib_quantized_elemwise_add": RANGED, "_contrib_quantized_flatten": RANGED,
    "_contrib_quantized_pooling": RANGED, "_contrib_quantized_embedding": RANGED,
    "_contrib_quantized_elemwise_mul": _ranged, "_contrib_quantized_fully_connected": RANGED,
    "_sg_mkldnn_conv": _fused_conv, "_sg_onednn_conv": _fused_conv, "_sg_mkldnn_fully_connected": _fused,
    "_sg_onednn_fully_connected": _fused, "_sg_mkldnn_selfatt_qk": _fused, "_sg_onednn_selfatt_qk": _fused,
    "_sg_mkldnn_selfatt_valatt": _fused, "_sg_onednn_selfatt_valatt": _fused,
}  # fmt: skip


def _learnt(no_bias: bool, *names: str) -> Callable[[Attrs], Names]:
    return lambda a: names if flag(a, "no_bias", no_bias) else (*names, "bias")


def _rnn_inputs(attrs: Attrs) -> Names:
    cell = ["state_cell"] if attrs.get("mode") == "lstm" else []
    length = ["sequence_length"] if flag(attrs, "use_sequence_length") else []
    return ("data", "parameters", "state", *cell, *length)


def _lengths(attrs: Attrs) -> Names:
    return ("data", "sequence_length") if flag(attrs, "use_sequence_length") else ("data",)


def _when(key: str, value: str, extra: str) -> Callable[[Attrs], Names]:
    return lambda a: ("data", extra) if a.get(key) == value else ("data",)


BATCH_NORM = ("data", "gamma", "beta", "moving_mean", "moving_var")
LABELLED = ("data", "label")
BOTH = ("lhs", "rhs")
INPUTS: dict[str, Names | Callable[[Attrs], Names]] = {
    "Convolution": _learnt(False, "data", "weight"), "Convolution_v1": _learnt(False, "data", "weight"),
    "FullyConnected": _learnt(False, "data", "weight"), "Deconvolution": _learnt(True, "data", "weight"),
    "_contrib_DeformableConvolution": _learnt(False, "data", "offset", "weight"),
    "BatchNorm": BATCH_NORM, "BatchNorm_v1": BATCH_NORM, "CuDNNBatchNorm": BATCH_NORM,
    "_contrib_SyncBatchNorm": BATCH_NORM, "_contrib_BatchNormWithReLU": BATCH_NORM,
    "InstanceNorm": BATCH_NORM[:3], "LayerNorm": BATCH_NORM[:3], "GroupNorm": BATCH_NORM[:3],
    "LeakyReLU": _when("act_type", "prelu", "gamma"), "UpSampling": _when("sample_type", "bilinear", "weight"),
    "Embedding": ("data", "weight"), "_contrib_SparseEmbedding": ("data", "weight"), "RNN": _rnn_inputs,
    "IdentityAttachKLSparseReg": ("data", "moving_avg"),
    "SoftmaxOutput": LABELLED, "Softmax": LABELLED, "SVMOutput": LABELLED, "LinearRegressionOutput": LABELLED,
    "LogisticRegressionOutput": LABELLED, "MAERegressionOutput": LABELLED, "softmax_cross_entropy": LABELLED,
    "ROIPooling": ("data", "rois"), "_contrib_PSROIPooling": ("data", "rois"), "SpatialTransformer": ("data", "loc"),
    "BilinearSampler": ("data", "grid"), "Correlation": ("data1", "data2"),
    "SequenceLast": _lengths, "SequenceMask": _lengths, "SequenceReverse": _lengths,
    "_contrib_Proposal": ("cls_prob", "bbox_pred", "im_info"),
    "_contrib_MultiBoxTarget": ("anchor", "label", "cls_pred"),
    "_contrib_MultiBoxDetection": ("cls_prob", "loc_pred", "anchor"),
    "dot": BOTH, "batch_dot": BOTH, "elemwise_add": BOTH, "elemwise_sub": BOTH, "elemwise_mul": BOTH,
    "elemwise_div": BOTH,
}  # fmt: skip
"""Operator → its inputs. Those of others are never missing in old files."""

MUTABLE: dict[str, tuple[int, ...]] = {
    "BatchNorm": (3, 4), "BatchNorm_v1": (3, 4), "CuDNNBatchNorm": (3, 4), "_contrib_SyncBatchNorm": (3, 4),
    "_contrib_BatchNormWithReLU": (3, 4), "_contrib_quantized_batch_norm": (3, 4), "IdentityAttachKLSparseReg": (1,),
}  # fmt: skip
"""Operator → the inputs that it changes: they are auxiliary states, not arguments."""

ALIASES = {
    "split": "SliceChannel", "_contrib_ctc_loss": "CTCLoss", "_contrib_CTCLoss": "CTCLoss", "ctc_loss": "CTCLoss",
    "_contrib_box_non_maximum_suppression": "_contrib_box_nms", "_rnn_param_concat": "Concat",
    "_contrib_moments": "moments", "BatchNorm_v2": "BatchNorm",
}  # fmt: skip


def input_names(op: str, attrs: Attrs) -> Names:
    """What an operator calls its inputs; none if that does not matter."""
    names = INPUTS.get(ALIASES.get(op, op), ())
    return names if isinstance(names, tuple) else names(attrs)


def output_names(op: str, attrs: Attrs, used: int) -> Names:
    """What an operator calls the outputs that others may use.

    Args:
        op: the operator.
        attrs: its attributes.
        used: how many of its outputs the graph uses at least; decides for operators that fewbit does not know.
    """
    known = OUTPUTS.get(ALIASES.get(op, op), ("output",) if used <= 1 else numbered(used))
    names = known if isinstance(known, tuple) else known(attrs)
    return names + tuple(f"output{i}" for i in range(len(names), used))

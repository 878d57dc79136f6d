"""`mx.contrib.quantization`: what scripts import from there."""

from fewbit.calib import CalibrationCollector
from fewbit.compat.mxnet.collectors import (
    _LayerHistogramCollector,
    _LayerOutputMinMaxCollector,
    combine_histogram,
    get_optimal_threshold,
    get_optimal_thresholds,
)
from fewbit.compat.mxnet.quantization import (
    calib_graph,
    quantize_graph,
    quantize_model,
    quantize_model_mkldnn,
    quantize_model_onednn,
    quantize_net,
    quantize_net_v2,
)

__all__ = [
    "CalibrationCollector", "_LayerHistogramCollector", "_LayerOutputMinMaxCollector", "calib_graph",
    "combine_histogram", "get_optimal_threshold", "get_optimal_thresholds", "quantize_graph", "quantize_model",
    "quantize_model_mkldnn", "quantize_model_onednn", "quantize_net", "quantize_net_v2",
]  # fmt: skip

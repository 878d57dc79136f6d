"""MXNet's interface for quantizing, over fewbit: scripts change their imports, and nothing else.

    import mxnet as mx                                 →  import fewbit.compat.mxnet as mx
    from mxnet.contrib.quantization import *           →  from fewbit.compat.mxnet.contrib.quantization import *

What is there is what scripts for quantized inference use: checkpoints, symbols, modules, blocks, data iterators, and
all of `contrib.quantization`. MXNet itself is not needed.
"""

from fewbit.calib import CalibrationCollector
from fewbit.compat.mxnet import context, contrib, gluon, io, metric, model, ndarray, visualization
from fewbit.compat.mxnet import module as mod
from fewbit.compat.mxnet import ndarray as nd
from fewbit.compat.mxnet import network as sym
from fewbit.compat.mxnet import network as symbol
from fewbit.compat.mxnet import visualization as viz
from fewbit.compat.mxnet.collectors import (
    LayerHistogramCollector,
    LayerOutputMinMaxCollector,
    combine_histogram,
    get_optimal_threshold,
    get_optimal_thresholds,
)
from fewbit.compat.mxnet.context import Context, cpu, current_context, gpu
from fewbit.compat.mxnet.missing import telling
from fewbit.compat.mxnet.quantization import (
    calib_graph,
    quantize_graph,
    quantize_model,
    quantize_model_mkldnn,
    quantize_model_onednn,
    quantize_net,
    quantize_net_v2,
)

module = mod

__all__ = [
    "CalibrationCollector", "Context", "LayerHistogramCollector", "LayerOutputMinMaxCollector", "calib_graph",
    "combine_histogram", "context", "contrib", "cpu", "current_context", "get_optimal_threshold",
    "get_optimal_thresholds", "gluon", "gpu", "io", "metric", "mod", "model", "module", "nd", "ndarray",
    "quantize_graph", "quantize_model", "quantize_model_mkldnn", "quantize_model_onednn", "quantize_net",
    "quantize_net_v2", "sym", "symbol", "visualization", "viz",
]  # fmt: skip

__getattr__ = telling("mx", "record files: fewbit records, mx.io.ImageRecordIter; networks: export them in MXNet once")

"""MXNet's tutorial "Quantize with MKL-DNN backend", with nothing changed but its first two imports – and no MXNet.

    load → fuse → quantize_graph → run with the collector → calib_graph → fuse again → save → infer

The checkpoint and the images (Fashion-MNIST) lie in examples/mxnet; tests/golden/mxnet/make/tutorial.py made them, in
MXNet. The result appears in the current folder, under the names that the tutorial gave it, and as ONNX.
"""

import logging
import os

import fewbit.compat.mxnet as mx  # was: import mxnet as mx
from fewbit.compat.mxnet.contrib.quantization import calib_graph, quantize_graph  # was: from mxnet.contrib…

logging.basicConfig()
logger = logging.getLogger("logger")
logger.setLevel(logging.INFO)

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mxnet")
batch_size = 20


def images():
    """The images, as MXNet reads them."""
    return mx.io.ImageRecordIter(path_imgrec=os.path.join(here, "fashion.rec"), batch_size=batch_size,
                                 data_shape=(1, 28, 28), rand_crop=False, rand_mirror=False,
                                 mean_r=72.9, std_r=90.0)  # fmt: skip


# load, and fuse BatchNorm, activations and residual adds into convolutions
sym, arg_params, aux_params = mx.model.load_checkpoint(os.path.join(here, "fashion"), 0)
float_sym = sym
sym = sym.get_backend_symbol("MKLDNN_QUANTIZE")

# quantize configs
excluded_names = []
calib_mode = "naive"
calib_layer = None
quantized_dtype = "auto"
logger.info("Quantizing FP32 model fashion")
cqsym, cqarg_params, cqaux_params, collector = quantize_graph(
    sym=sym, arg_params=arg_params, aux_params=aux_params, excluded_sym_names=excluded_names, calib_mode=calib_mode,
    calib_layer=calib_layer, quantized_dtype=quantized_dtype, logger=logger)  # fmt: skip

# create module
data = images()
mod = mx.mod.Module(symbol=sym, label_names=None, context=mx.cpu())
mod.bind(for_training=False, data_shapes=data.provide_data, label_shapes=None)
mod.set_params(arg_params, aux_params)

# monitor FP32 inference
num_calib_batches = 10
max_num_examples = num_calib_batches * batch_size
mod._exec_group.execs[0].set_monitor_callback(collector.collect, monitor_all=True)
num_batches = 0
num_examples = 0
for batch in data:
    mod.forward(data_batch=batch, is_train=False)
    num_batches += 1
    num_examples += batch_size
    if num_examples >= max_num_examples:
        break
logger.info("Collected statistics from %d batches with batch_size=%d", num_batches, batch_size)

# write scaling factors into the quantized symbol
cqsym, cqarg_params, cqaux_params = calib_graph(qsym=cqsym, arg_params=cqarg_params, aux_params=cqaux_params,
                                                collector=collector, calib_mode=calib_mode,
                                                quantized_dtype=quantized_dtype, logger=logger)  # fmt: skip

# perform post-quantization fusion, and save
cqsym = cqsym.get_backend_symbol("MKLDNN_QUANTIZE")
mx.model.save_checkpoint("quantized-fashion", 0, cqsym, cqarg_params, cqaux_params)

# infer, from the files
quantized_net = mx.gluon.SymbolBlock.imports("quantized-fashion-symbol.json", "data",
                                             "quantized-fashion-0000.params")  # fmt: skip
quantized_net.hybridize(static_shape=True, static_alloc=True)
float_net = mx.gluon.SymbolBlock(float_sym, "data", {**arg_params, **aux_params})

accuracy = {}
for name, net in (("float", float_net), ("int8", quantized_net)):
    metric = mx.metric.create("acc")
    for batch in images():
        rows = batch_size - batch.pad
        metric.update([batch.label[0][:rows]], [net(batch.data[0])[:rows]])
    accuracy[name] = metric.get()[1]
print(f"accuracy on 600 images: float {accuracy['float']:.4f}, int8 {accuracy['int8']:.4f}")
print("wrote quantized-fashion.onnx")

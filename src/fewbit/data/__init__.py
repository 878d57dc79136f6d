"""Data for calibration and evaluation: what the user hands over becomes batches for the model.

    source = open_data("photos/", model.inputs, DataConfig(batch_size=8))
    for batch in source:                 # again and again, always in the same order
        run(batch.feeds)                 # input name -> array, in the dtype and shape of the input

What is accepted:

    "photos/"                            folder of images, also in sub-folders; class folders give labels
    "raw/"                               folder of .bin files, one sample each, in the dtype of the input
    "x.npy"                              one array, first axis = samples
    "x.npz"                              keys = input names, first axis = samples; `labels` may be there
    "a:/dir1,b:/dir2"                    a folder (or .npy) for each input; paired by sorted name
    "module:function"                    called without arguments; returns any of what follows
    a function                           the same, handed over itself
    array                                first axis = samples; numpy, torch or anything that becomes an array
    {"a": array, "b": array}             the same for several inputs; values may be paths too
    list, generator, DataLoader, …       arrays, tuples, mappings: batches as they come, or single samples

A tuple with more elements than the model has inputs: the surplus is not fed. Nothing is unpickled.
Memory does not grow with the number of samples, except for what is handed over in memory.
A model with a fixed batch size gets batches of that size; a short end is left out with a warning.
Unusable samples are errors that name them; with `skip_bad` they are left out, with a warning that names them.
"""

from fewbit.data.base import Batch, DataSource, TensorInfo
from fewbit.data.source import open_data

__all__ = ["Batch", "DataSource", "TensorInfo", "open_data"]

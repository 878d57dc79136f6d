"""The flags of MindSpore Lite's converter_lite: what each may say, and what it means here.

    --fmk ONNX --modelFile net.onnx --outputFile small --configFile quant.cfg --inputShape "x:1,3,224,224"

Flags without a meaning here are ignored with a warning (`because`), or refused (`refused`) where the result would not
be what they promise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fewbit.errors import ConfigError, one_of
from fewbit.mindspore.keys import TYPES

FRAMEWORKS: dict[str, tuple[str, ...]] = {
    "ONNX": (".onnx",),
    "MXNET": (".json", ".params"),
    "TFLITE": (".tflite",),
    "CAFFE": (".prototxt", ".caffemodel"),
    "PYTORCH": (),
    "TF": (),
    "MINDIR": (),
    "MSLITE": (),
    "OM": (),
}
"""fmk → endings of its files; none: never read."""

WAYS_IN = {
    "PYTORCH": "its files are pickles, which fewbit does not open; build the module in Python and hand it over: "
    "fewbit.load(module, sample).save('model.onnx')",
    "TF": "convert it to ONNX with tf2onnx: python -m tf2onnx.convert --saved-model FOLDER --output model.onnx",
    "MINDIR": "export it from MindSpore as ONNX: mindspore.export(net, inputs, file_name='model', file_format='ONNX')",
    "MSLITE": "it is converted already; give the network that it was made from",
    "OM": "it is compiled for Ascend chips; give the network that it was made from",
}
"""fmk that cannot be read → the way in."""

TYPES_OF_ENDS = {
    "DEFAULT": "", "FLOAT": "float32", "FLOAT16": "float16", "INT8": "int8", "UINT8": "uint8", "INT32": "int32",
    "INT64": "int64",
}  # fmt: skip
LAYOUTS = ("NHWC", "NCHW")
OLD_TYPES = {"WeightQuant": "WEIGHT_QUANT", "PostTraining": "FULL_QUANT"}
FLAG = ("true", "false")


@dataclass(frozen=True)
class Flag:
    """One flag.

    Args:
        name: as the converter calls it. choices: words that it may be; none: any text. help: for people.
        because: why it is ignored. refused: why not. same: what asks for nothing else than is done anyway.
    """

    name: str
    help: str
    choices: tuple[str, ...] = ()
    because: str = ""
    refused: str = ""
    same: tuple[str, ...] = ()


FLAGS = (
    Flag("fmk", "Where the network comes from.", tuple(FRAMEWORKS)),
    Flag("modelFile", "The float network."),
    Flag("outputFile", "Where the result goes; .onnx is added."),
    Flag("weightFile", "Its weights, if they lie in a file of their own."),
    Flag("configFile", "Converter config, or TOML: how to quantize."),
    Flag("inputShape", "Shapes of inputs: 'data:1,3,224,224;ids:1,128'; -1 is free."),
    Flag("inputDataType", "Type that inputs are fed with.", tuple(TYPES_OF_ENDS)),
    Flag("outputDataType", "Type that outputs come in.", tuple(TYPES_OF_ENDS)),
    Flag("inputDataFormat", "Axes of inputs that have 4; left out: as in the file.", LAYOUTS),
    Flag("outputDataFormat", "Axes of outputs that have 4; left out: as in the file.", LAYOUTS),
    Flag("fp16", "Store weights that stay float in 16 bits.", ("on", "off")),
    Flag("quantType", "As quant_type in the config, which it precedes.", (*TYPES, *OLD_TYPES)),
    Flag("bitNum", "As bit_num in the config, which it precedes."),
    Flag("saveType", "Ignored: ONNX is written.", ("MINDIR", "MINDIR_LITE"), because="what is written is ONNX"),
    Flag(
        "optimize", "Ignored: fusing is exact.", ("none", "general", "gpu_oriented", "ascend_oriented"),
        because="networks that are quantized are fused, others are left as they are", same=("general",),
    ),
    Flag("optimizeTransformer", "Ignored.", FLAG, because="attention is left to the engine", same=("false",)),
    Flag("device", "Ignored: see --target of fewbit quantize.", because="the result is for the target of the config"),
    Flag("infer", "Ignored.", FLAG, because="a quantized network is run and compared anyway", same=("false",)),
    Flag("trainModel", "Only false.", FLAG, refused="networks are made for running, not for training", same=("false",)),
    Flag("encryption", "Only false.", FLAG, refused="nothing is encrypted here; encrypt the file", same=("false",)),
    Flag("encryptKey", "Refused.", refused="nothing is encrypted here; encrypt the file that is written"),
    Flag("decryptKey", "Refused.", refused="encrypted networks cannot be read; decrypt the file first"),
    Flag("decryptMode", "Ignored.", ("AES-GCM", "AES-CBC"), because="encrypted networks are not read"),
)  # fmt: skip
NAMES = tuple(f.name for f in FLAGS)


def check_flags(given: Mapping[str, str]) -> list[str]:
    """Check what was said; returns what is to be told of flags without a meaning.

    Raises:
        UnknownName: no such flag, or a word that a flag does not know. ConfigError: a flag that is refused.
    """
    told = []
    for name, text in given.items():
        flag = FLAGS[NAMES.index(one_of("flag", name, NAMES))]
        if flag.choices:
            one_of(name, text, flag.choices)
        if text in flag.same:
            continue
        if flag.refused:
            raise ConfigError(f"{name} is {text!r}; {flag.refused}")
        if flag.because:
            told.append(f"{name} is ignored: {flag.because}")
    return told


def read_shapes(text: str) -> dict[str, tuple[int | None, ...]]:
    """`a:1,3,224,224;b:16` → {"a": (1, 3, 224, 224), "b": (16,)}; sizes of -1, 0 and ? are free.

    Raises:
        ConfigError: a text of another form, or an input twice.
    """
    found: dict[str, tuple[int | None, ...]] = {}
    for part in filter(None, (p.strip() for p in text.split(";"))):
        name, _, sizes = part.rpartition(":")
        dims = [d.strip() for d in sizes.split(",")]
        if not name or not all(d in ("?", "-1") or (d.isascii() and d.isdecimal()) for d in dims):
            raise ConfigError(
                f"inputShape is {text!r}; it must look like 'data:1,3,224,224;ids:1,128', with -1 for free sizes"
            )
        if name in found:
            raise ConfigError(f"inputShape gives {name!r} twice; give each input once")
        found[name] = tuple(None if d in ("?", "-1", "0") else int(d) for d in dims)
    return found

"""The flags of converter_lite."""

from __future__ import annotations

import pytest

from fewbit.errors import ConfigError, UnknownName
from fewbit.mindspore.flags import FLAGS, FRAMEWORKS, NAMES, WAYS_IN, check_flags, read_shapes

CONVERTER = set(
    "fmk modelFile outputFile weightFile configFile inputShape inputDataType outputDataType inputDataFormat "
    "outputDataFormat fp16 trainModel saveType optimize optimizeTransformer device infer encryption encryptKey "
    "decryptKey decryptMode".split()
)
"""Those of the converter; quantType and bitNum are older ones."""


def test_all_flags_are_there() -> None:
    assert set(NAMES) == CONVERTER | {"quantType", "bitNum"} and len(NAMES) == len(set(NAMES))
    assert set(WAYS_IN) | {"ONNX", "MXNET", "TFLITE", "CAFFE"} == set(FRAMEWORKS)
    for flag in FLAGS:
        assert flag.help and not (flag.because and flag.refused)
        assert set(flag.same) <= set(flag.choices)


def test_flags_without_a_meaning_are_told() -> None:
    idle = {f.name: next((c for c in f.choices if c not in f.same), "x") for f in FLAGS if f.because}
    assert set(idle) == {"saveType", "optimize", "optimizeTransformer", "device", "infer", "decryptMode"}
    told = check_flags(idle)
    assert [t.split(" is ignored: ")[0] for t in told] == list(idle)
    assert check_flags({f.name: f.same[0] for f in FLAGS if f.same}) == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("trainModel", "true", "trainModel is 'true'; networks are made for running, not for training"),
        ("encryption", "true", "encryption is 'true'; nothing is encrypted here; encrypt the file"),
        ("encryptKey", "30", "encryptKey is '30'; nothing is encrypted here"),
        ("decryptKey", "30", "encrypted networks cannot be read; decrypt the file first"),
    ],
)
def test_what_would_not_be_kept_is_refused(name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as e:
        check_flags({name: text})
    assert said in str(e.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fmk": "onnx"}, "unknown fmk 'onnx'"),
        ({"modelfile": "x"}, "unknown flag 'modelfile'; did you mean 'modelFile'"),
        ({"inputDataType": "FLOAT32"}, "unknown inputDataType 'FLOAT32'; did you mean 'FLOAT"),
        ({"fp16": "true"}, "unknown fp16 'true' (allowed: off, on)"),
        ({"decryptMode": "AES"}, "did you mean 'AES-"),
    ],
)
def test_unknown_words_offer_the_nearest(given: dict[str, str], said: str) -> None:
    with pytest.raises(UnknownName) as e:
        check_flags(given)
    assert said in str(e.value)


def test_shapes() -> None:
    assert read_shapes("data:1,3,224,224; a:b:16 ;") == {"data": (1, 3, 224, 224), "a:b": (16,)}
    assert read_shapes("x:-1,3,0,?") == {"x": (None, 3, None, None)}
    assert read_shapes("") == {}
    for text in ("data", "data:", ":1", "data:1,x", "data:1.5", "data:-2", "data:1,,2"):
        with pytest.raises(ConfigError, match="it must look like 'data:1,3,224,224;ids:1,128', with -1 for free sizes"):
            read_shapes(text)
    with pytest.raises(ConfigError, match="inputShape gives 'a' twice"):
        read_shapes("a:1;a:2")

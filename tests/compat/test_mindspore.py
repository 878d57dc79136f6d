"""The converter's interface: one call from a float network and a config to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import fewbit as fb
from fewbit.compat.mindspore import Converted, convert
from fewbit.data.demo import demo_calibration
from fewbit.engines import open_runner
from fewbit.errors import ConfigError, FewbitError, FewbitWarning, UnknownName, UsageError
from fewbit.report.quantized import Quantized
from tests.converter import GOLDEN, furnish
from tests.models import info, node, proto, weight

X = {"image": demo_calibration()["image"][:8]}

pytestmark = pytest.mark.filterwarnings("ignore::fewbit.errors.FewbitWarning")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a network, pictures and the example configs."""
    monkeypatch.chdir(tmp_path)
    return furnish(tmp_path, pictures=6)


def make(**words: object) -> Converted:
    return convert(**({"fmk": "ONNX", "modelFile": "net.onnx", "outputFile": "out", "verify": False} | words))  # type: ignore[arg-type]


def scores(path: str | Path, feeds: dict[str, np.ndarray] = X) -> np.ndarray:
    return open_runner("onnxruntime", fb.load(path, allow_quantized=True)).run(feeds)["logits"]


def config(text: str) -> str:
    Path("own.cfg").write_text(text)
    return "own.cfg"


def test_only_convert(place: Path) -> None:
    done = make(configFile="convert_only.cfg")
    assert done.files == (Path("out.onnx"),) and not isinstance(done.network, Quantized)
    np.testing.assert_array_equal(scores("out.onnx"), scores("net.onnx"))
    assert make(outputFile="b.onnx").files == (Path("b.onnx"),)


def test_full_quantization_from_the_file(place: Path) -> None:
    done = make(configFile=config((GOLDEN / "full.cfg").read_text().replace("debug_info_save_path=debug", "")))
    assert isinstance(done.network, Quantized)
    assert done.files == (Path("out.onnx"), Path("out.plan.json"))
    said = done.network.plan.config
    assert (said["calib_mode"], said["num_calib_batches"], said["bias_correction"]) == ("quantile", 4, True)
    assert any(v.lo is not None for v in done.network.plan.values.values())
    got, want = scores("out.onnx"), scores("net.onnx")
    assert (got.argmax(1) == want.argmax(1)).mean() > 0.9


def test_the_same_from_toml_and_by_hand(place: Path) -> None:
    files = [config((GOLDEN / "full.cfg").read_text().replace("debug_info_save_path=debug", "")), "full.toml"]
    Path("full.toml").write_text(Path("full.toml").read_text().replace('debug_info_save_path = "debug"', ""))
    made = [make(configFile=f, outputFile=f"out{i}") for i, f in enumerate(files)]
    by_hand = fb.quantize(
        "net.onnx", "pictures", calib_mode="quantile", num_calib_batches=4, bias_correction=True, verify=False,
        image_to_format="GRAY", normalize_mean=72.9, normalize_std=90.0, resize_width=32, resize_height=32,
        center_crop_width=28, center_crop_height=28,
    )  # fmt: skip
    assert isinstance(made[0].network, Quantized) and isinstance(made[1].network, Quantized)
    assert made[0].network.plan == made[1].network.plan
    assert made[0].network.plan.values == by_hand.plan.values


def test_several_inputs_of_raw_buffers(place: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [node("MatMul", "a:0 w", "p", "left"), node("MatMul", "b v", "q", "right"), node("Add", "p q", "y", "sum")]
    ends = [info("a:0", [1, 8]), info("b", [1, 4, 8])]
    onnx.save(proto(nodes, ends, [info("y", None)], {"w": weight(8, 6), "v": weight(8, 6)}), "two.onnx")
    for name, size in (("a", 8), ("b", 32)):
        Path(name).mkdir()
        for i in range(3):
            (rng.standard_normal(size) * (i + 1)).astype(np.float32).tofile(f"{name}/{i}.bin")
    text = "[common_quant_param]\nquant_type=FULL_QUANT\n[full_quant_param]\nenable_all_ops=true\n"
    text += "[data_preprocess_param]\ncalibrate_path=a:0:a,b:b\ncalibrate_size=2\ninput_type=BIN\n"
    made = make(modelFile="two.onnx", configFile=config(text)).network
    assert isinstance(made, Quantized)
    seen = np.concatenate([np.fromfile(f"b/{i}.bin", np.float32) for i in range(2)])
    entry = made.plan.values["b"]
    assert (entry.lo, entry.hi) == (float(seen.min()), float(seen.max()))


def test_the_kl_search_from_the_file(place: Path) -> None:
    text = Path("full.cfg").read_text().replace("REMOVAL_OUTLIER", "KL").replace("debug_info_save_path=debug", "")
    done = make(configFile=config(text))
    assert isinstance(done.network, Quantized)
    measured = [v for v in done.network.plan.values.values() if v.calib_mode == "kl" and v.lo is not None]
    assert measured and all(v.lo in (0, -v.hi) for v in measured)  # type: ignore[operator]
    got, want = scores("out.onnx"), scores("net.onnx")
    assert (got * want).sum() / np.sqrt((got**2).sum() * (want**2).sum()) > 0.9


def test_weights_from_the_file(place: Path) -> None:
    done = make(configFile="weight_fixed.cfg")
    assert isinstance(done.network, Quantized)
    plan = done.network.plan
    assert (plan.config["bit_num"], plan.config["quant_type"]) == (6, "weight")
    kept = [n for n, v in plan.nodes.items() if "excluded by exclude_layers" in v.reason]
    assert kept == ["/stem/conv/Conv", "/fc/Gemm"]
    assert Path("out.onnx").stat().st_size < 0.5 * Path("net.onnx").stat().st_size
    np.testing.assert_allclose(scores("out.onnx"), scores("net.onnx"), atol=1.0)


def test_mixed_bit_is_written_twice(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    real = Quantized.save
    monkeypatch.setattr(Quantized, "save", lambda self, path: (saved.append(str(path)), real(self, path))[1])
    done = make(configFile="weight_mixed.cfg")
    assert saved == ["out.onnx", "out.fewbit"]
    assert done.files == (Path("out.onnx"), Path("out.fewbit"), Path("out.plan.json"))


def test_dynamic_from_the_file(place: Path) -> None:
    done = make(configFile="dynamic.cfg")
    assert isinstance(done.network, Quantized)
    assert done.network.plan.config["quant_type"] == "dynamic"


def test_flags_precede_the_file(place: Path) -> None:
    done = make(configFile="weight_fixed.cfg", bitNum="4", quantType="WeightQuant")
    assert isinstance(done.network, Quantized) and done.network.plan.config["bit_num"] == 4
    done = make(quantType="WEIGHT_QUANT", outputFile="b")
    assert isinstance(done.network, Quantized) and done.network.plan.config["min_quant_weight_channel"] == 17
    with pytest.raises(ConfigError, match=r"--bitNum: bit_num is '20'; it must be a whole number from 0 to 16"):
        make(quantType="WEIGHT_QUANT", bitNum="20")


def test_layout_and_types(place: Path) -> None:
    done = make(inputDataFormat="NHWC", inputDataType="FLOAT16", outputDataType="FLOAT16")
    assert [str(i) for i in done.network.inputs] == ["image: float16[N, 28, 28, 1]"]
    x = {"image": X["image"].transpose(0, 2, 3, 1).astype(np.float16)}
    got = scores("out.onnx", x)
    assert got.dtype == np.float16
    np.testing.assert_allclose(got, scores("net.onnx"), atol=0.05)
    assert make(inputDataType="FLOAT", outputDataType="DEFAULT").network.inputs == fb.load("net.onnx").inputs


def test_pictures_are_read_in_the_layout_that_was_asked(place: Path) -> None:
    text = Path("full.cfg").read_text().replace("debug_info_save_path=debug", "")
    two = [make(configFile=config(text), outputFile=o, **w) for o, w in (("a", {}), ("b", {"inputDataFormat": "NHWC"}))]
    got = scores("b.onnx", {"image": X["image"].transpose(0, 2, 3, 1)})
    np.testing.assert_allclose(got, scores("a.onnx"), atol=0.5)
    assert all(isinstance(t.network, Quantized) for t in two)


def test_integers_come_in(place: Path) -> None:
    text = Path("full.cfg").read_text().replace("debug_info_save_path=debug", "enable_encode=true")
    text = text.replace("target_device=CPU", "target_device=CPU\nenable_all_ops=true")
    done = make(configFile=config(text), inputDataType="INT8")
    assert [i.dtype.name for i in done.network.inputs] == ["int8"]
    assert isinstance(done.network, Quantized)
    plain = make(configFile="own.cfg", outputFile="plain").network
    assert isinstance(plain, Quantized)
    q = next(n for n in plain.nodes if n.op_type == "QuantizeLinear" and n.inputs[0].name == "image")
    scale, zero = (np.asarray(v.const_value.numpy()) for v in q.inputs[1:3])
    x = np.clip(np.rint(X["image"] / scale) + int(zero) - 128 * (zero.dtype == np.uint8), -128, 127).astype(np.int8)
    np.testing.assert_array_equal(scores("out.onnx", {"image": x}), scores("plain.onnx"))


def test_weights_in_16_bits(place: Path) -> None:
    make(fp16="on")
    assert Path("out.onnx").stat().st_size < 0.6 * Path("net.onnx").stat().st_size
    np.testing.assert_allclose(scores("out.onnx"), scores("net.onnx"), atol=0.05)
    make(fp16="off", outputFile="b")
    np.testing.assert_array_equal(scores("b.onnx"), scores("net.onnx"))
    both = make(fp16="on", configFile="weight_fixed.cfg", outputFile="c")
    one = make(configFile="weight_fixed.cfg", outputFile="d")
    assert both.network.nbytes < one.network.nbytes
    np.testing.assert_allclose(scores("c.onnx"), scores("d.onnx"), atol=0.05)


def test_what_float16_cannot_hold_is_told(place: Path) -> None:
    model = onnx.load("net.onnx")
    w = next(t for t in model.graph.initializer if len(t.dims) == 4)
    big = onnx.numpy_helper.to_array(w) * 1e6
    w.CopyFrom(onnx.numpy_helper.from_array(big, w.name))
    onnx.save(model, "big.onnx")
    with pytest.warns(
        FewbitWarning, match=f"fp16: '{w.name}' holds values beyond 65504, which float16 cannot; kept in"
    ):
        make(modelFile="big.onnx", fp16="on")


def test_what_has_no_meaning_is_told_once(place: Path) -> None:
    with pytest.warns(FewbitWarning) as told:
        make(configFile="convert_only.cfg", saveType="MINDIR", infer="false")
    assert [str(w.message).split(":")[0] for w in told] == [
        "saveType is ignored", "convert_only.cfg", "convert_only.cfg",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"fmk": "TF"}, "fmk is TF, which fewbit cannot read; convert it to ONNX with tf2onnx"),
        ({"fmk": "MINDIR"}, "export it from MindSpore as ONNX"),
        ({"fmk": "MSLITE"}, "give the network that it was made from"),
        ({"fmk": "OM"}, "compiled for Ascend chips"),
        ({"fmk": "MXNET"}, "fmk is MXNET, and modelFile net.onnx is no .json, .params file or a prefix; say fmk ONNX"),
        ({"modelFile": "net.tflite"}, "modelFile net.tflite is no .onnx file; say fmk TFLITE"),
        ({"modelFile": "none.onnx"}, "there is no file none.onnx"),
        ({"weightFile": "w.bin"}, "weightFile is 'w.bin'; it is for fmk CAFFE and MXNET, leave it out"),
        ({"outputFile": "net"}, "outputFile net.onnx is the input itself; give it another name"),
        ({"inputShape": "image:1,1,32,32"}, "input 'image' has the shape"),
        ({"inputShape": "img:1"}, "unknown input 'img'; did you mean 'image'"),
        ({"outputDataFormat": "NHWC"}, "outputDataFormat is NHWC, and no output has 4 axes; leave it out"),
        ({"inputDataType": "INT32"}, "inputDataType is INT32, and there is no whole-numbered input; leave it out"),
        ({"inputDataType": "INT8"}, "input 'image' has no integers: the layers that read it compute in float; say"),
        ({"outputDataType": "UINT8"}, "output 'logits' has no integers: the layer that makes it answers in float"),
        ({"quantType": "FULL_QUANT"}, "quant_type FULL_QUANT measures ranges on data; name it in [data_"),
        ({"quantTyp": "x"}, "unknown flag 'quantTyp'; did you mean 'quantType'"),
        ({"encryption": "true"}, "nothing is encrypted here"),
        ({"configFile": "none.cfg"}, "cannot read the config file none.cfg"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(place: Path, words: dict[str, str], said: str) -> None:
    before = sorted(place.iterdir())
    with pytest.raises(FewbitError) as e:
        make(**words)
    assert said in str(e.value)
    assert sorted(place.iterdir()) == before


def test_a_layer_that_is_not_there_offers_the_nearest(place: Path) -> None:
    text = Path("weight_fixed.cfg").read_text().replace("/fc/Gemm", "/fc/Gem")
    with pytest.raises(UnknownName, match="unknown layer '/fc/Gem'; did you mean '/fc/Gemm'"):
        make(configFile=config(text))


def test_the_config_itself_is_not_overwritten(place: Path) -> None:
    Path("own.onnx").write_text("[registry]\n")
    with pytest.raises(UsageError, match=r"outputFile own.onnx is the input itself"):
        make(configFile="own.onnx", outputFile="own")

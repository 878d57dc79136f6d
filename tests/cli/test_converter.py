"""`fewbit convert` with the flags of MindSpore Lite's converter_lite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fewbit as fb
from tests.cli.conftest import Cli
from tests.converter import furnish

MUST = ("--fmk", "ONNX", "--modelFile", "net.onnx", "--outputFile", "out")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a network, pictures and the example configs."""
    monkeypatch.chdir(tmp_path)
    return furnish(tmp_path, pictures=4)


def test_only_convert(cli: Cli, place: Path) -> None:
    done = cli("convert", *MUST, "--configFile", "convert_only.cfg", "--inputDataFormat", "NHWC")
    assert done.code == 0, done.err
    assert done.out.startswith("wrote out.onnx\ninput       image: float32[N, 28, 28, 1]\n")
    assert "warning: convert_only.cfg: plugin_path in [registry] is ignored" in done.err
    assert [i.shape for i in fb.load("out.onnx").inputs] == [("N", 28, 28, 1)]


def test_shapes_and_json(cli: Cli, place: Path) -> None:
    done = cli("convert", *MUST, "--inputShape", "image:1,1,28,28", "--fp16=on", "--json")
    found = json.loads(done.out)
    assert found["inputs"] == [{"name": "image", "dtype": "float32", "shape": [1, 1, 28, 28]}]
    assert found["files"] == ["out.onnx"] and "report" not in found


def test_a_config_quantizes(cli: Cli, place: Path) -> None:
    text = Path("full.cfg").read_text().replace("debug_info_save_path=debug", "")
    Path("full.cfg").write_text(text)
    done = cli("convert", *MUST, "--configFile", "full.cfg")
    assert done.code == 0, done.err
    assert "target   onnxruntime" in done.out and done.out.endswith("\nwrote out.onnx and out.plan.json\n")
    assert sorted(p.name for p in place.glob("out*")) == ["out.onnx", "out.plan.json"]
    done = cli("convert", *MUST, "--configFile", "full.cfg", "--json", "--quiet")
    found = json.loads(done.out)
    assert found["files"] == ["out.onnx", "out.plan.json"] and found["report"]["layers"] == 28


def test_an_ending_is_not_doubled(cli: Cli, place: Path) -> None:
    for name in ("o1.fewbit", "o1.onnx", "o1"):
        words = ["--fmk", "ONNX", "--modelFile", "net.onnx", "--outputFile", name, "--configFile", "weight_mixed.cfg"]
        found = json.loads(cli("convert", *words, "--json", "--quiet").out)
        assert found["files"] == ["o1.onnx", "o1.fewbit", "o1.plan.json"]


def test_a_folder_that_is_not_there_is_told_with_its_key(cli: Cli, place: Path) -> None:
    for text, said in (
        ("image:nosuchdir", "own.cfg: calibrate_path in [data_preprocess_param] is 'nosuchdir' for input 'image'"),
        ("imag:pictures", "unknown input name 'imag'; did you mean 'image'?"),
    ):
        Path("own.cfg").write_text(Path("full.cfg").read_text().replace("image:pictures", text))
        for words in (("convert", *MUST, "--configFile"), ("quantize", "net.onnx", "-o", "out.onnx", "--config")):
            done = cli(*words, "own.cfg", "--quiet")
            assert done.code == 2 and said in done.err.replace("\n", " "), done.err


def test_fewbits_own_config_is_for_another_verb(cli: Cli, place: Path) -> None:
    Path("own.toml").write_text("[quantize]\nbit_num = 8\n")
    done = cli("convert", *MUST, "--configFile", "own.toml")
    assert done.code == 2 and "own.toml is fewbit's own config, with [quantize]" in done.err
    assert "hand it to: fewbit quantize --config own.toml" in done.err


def test_quiet_says_warnings_only(cli: Cli, place: Path) -> None:
    done = cli("convert", *MUST, "-q", "--optimize", "none")
    assert (done.out, done.err.count("warning: optimize is ignored")) == ("", 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["net.onnx", "--fmk", "ONNX"], "MODEL does not go together with --fmk; use one set of flags"),
        ([*MUST, "-o", "x.onnx"], "-o does not go together with --fmk"),
        ([*MUST, "--input-shapes", "image:1,1,28,28"], "--input-shapes does not go together with --fmk"),
        (["--fmk", "ONNX"], "--modelFile is missing; converter_lite's flags need --fmk, --modelFile, --outputFile"),
        ([], "there is no network; give MODEL, or --fmk, --modelFile and --outputFile"),
        ([*MUST, "--fmk", "TF"], "fmk is TF, which fewbit cannot read; convert it to ONNX with tf2onnx"),
        ([*MUST, "--fmk", "ONX"], "unknown fmk 'ONX'; did you mean 'ONNX'"),
        ([*MUST, "--encryption", "true"], "nothing is encrypted here"),
        ([*MUST, "--outputFile", "no/out"], "cannot write no/out.onnx: there is no folder no"),
        ([*MUST, "--outputFile", "net"], "the output net.onnx is the input itself"),
        ([*MUST, "--configFile", "none.cfg"], "cannot read the config file none.cfg"),
        ([*MUST, "--quantType", "FULL_QUANT"], "measures ranges on data; name it in [data_preprocess_param]"),
    ],
)
def test_what_cannot_be_done_is_said(cli: Cli, place: Path, words: list[str], said: str) -> None:
    before = sorted(place.iterdir())
    done = cli("convert", *words)
    assert done.code in (1, 2) and said in done.err and "Traceback" not in done.err
    assert sorted(place.iterdir()) == before


def test_pictures_are_not_overwritten(cli: Cli, place: Path) -> None:
    text = Path("full.cfg").read_text().replace("image:pictures", "image:net.onnx")
    Path("own.cfg").write_text(text)
    done = cli("convert", *MUST, "--outputFile", "net", "--configFile", "own.cfg")
    assert done.code == 2 and "the output net.onnx is the input itself" in done.err


def test_every_flag_of_the_converter(cli: Cli, place: Path) -> None:
    flags = {
        "--weightFile": "w", "--inputDataType": "FLOAT", "--outputDataType": "FLOAT", "--outputDataFormat": "NCHW",
        "--fp16": "off", "--bitNum": "8", "--saveType": "MINDIR", "--optimize": "none", "--optimizeTransformer": "true",
        "--device": "CPU", "--infer": "true", "--trainModel": "true", "--encryption": "false", "--encryptKey": "00",
        "--decryptKey": "00", "--decryptMode": "AES-GCM",
    }  # fmt: skip
    for name, word in flags.items():
        done = cli("convert", "--fmk", "ONNX", "--modelFile", "net.onnx", "--outputFile", "out", name, word, "--quiet")
        said = done.err.replace("\n", " ")
        assert done.code == 0 or name.lstrip("-") in said, (name, said)
        assert "Traceback" not in said


def test_tflite_is_read(cli: Cli, tmp_path: Path) -> None:
    net = Path(__file__).parents[2] / "examples" / "tflite" / "demo-int8.tflite"
    words = ["convert", "--fmk", "TFLITE", "--modelFile", net, "--outputFile", tmp_path / "out", "--quiet"]
    assert cli(*words).code == 0 and (tmp_path / "out.onnx").exists()
    done = cli(*["CAFFE" if w == "TFLITE" else w for w in words])
    assert done.code == 2 and "is no .prototxt, .caffemodel file; say fmk TFLITE" in done.err

"""The table of MXNet's zoos: names, settings, files, float layers."""

from __future__ import annotations

from pathlib import Path

import pytest

import fewbit as fb
from fewbit.compat.mxnet.zoo import (
    DATA_ADDRESS,
    MEAN,
    STD,
    ZOO,
    checkpoint,
    default_data,
    first_convolution,
    float_layers,
    input_shape,
    quantized_name,
    settings_of,
    zoo_network,
)
from fewbit.config import DataConfig, QuantConfig
from fewbit.errors import DataError, ModelFormatError, UnknownName, UsageError
from fewbit.graph.model import Model
from tests.checkpoints import zoo_like
from tests.models import info, load, node, proto

NAMES = """
    alexnet densenet121 densenet161 densenet169 densenet201 inceptionv3
    mobilenet0.25 mobilenet0.5 mobilenet0.75 mobilenet1.0
    mobilenetv2_0.25 mobilenetv2_0.5 mobilenetv2_0.75 mobilenetv2_1.0
    resnet18_v1 resnet34_v1 resnet50_v1 resnet101_v1 resnet152_v1
    resnet18_v2 resnet34_v2 resnet50_v2 resnet101_v2 resnet152_v2
    squeezenet1.0 squeezenet1.1 vgg11 vgg13 vgg16 vgg19 vgg11_bn vgg13_bn vgg16_bn vgg19_bn
    imagenet1k-inception-bn imagenet1k-resnet-152
""".split()


def test_the_networks_are_those_of_the_script() -> None:
    assert sorted(ZOO) == sorted(NAMES)


def test_an_unknown_network_offers_the_nearest_and_lists_all() -> None:
    with pytest.raises(UnknownName, match=r"unknown network of the zoo 'resnet50'; did you mean .*'resnet50_v1'") as e:
        zoo_network("resnet50")
    assert all(name in str(e.value) for name in NAMES)
    assert zoo_network("vgg16_bn") is ZOO["vgg16_bn"]


def test_sizes_and_numbers() -> None:
    assert {n for n, row in ZOO.items() if row.edge != 224} == {"inceptionv3"} and ZOO["inceptionv3"].edge == 299
    assert {n for n, row in ZOO.items() if (row.mean, row.std) != (MEAN, STD)} == set(NAMES[-2:])
    assert ZOO["imagenet1k-inception-bn"].mean == MEAN and ZOO["imagenet1k-inception-bn"].std == (1, 1, 1)
    assert ZOO["imagenet1k-resnet-152"].mean == (0, 0, 0) and ZOO["imagenet1k-resnet-152"].std == (1, 1, 1)
    assert input_shape(ZOO["inceptionv3"]) == {"data": (None, 3, 299, 299)}


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_settings(name: str) -> None:
    found = settings_of(ZOO[name], {})
    quant = {k: found.pop(k) for k in ("num_calib_batches", "calib_mode")}
    QuantConfig(**quant), DataConfig(**found)
    assert quant == {"num_calib_batches": 10, "calib_mode": "entropy"} and found["batch_size"] == 32
    assert found["center_crop_width"] == found["center_crop_height"] == ZOO[name].edge


def test_what_the_user_said_is_left_to_him() -> None:
    row = ZOO["inceptionv3"]
    assert settings_of(row, {})["resize_shorter"] == 299  # the published images are 256 high
    assert "resize_shorter" not in settings_of(ZOO["alexnet"], {})
    said = {"center_crop_width": 200, "calib_mode": "naive", "resize_width": 320, "batch_size": 1}
    assert set(settings_of(row, said)) == {"num_calib_batches", "normalize_mean", "normalize_std"}
    assert set(settings_of(row, {}, images=False)) == {"batch_size", "num_calib_batches", "calib_mode"}


def test_names_of_results() -> None:
    row = ZOO["resnet50_v1"]
    assert quantized_name(row, "entropy", 10) == "resnet50_v1-quantized-10batches-entropy-symbol.json"
    assert quantized_name(row, "naive", None) == "resnet50_v1-quantized-allbatches-naive-symbol.json"
    assert quantized_name(row, "none", 10) == "resnet50_v1-quantized-symbol.json"


def test_files_of_a_checkpoint(tmp_path: Path) -> None:
    symbol = zoo_like(tmp_path, "vgg11", "vgg0_")
    assert checkpoint(ZOO["vgg11"], tmp_path) == (symbol, tmp_path / "vgg11-0000.params")
    other = tmp_path / "best.params"
    (tmp_path / "vgg11-0000.params").rename(other)
    assert checkpoint(ZOO["vgg11"], tmp_path, other) == (symbol, other)


@pytest.mark.parametrize(("prefix", "epoch"), [("Inception-BN", 126), ("imagenet1k-inception-bn", 0)])
def test_old_networks_by_either_name(tmp_path: Path, prefix: str, epoch: int) -> None:
    symbol = zoo_like(tmp_path, prefix, "", epoch=epoch)
    found = checkpoint(ZOO["imagenet1k-inception-bn"], tmp_path)
    assert found == (symbol, tmp_path / f"{prefix}-{epoch:04d}.params")


def test_missing_files_are_told_with_the_way_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError) as e:
        checkpoint(ZOO["inceptionv3"], tmp_path)
    text = str(e.value)
    assert str(tmp_path / "inceptionv3-symbol.json") in text and "inceptionv3-0000.params, which are not there" in text
    assert "get_model('inceptionv3', pretrained=True)" in text and "(1, 3, 299, 299)" in text
    assert f"net.export({(tmp_path / 'inceptionv3').as_posix()!r})" in text
    zoo_like(tmp_path, "inceptionv3", "inception30_")
    (tmp_path / "inceptionv3-0000.params").unlink()
    with pytest.raises(ModelFormatError, match=r"needs \S+inceptionv3-0000.params, which is not there"):
        checkpoint(ZOO["inceptionv3"], tmp_path)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("imagenet1k-inception-bn", "http://data.mxnet.io/models/imagenet/inception-bn/Inception-BN-0126.params"),
        ("imagenet1k-resnet-152", "http://data.mxnet.io/models/imagenet/resnet/152-layers/resnet-152-symbol.json"),
    ],
)
def test_missing_files_are_told_with_their_address(tmp_path: Path, name: str, address: str) -> None:
    with pytest.raises(ModelFormatError, match="fewbit fetches nothing; put these two files into the folder") as e:
        checkpoint(ZOO[name], tmp_path)
    assert address in str(e.value)


def test_missing_images_are_told_with_their_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"there is no data/val_256_q90.rec.*or give other data with --data") as e:
        default_data()
    assert DATA_ADDRESS in str(e.value)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "val_256_q90.rec").touch()
    assert default_data() == "data/val_256_q90.rec"


def fused(folder: Path, layers: str, *, first_norm: bool = False) -> Model:
    symbol = zoo_like(folder, "net", layers, first_norm=first_norm)
    return fb.fuse(fb.load(symbol, input_shapes={"data": (None, 3, 8, 8)}))


@pytest.mark.parametrize(
    ("name", "layers", "floats"),
    [
        ("mobilenet1.0", "mobilenet0_", ("mobilenet0_pool0_fwd", "mobilenet0_flatten0_flatten0")),
        ("mobilenet0.25", "mobilenet12_", ("mobilenet12_pool0_fwd", "mobilenet12_flatten0_flatten0")),
        ("mobilenetv2_1.0", "mobilenetv20_output_", ("mobilenetv20_output_flatten0_flatten0",)),
        ("squeezenet1.1", "squeezenet0_", ("squeezenet0_flatten0_flatten0",)),
        ("resnet50_v1", "resnetv10_", ()),
        ("vgg16", "vgg0_", ()),
        ("resnet50_v2", "other_", ()),  # none there is no error
    ],
)
def test_float_layers_of_a_family(tmp_path: Path, name: str, layers: str, floats: tuple[str, ...]) -> None:
    assert float_layers(ZOO[name], fused(tmp_path, layers)) == floats


def test_a_norm_counts_only_where_it_is_left_by_itself(tmp_path: Path) -> None:
    row, model = ZOO["resnet18_v2"], fused(tmp_path, "resnetv20_", first_norm=True)
    assert "resnetv20_flatten0_flatten0" in float_layers(row, model)
    inner = fused(tmp_path / "inner", "resnetv20_stage1_")  # its batchnorm1 is part of the convolution in front
    assert float_layers(row, inner) == ("resnetv20_stage1_flatten0_flatten0",)
    assert "resnetv20_stage1_conv0_fwd" in {n.name for n in inner.nodes}


def test_the_first_convolution(tmp_path: Path) -> None:
    assert first_convolution(fused(tmp_path, "vgg0_")) == "vgg0_conv0_fwd"
    with pytest.raises(UsageError, match=r"exclude_first_conv keeps .* the network has none"):
        first_convolution(load(proto([node("Relu", "x", "y")], [info("x", [1, 2])], [info("y", [1, 2])], {})))

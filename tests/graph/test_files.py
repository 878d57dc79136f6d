import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fewbit.errors import AlreadyQuantized, FewbitError, ModelFormatError, OutputError, UnsafePath
from fewbit.graph import files
from fewbit.graph.files import from_proto, load_model, save_model, to_bytes, writing
from tests import models
from tests.models import NETWORKS, conv_relu, feeds_for, info, load, matmul, node, proto, run, weight


def saved(folder, made: onnx.ModelProto, name: str = "m.onnx") -> Path:
    path = Path(folder) / name
    path.write_bytes(made.SerializeToString())
    return path


def external(folder, **record) -> Path:
    """matmul() with its weight (32×8 floats, 1024 bytes) in `m.data`; `record` changes what the model says about it."""
    made = matmul()
    w = made.graph.initializer[0]
    data = w.raw_data
    w.ClearField("raw_data")
    w.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "m.data", "offset": 0, "length": len(data), **record}.items():
        if value is not None:
            w.external_data.add(key=key, value=str(value))
    (Path(folder) / "m.data").write_bytes(data)
    return saved(folder, made)


def nothing_left(folder: Path, *known: str) -> bool:
    return sorted(os.listdir(folder)) == sorted(known)


# -- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_a_loaded_network_computes_the_same(tmp_path, name):
    made = NETWORKS[name]()
    model = load_model(saved(tmp_path, made))
    feeds = feeds_for(model)
    want, got = run(made, feeds), run(model, feeds)
    assert list(want) == list(got)
    for key in want:
        np.testing.assert_array_equal(want[key], got[key])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it has no graph"),
        (b"this is a text, not a model\n", "is not an ONNX model, or it is truncated"),
        (b"\x08\x08", "it has no graph"),
        (bytes(np.random.default_rng(0).integers(0, 256, 4000, np.uint8)), "is not an ONNX model"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "does not end"),
        (b"\x3a\xff\xff\xff\xff\x0f", "ends behind byte"),
        (b"\x3b\x3b", "unknown kind"),
    ],
)
def test_what_is_not_a_model_is_refused(tmp_path, content, says):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFormatError, match=says):
        load_model(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(ModelFormatError, match=r"there is no file .*none\.onnx"):
        load_model(tmp_path / "none.onnx")
    with pytest.raises(ModelFormatError, match="is a folder"):
        load_model(tmp_path)


def test_a_file_that_cannot_be_read_says_why(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ModelFormatError, match=r"cannot read .*Permission denied"):
        load_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("name", ["conv_relu", "branches"])
def test_no_truncation_goes_unnoticed(tmp_path, name):
    data = NETWORKS[name]().SerializeToString()
    path = tmp_path / "m.onnx"
    for end in range(len(data)):
        path.write_bytes(data[:end])
        with pytest.raises(ModelFormatError):
            load_model(path)


def test_no_truncation_of_large_weights_goes_unnoticed(tmp_path):
    data = matmul(k=512, n=32).SerializeToString()
    path = tmp_path / "m.onnx"
    for end in range(0, len(data), len(data) // 50):
        path.write_bytes(data[:end])
        with pytest.raises(ModelFormatError):
            load_model(path)


@pytest.mark.parametrize("name", ["conv_relu", "branches", "tied"])
@pytest.mark.filterwarnings("ignore")
def test_flipped_bits_give_our_errors_or_a_model(tmp_path, name):
    rng = np.random.default_rng(1)
    data = np.frombuffer(NETWORKS[name]().SerializeToString(), np.uint8)
    path = tmp_path / "m.onnx"
    errors = 0
    for _ in range(150):
        broken = data.copy()
        at = rng.integers(len(data), size=rng.integers(1, 4))
        broken[at] ^= np.uint8(1) << rng.integers(0, 8, at.size).astype(np.uint8)
        path.write_bytes(broken.tobytes())
        try:
            load_model(path)
        except FewbitError as e:
            errors += 1
            assert len(str(e)) < 600
    assert errors > 30


def broken(change) -> onnx.ModelProto:
    made = conv_relu()
    change(made)
    return made


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.ClearField("opset_import"), "does not say which opset"),
        (lambda m: m.graph.ClearField("output"), "no graph with an output"),
        (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "holds 2 weights named 'w'"),
        (lambda m: m.graph.input.append(m.graph.input[0]), "2 inputs named 'x'"),
        (lambda m: m.graph.initializer.pop(0), "layer 'conv' .Conv. uses 'w', which nothing makes"),
        (lambda m: m.graph.node.pop(), "output 'y' is made by nothing"),
        (lambda m: m.graph.node.append(m.graph.node[0]), "cannot be read"),
        (lambda m: m.graph.node[0].input.__setitem__(0, "y"), "cycle"),
        (lambda m: m.graph.initializer[0].dims.__setitem__(0, 5), "weight 'w' does not hold what its shape says"),
        (lambda m: m.graph.initializer[0].dims.__setitem__(0, -4), "weight 'w' has shape"),
        (lambda m: setattr(m.graph.initializer[0], "data_type", 99), "cannot be read"),
        (lambda m: setattr(m.graph.initializer[0], "data_type", 0), "weight 'w'"),
    ],
)
def test_graphs_that_do_not_hang_together_are_refused(tmp_path, change, says):
    with pytest.raises(ModelFormatError, match=says):
        load_model(saved(tmp_path, broken(change)))


def test_a_large_weight_of_the_wrong_size_is_refused(tmp_path):
    made = matmul(k=512, n=32)
    made.graph.initializer[0].dims[0] = 511
    with pytest.raises(ModelFormatError, match=r"'w' has 65536 bytes, but its shape .* needs 65408"):
        load_model(saved(tmp_path, made))


def test_a_body_that_uses_what_nothing_makes_is_refused(tmp_path):
    made = models.branches()
    models.body(made.graph.node[1], "else_branch").node[0].input[0] = "nowhere"
    with pytest.raises(ModelFormatError, match="'nowhere', which nothing makes"):
        load_model(saved(tmp_path, made))


def test_weights_stay_when_the_file_is_overwritten(tmp_path):
    path = saved(tmp_path, matmul(k=512, n=32))
    model = load_model(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), weight(512, 32))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64, np.int32, np.int8, np.uint8, np.bool_])
def test_large_weights_of_every_type_survive(tmp_path, dtype):
    w = (weight(64, 128) * 10).astype(dtype)
    made = proto(
        [node("Identity", "w", "y")], [], [info("y", [64, 128], helper.np_dtype_to_tensor_dtype(w.dtype))], {"w": w}
    )
    model = load_model(saved(tmp_path, made))
    model.save(tmp_path / "again.onnx")
    found = onnx.load(tmp_path / "again.onnx").graph.initializer[0]
    np.testing.assert_array_equal(numpy_helper.to_array(found), w)
    assert numpy_helper.to_array(found).dtype == w.dtype


def test_four_bit_weights_stay_packed(tmp_path):
    packed = np.arange(8192, dtype=np.uint8)
    w = helper.make_tensor("w", TensorProto.INT4, [128, 128], packed.tobytes(), raw=True)
    made = proto(
        [node("DequantizeLinear", "w s", "y")],
        [],
        [info("y", [128, 128])],
        {"s": np.float32(1)},
        opset=21,
        ir_version=10,
    )
    made.graph.initializer.append(w)
    model = load_model(saved(tmp_path, made), allow_quantized=True)
    assert model.graph.initializers["w"].const_value.nbytes == 8192
    assert run(model, {})["y"].tolist() == run(made, {})["y"].tolist()


def test_weights_as_numbers_or_strings_in_the_message_are_read(tmp_path):
    made = proto([node("Add", "x w", "y")], [info("x", [3])], [info("y", [3])])
    made.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0]))
    made.graph.initializer.append(helper.make_tensor("s", TensorProto.STRING, [1], [b"word"]))
    model = load_model(saved(tmp_path, made))
    assert run(model, {"x": np.zeros(3, np.float32)})["y"].tolist() == [1, 2, 3]


def test_a_quantized_network_is_refused_unless_asked_for(tmp_path):
    made = proto([node("DynamicQuantizeLinear", "x", "q s z")], [info("x", [4])], [info("q", [4], TensorProto.UINT8)])
    path = saved(tmp_path, made)
    with pytest.raises(AlreadyQuantized, match=r"it holds DynamicQuantizeLinear.*allow_quantized=True"):
        load_model(path)
    assert load_model(path, allow_quantized=True).op_counts() == {"DynamicQuantizeLinear": 1}


def test_a_quantized_operator_inside_a_body_is_found_too(tmp_path):
    made = models.branches()
    models.body(made.graph.node[1], "else_branch").node[0].CopyFrom(node("MatMulInteger", "r r", "e", "negate"))
    with pytest.raises(AlreadyQuantized, match="MatMulInteger"):
        load_model(saved(tmp_path, made))


# -- external data ---------------------------------------------------------------------------------------------------


def test_external_weights_are_mapped_not_read(tmp_path):
    model = load_model(external(tmp_path))
    array = model.graph.initializers["w"].const_value.numpy()
    assert not array.flags.owndata
    base = array
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    np.testing.assert_array_equal(array, weight(32, 8))


def test_external_weights_at_odd_offsets_are_aligned_for_engines(tmp_path):
    path = external(tmp_path, offset=3)
    data = tmp_path / "m.data"
    data.write_bytes(b"odd" + data.read_bytes())
    array = load_model(path).graph.initializers["w"].const_value.numpy()
    assert array.flags.aligned
    np.testing.assert_array_equal(array, weight(32, 8))


def test_external_weights_survive_when_save_replaces_their_file(tmp_path):
    path = external(tmp_path)
    model = load_model(path)
    save_model(load(matmul(k=64, n=64)), path, max_proto=1)
    (tmp_path / "m.onnx.data").rename(tmp_path / "m.data")
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), weight(32, 8))


@pytest.mark.parametrize("location", ["../x.data", "a/../../x.data", "/etc/hostname", "..", "sub/../../x.data"])
def test_paths_that_leave_the_folder_are_refused(tmp_path, location):
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "x.data").write_bytes(bytes(1024))
    with pytest.raises(UnsafePath, match=r"'w' points to .*outside of the model's folder; put the data file beside"):
        load_model(external(inner, location=location))


def test_a_link_that_leaves_the_folder_is_refused_and_one_inside_is_not(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "secret").write_bytes(bytes(1024))
    (inner / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(UnsafePath, match="'link'"):
        load_model(external(inner, location="link"))
    (inner / "fine").symlink_to(inner / "m.data")
    assert load_model(external(inner, location="fine")).parameters == 256


def test_a_model_behind_a_link_finds_its_data_where_it_is(tmp_path):
    store, links = tmp_path / "store", tmp_path / "links"
    store.mkdir()
    links.mkdir()
    (links / "net.onnx").symlink_to(external(store))
    np.testing.assert_array_equal(load_model(links / "net.onnx").graph.initializers["w"].const_value, weight(32, 8))
    (links / "m.data").symlink_to(store / "m.data")  # a link too, as stores of models have it
    assert load_model(links / "net.onnx").parameters == 256
    (links / "m.data").unlink()
    (links / "m.data").write_bytes(bytes(1024))  # beside the link comes first
    assert not load_model(links / "net.onnx").graph.initializers["w"].const_value.numpy().any()


def test_a_link_to_a_model_opens_no_other_folder(tmp_path):
    store, links = tmp_path / "store", tmp_path / "links"
    store.mkdir()
    links.mkdir()
    (tmp_path / "secret").write_bytes(bytes(1024))
    (links / "net.onnx").symlink_to(external(store, location="../secret"))
    with pytest.raises(UnsafePath, match="outside of the model's folder"):
        load_model(links / "net.onnx")
    (links / "net2.onnx").symlink_to(external(store, location="none.data"))
    with pytest.raises(ModelFormatError, match=r"data file 'none.data' of weight 'w' is missing"):
        load_model(links / "net2.onnx")


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"location": "none.data"}, "data file 'none.data' of weight 'w' is missing"),
        ({"location": "."}, "is missing"),
        ({"location": ""}, "is missing"),
        ({"length": 1000}, "its record says 1000"),
        ({"length": -1}, "must be non-negative, got -1 for tensor 'w'|its record says -1"),
        ({"offset": 4}, "needs 1024 bytes at 4 of 'm.data', which has 1024"),
        ({"offset": -8}, "must be non-negative, got -8 for tensor 'w'|needs 1024 bytes at -8"),
        ({"offset": "first"}, "cannot be read"),
        ({"offset": 2**63}, "needs 1024 bytes"),
    ],
)
def test_wrong_records_of_external_data_are_refused(tmp_path, record, says):
    with pytest.raises(ModelFormatError, match=says):
        load_model(external(tmp_path, **record))


def test_a_short_data_file_is_refused(tmp_path):
    path = external(tmp_path, length=None)
    (tmp_path / "m.data").write_bytes(bytes(1023))
    with pytest.raises(ModelFormatError, match="which has 1023"):
        load_model(path)
    (tmp_path / "m.data").write_bytes(b"")
    with pytest.raises(ModelFormatError, match="which has 0"):
        load_model(path)


def test_an_external_weight_of_a_model_in_memory_is_looked_for_here(tmp_path, monkeypatch):
    made = onnx.load(external(tmp_path), load_external_data=False)
    monkeypatch.chdir(tmp_path)
    assert from_proto(made).parameters == 256


# -- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_saving_twice_gives_the_same_bytes_and_reads_back_equal(tmp_path, name):
    model = load_model(saved(tmp_path, NETWORKS[name]()))
    model.save(tmp_path / "a.onnx")
    model.save(tmp_path / "b.onnx")
    load_model(saved(tmp_path, NETWORKS[name]())).save(tmp_path / "c.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes() == to_bytes(model)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "c.onnx").read_bytes()
    onnx.checker.check_model(onnx.load(tmp_path / "a.onnx"), full_check=True)
    assert load_model(tmp_path / "a.onnx").digest() == model.digest()


CODE = """
import hashlib, sys
from fewbit.graph.files import load_model, to_bytes
print(hashlib.sha256(to_bytes(load_model(sys.argv[1]))).hexdigest())
"""


def test_bytes_do_not_depend_on_the_hash_seed(tmp_path):
    path = saved(tmp_path, models.residual())
    found = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        told = subprocess.run([sys.executable, "-c", CODE, path], env=env, capture_output=True, text=True, check=True)
        found.add(told.stdout.strip())
    assert len(found) == 1 and len(found.pop()) == 64


def test_large_weights_go_through_the_file_byte_for_byte(tmp_path):
    made = matmul(k=512, n=32)
    model = load_model(saved(tmp_path, made))
    assert onnx.load_from_string(to_bytes(model)).graph.initializer[0].raw_data == made.graph.initializer[0].raw_data


@pytest.mark.parametrize("name", ["conv_relu", "branches", "matmul"])
def test_models_over_the_limit_are_saved_with_their_weights_beside(tmp_path, name):
    model = load(NETWORKS[name]() if name != "matmul" else matmul(k=512, n=33))
    save_model(model, tmp_path / "big.onnx", max_proto=10)
    assert nothing_left(tmp_path, "big.onnx", "big.onnx.data") or name == "branches"
    again = load_model(tmp_path / "big.onnx")
    assert again.digest() == model.digest()
    feeds = feeds_for(model)
    for key, value in run(model, feeds).items():
        np.testing.assert_array_equal(run(again, feeds)[key], value)
    if name == "matmul":
        assert (tmp_path / "big.onnx").stat().st_size < 1000
        assert to_bytes(again) == to_bytes(model)
        save_model(again, tmp_path / "big.onnx", max_proto=10)  # onto the file that its weights are mapped from
        assert load_model(tmp_path / "big.onnx").digest() == model.digest()


def test_saving_does_not_change_the_model(tmp_path):
    model = load(conv_relu())
    before = to_bytes(model)
    save_model(model, tmp_path / "m.onnx", max_proto=10)
    save_model(model, tmp_path / "n.onnx")
    assert to_bytes(model) == before


def test_output_that_cannot_be_written_is_named(tmp_path):
    model = load(conv_relu())
    with pytest.raises(OutputError, match=r"cannot write .*none/m\.onnx: No such file or directory"):
        model.save(tmp_path / "none" / "m.onnx")
    (tmp_path / "file").write_text("text")
    with pytest.raises(OutputError, match=r"cannot write .*: Not a directory"):
        model.save(tmp_path / "file" / "m.onnx")
    with pytest.raises(OutputError, match="it is a folder"):
        model.save(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="it is not a file"):
        model.save(tmp_path / "pipe")
    assert nothing_left(tmp_path, "file", "pipe")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("ours")])
@pytest.mark.parametrize("where", ["write", "replace"])
def test_a_failure_in_the_middle_leaves_nothing(tmp_path, monkeypatch, error, where):
    def fail(*_):
        raise error

    model = load(conv_relu())
    (tmp_path / "m.onnx").write_text("old")
    if where == "write":
        monkeypatch.setattr(files, "write_whole", fail)
    else:
        monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError if isinstance(error, OSError) else type(error)) as caught:
        model.save(tmp_path / "m.onnx")
    assert nothing_left(tmp_path, "m.onnx")
    assert (tmp_path / "m.onnx").read_text() == "old"
    if isinstance(error, OSError):
        assert str(caught.value) == f"cannot write {tmp_path / 'm.onnx'}: No space left on device"


def test_no_data_file_is_left_without_its_model(tmp_path, monkeypatch):
    real, calls = os.replace, []

    def second_fails(a, b):
        calls.append(b)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(a, b)

    monkeypatch.setattr(files.os, "replace", second_fails)
    with writing(tmp_path / "m.onnx") as file, pytest.raises(OutputError):
        raise OutputError("not yet")
    with pytest.raises(OutputError, match="No space"), writing(tmp_path / "m.onnx") as file:
        file.write_text("model")
        file.with_name("m.onnx.data").write_text("data")
    assert calls == [tmp_path / "m.onnx.data", tmp_path / "m.onnx"]
    assert nothing_left(tmp_path)

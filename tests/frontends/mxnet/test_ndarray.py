from __future__ import annotations

import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fewbit.errors import ModelFormatError, OutputError, UnsupportedModel
from fewbit.frontends.mxnet import dense, npz
from fewbit.frontends.mxnet.ndarray import load_ndarrays, load_params, save_ndarrays, save_params

GOLDEN = Path(__file__).parents[2] / "golden" / "mxnet"
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
TYPES = (
    "float32",
    "float64",
    "float16",
    "uint8",
    "int32",
    "int8",
    "int64",
    "bool",
    "int16",
    "uint16",
    "uint32",
    "uint64",
)
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def shape(*dims: int) -> bytes:
    return struct.pack(f"<i{len(dims)}q", len(dims), *dims)


def array(magic: int, dims: bytes, number: int = 0, data: bytes = b"", storage: int = 0) -> bytes:
    head = struct.pack("<I", magic) + (b"" if magic == V1 else struct.pack("<i", storage))
    return head + dims + struct.pack("<iii", 1, 0, number) + data


def listed(*arrays: bytes, keys: list[bytes] | None = None, count: int | None = None) -> bytes:
    keys = [] if keys is None else keys
    names = b"".join(struct.pack("<Q", len(k)) + k for k in keys)
    count = len(arrays) if count is None else count
    return struct.pack("<QQQ", 0x112, 0, count) + b"".join(arrays) + struct.pack("<Q", len(keys)) + names


def load(tmp_path: Path, data: bytes) -> dict[str, Any]:
    (tmp_path / "x.params").write_bytes(data)
    return load_ndarrays(tmp_path / "x.params")


def assert_same(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert list(got) == list(want)
    for key, value in want.items():
        assert got[key].dtype == value.dtype and got[key].shape == value.shape, key
        np.testing.assert_array_equal(got[key], value, key)


@pytest.mark.parametrize("path", sorted((GOLDEN / "params").glob("*.params")), ids=lambda p: p.stem)
def test_mxnet_reads_the_same(path: Path) -> None:
    with np.load(path.with_suffix(".npz")) as z:
        want = {k: z[k] for k in z.files}
    got = load_ndarrays(path)
    assert set(got) == set(want)
    assert_same({k: got[k] for k in want}, want)


def test_all_golden_files_are_there() -> None:
    names = {p.stem for p in (GOLDEN / "params").glob("*.params")}
    assert names == {"dense", "unnamed", "sparse", "before_v1", "v1", "mixed", "np_shape"}


def test_bfloat16_is_widened_exactly() -> None:
    got = load_ndarrays(GOLDEN / "params" / "dense.params")["aux:bf16"]
    assert got.dtype == np.float32 and got[:3].tolist() == [1, -2.5, 3.140625]
    bits = np.array([0x0001, 0x7F7F, 0xFF80, 0x8000], "<u2")
    assert dense.widen(bits).view(np.uint32).tolist() == [0x00010000, 0x7F7F0000, 0xFF800000, 0x80000000]


def test_arrays_are_ones_own() -> None:
    for value in load_ndarrays(GOLDEN / "params" / "dense.params").values():
        assert value.flags.c_contiguous and value.flags.aligned and value.flags.writeable


def test_a_checkpoint_is_split() -> None:
    params = load_params(GOLDEN / "symbols" / "checkpoint-0001.params")
    assert params.prefixed
    assert set(params.args) == {"conv0_weight", "bn0_gamma", "bn0_beta", "fc0_weight", "fc0_bias"}
    assert set(params.auxs) == {"bn0_moving_mean", "bn0_moving_var"}
    assert params.args["conv0_weight"].shape == (4, 2, 3, 3)


def test_gluon_has_no_prefixes() -> None:
    params = load_params(GOLDEN / "symbols" / "gluon.params")
    assert not params.prefixed and not params.auxs
    assert "0.weight" in params.args and "1.running_var" in params.args
    assert load_params(GOLDEN / "symbols" / "gluon-0000.params").prefixed


def test_some_prefixes_are_refused(tmp_path: Path) -> None:
    save_ndarrays(tmp_path / "x.params", {"arg:a": X, "b": X})
    with pytest.raises(ModelFormatError, match=r"1 names start with arg: or aux:, but 1 do not, such as 'b'"):
        load_params(tmp_path / "x.params")


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        st.sampled_from(TYPES).flatmap(lambda t: hnp.arrays(t, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))),
        max_size=4,
    )
)
def test_what_is_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("round") / "x.params"
    save_ndarrays(path, arrays)
    got = load_ndarrays(path)
    assert list(got) == list(arrays)
    assert all(got[k].tobytes() == a.tobytes() and got[k].shape == a.shape for k, a in arrays.items())


def test_layout_and_order_of_the_given_arrays_do_not_matter(tmp_path: Path) -> None:
    save_params(tmp_path / "x.params", {"t": X.T, "big": X.astype(">f4")}, {"m": X[:, ::2]})
    params = load_params(tmp_path / "x.params")
    assert_same(params.args, {"t": X.T, "big": X})
    assert_same(params.auxs, {"m": X[:, ::2]})


@pytest.mark.parametrize("value", [np.array(["a"]), np.array([1j]), np.array([None])], ids=str)
def test_a_type_that_mxnet_does_not_have(tmp_path: Path, value: Any) -> None:
    with pytest.raises(UnsupportedModel, match=rf"array 'w' is {value.dtype}, for which MXNet has no number.*float32"):
        save_ndarrays(tmp_path / "x.params", {"w": value})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        save_ndarrays(tmp_path / "no" / "x.params", {"w": X})
    with pytest.raises(ModelFormatError, match=r"cannot read .*No such file"):
        load_ndarrays(tmp_path / "x.params")


def test_no_axes_is_no_array_but_in_v3_one_value(tmp_path: Path) -> None:
    one = array(V3, shape(), data=struct.pack("<f", 5))
    none = [struct.pack("<I", 0), struct.pack("<I", V1) + shape(), struct.pack("<Ii", V2, -1) + shape()]
    none += [struct.pack("<Iii", V3, 0, -1), struct.pack("<Ii", V3, 0) + shape(2, -1)]
    got = load(tmp_path, listed(*none, one))
    assert got.pop("5") == 5
    assert [a.shape for a in got.values()] == [(0,)] * 5


GOOD = array(V2, shape(2, 3), data=X.tobytes())
SPARSE = struct.pack("<Ii", V2, 1) + shape(1, 2) + shape(3, 2) + struct.pack("<iii", 1, 0, 0)
CSR = struct.pack("<Ii", V2, 2) + shape(1) + shape(2, 2) + struct.pack("<iii", 1, 0, 0)


def rows(at: int, kind: int = 6, count: int = 1) -> bytes:
    return SPARSE + struct.pack("<i", kind) + shape(count) + struct.pack("<ffq", 1, 2, at)


def csr(starts: tuple[int, ...], column: int) -> bytes:
    head = CSR + struct.pack("<i", 6) + shape(len(starts)) + struct.pack("<i", 6) + shape(1)
    return head + struct.pack(f"<f{len(starts)}qq", 7, *starts, column)


BROKEN = {
    "empty": (b"", "is not a parameter file of MXNet"),
    "not ours": (b"\x89PNG" * 9, "is not a parameter file of MXNet"),
    "reserved": (struct.pack("<QQQQ", 0x112, 7, 0, 0), "the second number of the header is 7"),
    "count": (listed(GOOD, count=1 << 60), r"a list of \d+ arrays should take \d+ bytes, but only \d+ are left"),
    "too many": (listed(count=1 << 21)[:-8] + bytes(9 << 20), "it should hold 2097152 arrays; a parameter file has at"),
    "more arrays": (listed(GOOD, count=9), "array 3 of 9: the layout should take 4 bytes, but only 0 are left"),
    "names": (listed(GOOD, GOOD, keys=[b"a"]), "1 names for 2 arrays"),
    "same name": (listed(GOOD, GOOD, keys=[b"a", b"a"]), "array 1 has the name 'a', as one before it"),
    "utf-8": (listed(GOOD, keys=[b"\xff"]), "the name of array 0 is not utf-8"),
    "long name": (listed(GOOD)[:-8] + struct.pack("<QQ", 1, 1 << 62), "the name of array 0 should take"),
    "trailing": (listed(GOOD, keys=[b"a"]) + b"xy", "2 bytes follow after the last name"),
    "dtype": (listed(array(V2, shape(1), 13, b"1234")), r"array 0 of 1: its dtype is 13; allowed are 0 \(float32\)"),
    "storage": (listed(array(V2, shape(1), storage=3)), r"its storage is 3; allowed are 0 \(dense\)"),
    "undefined": (listed(array(V2, shape(1), data=b"1234", storage=-1)), r"its storage is -1 \(undefined\)"),
    "negative": (listed(array(V2, shape(2, -3))), r"its shape is \(2, -3\)"),
    "axes": (listed(struct.pack("<Iii", V2, 0, 1 << 30) + bytes(99)), "its number of axes is 1073741824"),
    "minus axes": (listed(struct.pack("<Ii", V1, -1) + bytes(99)), "its number of axes is -1"),
    "huge": (listed(array(V2, shape(1 << 40, 100))), r"an array of shape .* should take \d+ bytes, but only"),
    "overflow": (listed(array(V2, shape(1 << 62, 1 << 62))), "its shape is"),
    "huge and none": (listed(array(V2, shape(0, 1 << 62))), "its shape is"),
    "old": (listed(struct.pack("<I", 77) + bytes(999)), "its number of axes is 77"),
    "row": (listed(rows(3)), "row numbers from 3 to 3, allowed are 0 to 2"),
    "minus row": (listed(rows(-1)), "row numbers from -1 to -1"),
    "float row": (listed(rows(1, kind=1)), "row numbers of type float64"),
    "rows": (listed(rows(1, count=2) + bytes(8)), r"\(2,\) row numbers and values of shape \(1, 2\)"),
    "column": (listed(csr((0, 1, 1), 2)), "column numbers from 2 to 2, allowed are 0 to 1"),
    "falling": (listed(csr((1, 0, 1), 0)), "row starts that do not rise from 0 to 1"),
    "starts": (listed(csr((0, 1), 0)), r"\(2,\) row starts for an array of \(2, 2\)"),
}


@pytest.mark.parametrize("data, says", BROKEN.values(), ids=BROKEN)
def test_the_message_names_file_array_and_fault(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(ModelFormatError, match=says) as e:
        load(tmp_path, data)
    assert "x.params" in str(e.value)


def test_the_pieces_of_broken_files_are_sound(tmp_path: Path) -> None:
    got = load(tmp_path, listed(GOOD, rows(1), csr((0, 1, 1), 1), keys=[b"d", b"r", b"c"]))
    want = {"d": X, "r": np.array([[0, 0], [1, 2], [0, 0]], "f"), "c": np.array([[0, 7], [0, 0]], "f")}
    assert_same(got, want)


def test_csr_written_before_its_size_was_known(tmp_path: Path) -> None:
    early = csr((0, 1, 1), 1).replace(CSR, CSR.replace(shape(1) + shape(2, 2), shape(0) + shape(2, 2)))
    assert load(tmp_path, listed(early))["0"].tolist() == [[0, 7], [0, 0]]


def test_a_sparse_array_is_not_unfolded_to_anything(tmp_path: Path) -> None:
    wide = rows(1).replace(shape(3, 2), shape(1 << 40, 2))
    with pytest.raises(UnsupportedModel, match=r"array 0 of 1 is sparse and would unfold to \d+ bytes .*tostype"):
        load(tmp_path, listed(wide))


def test_all_sparse_arrays_of_a_file_share_the_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "MOST_BYTES", 40)
    assert len(load(tmp_path, listed(rows(1)))) == 1
    with pytest.raises(UnsupportedModel, match="array 1 of 2 is sparse"):
        load(tmp_path, listed(rows(1), rows(1)))


def zipped(path: Path, packing: int = zipfile.ZIP_DEFLATED, **members: Any) -> Path:
    with zipfile.ZipFile(path, "w", packing) as z:
        for name, value in members.items():
            with z.open(name.replace("__", "/") + ".npy", "w") as f:
                if isinstance(value, bytes):
                    f.write(value)
                else:
                    np.lib.format.write_array(f, value, allow_pickle=False)
    return path


def npy(descr: str, dims: str, data: bytes = b"") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {dims}, }}".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data


def test_npz_of_mxnet_2(tmp_path: Path) -> None:
    """Its own spelling of headers: bfloat16 as a record, and a format.npy that no other program reads."""
    word = npy("'|s3{'descr': '<i8'", "()", b"csr")
    path = zipped(
        tmp_path / "x.params", w=X, f=np.asfortranarray(X), b=npy("[('bfloat16', '<u2')]", "(2,)", b"\x80\x3f\x20\xc0"),
        s=np.array(3, ">i4"), e__data=np.array([7], "f"), e__indices=np.array([1]), e__indptr=np.array([0, 1, 1]),
        e__shape=np.array([2, 2]), e__format=word, r__data=X[:1], r__indices=np.array([1]), r__shape=np.array([2, 3]),
        r__format=np.array(b"row_sparse"), z=np.zeros((0, 3), np.int8),
    )  # fmt: skip
    got = load_ndarrays(path)
    want = {"w": X, "f": X, "b": np.array([1, -2.5], "f"), "s": np.array(3, np.int32)}
    want |= {"e": np.array([[0, 7], [0, 0]], "f"), "r": np.stack([0 * X[0], X[0]]), "z": np.zeros((0, 3), np.int8)}
    assert_same(got, want)
    assert all(a.flags.c_contiguous and a.flags.writeable and a.dtype.isnative for a in got.values())


def test_npz_and_npy_of_numpy(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.params", **{"arg:w": X, "aux:m": X[0]})
    (tmp_path / "x.params.npz").rename(tmp_path / "x.params")  # the ending says nothing
    assert_same(load_params(tmp_path / "x.params").args, {"w": X})
    with (tmp_path / "y").open("wb") as f:
        np.save(f, X)
    assert_same(load_ndarrays(tmp_path / "y"), {"0": X})


BAD_MEMBERS = {
    "pickled": (np.lib.format.magic(1, 0) + npy("'|O'", "(1,)", b"x")[8:], "no array of numbers that MXNet knows"),
    "text": (npy("'<U3'", "(1,)", bytes(12)), "no array of numbers that MXNet knows"),
    "half an integer": (npy("'<i3'", "(1,)", bytes(3)), "no array of numbers that MXNet knows"),
    "float of one byte": (npy("'<f1'", "(1,)", bytes(1)), "no array of numbers that MXNet knows"),
    "short": (npy("'<f4'", "(3,)", bytes(8)), r"has 8 bytes of values, but an array of shape \(3,\)"),
    "long": (npy("'<f4'", "(1,)", bytes(8)), r"has 8 bytes of values"),
    "huge": (npy("'<f4'", "(99999999999, 99999999999)"), r"damaged: its shape is"),
    "no header": (b"\x93NUMPY\1\0", "its header is cut off"),
    "no magic": (b"hello there", "is not a .npy array: it starts with b'hello th'"),
}


@pytest.mark.parametrize("data, says", BAD_MEMBERS.values(), ids=BAD_MEMBERS)
def test_members_are_checked(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(ModelFormatError, match=says):
        load_ndarrays(zipped(tmp_path / "x.npz", w=data))


def test_members_twice_and_other_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as z, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            z.writestr("w.npy", npy("'<f4'", "(0,)"))
    with pytest.raises(ModelFormatError, match=r"two members 'w.npy'"):
        load_ndarrays(tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as z:
        z.writestr("data.pkl", b"")
    with pytest.raises(ModelFormatError, match=r"member 'data.pkl' is no array"):
        load_ndarrays(tmp_path / "y.npz")


def test_only_methods_that_mxnet_uses(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"member 'w.npy' is packed by method 14; allowed are 0 .* and 8"):
        load_ndarrays(zipped(tmp_path / "x.npz", zipfile.ZIP_LZMA, w=X))


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "UNPACK", 1 << 20)
    path = zipped(tmp_path / "x.npz", w=np.zeros(1 << 20, np.float32))
    tracemalloc.start()
    with pytest.raises(
        UnsupportedModel, match=r"would unpack to \d+; fewbit unpacks at most 1048576 bytes, or 16 times"
    ):
        load_ndarrays(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_other_sparse_formats(tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "x.npz",
        e__data=X[0],
        e__indices=X[0],
        e__indptr=X[0],
        e__shape=np.array([2, 2]),
        e__format=np.array(b"csc"),
    )
    with pytest.raises(
        ModelFormatError, match=r"'e' is a sparse array of format 'csc'; MXNet has 'row_sparse' and 'csr'"
    ):
        load_ndarrays(path)

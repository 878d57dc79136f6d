"""Arrays in memory, in .npy and in .npz: same batches, same digest, same refusals."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest

from fewbit.config import DataConfig
from fewbit.data import open_data
from fewbit.data.npy import FileTable, PackedTable, open_npy, open_npz
from fewbit.errors import BadSample, ConfigError, DataError, EmptyData, FewbitWarning, UnknownName
from tests.data.helpers import PAIR, PHOTO, VECTOR, fed, rows, tensor

X = rows(7, 3)


def as_array(root):
    return X


def as_strided(root):
    return np.asfortranarray(X)


def as_dict(root):
    return {"x": X}


def as_npy(root):
    np.save(root / "x.npy", X)
    return root / "x.npy"


def as_fortran_npy(root):
    np.save(root / "x.npy", np.asfortranarray(X))
    return str(root / "x.npy")


def as_npz(root):
    np.savez(root / "x.npz", x=X)
    return root / "x.npz"


def as_packed_npz(root):
    np.savez_compressed(root / "x.npz", x=X)
    return root / "x.npz"


def as_fortran_packed_npz(root):
    np.savez_compressed(root / "x.npz", x=np.asfortranarray(X))
    return root / "x.npz"


ORIGINS = [as_array, as_strided, as_dict, as_npy, as_fortran_npy, as_npz, as_packed_npz, as_fortran_packed_npz]


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("size", [1, 2, 7, 10])
def test_batches(origin, size, tmp_path):
    source = open_data(origin(tmp_path), VECTOR, DataConfig(batch_size=size))
    for _ in range(2):
        batches = list(source)
        assert len(batches) == len(source) == source.batches == -(-7 // size)
        assert [len(b.names) for b in batches[:-1]] == [size] * (len(batches) - 1)
        assert [b.index for b in batches] == list(range(len(batches)))
        np.testing.assert_array_equal(fed(batches), X)
        assert all(b.feeds["x"].flags.c_contiguous and b.feeds["x"].dtype == np.float32 for b in batches)
    assert source.samples == 7
    assert batches[0].names[0] == "sample 0"


@pytest.mark.parametrize("origin", ORIGINS)
def test_start_gives_the_same_batches(origin, tmp_path):
    source = open_data(origin(tmp_path), VECTOR, DataConfig(batch_size=2))
    later = list(source.iterate(2))
    assert [b.index for b in later] == [2, 3]
    np.testing.assert_array_equal(fed(later), X[4:])
    assert list(source.iterate(9)) == []


@pytest.mark.parametrize("origin", ORIGINS)
def test_shuffle_is_one_permutation_by_the_seed(origin, tmp_path):
    data = origin(tmp_path)
    one = fed(open_data(data, VECTOR, DataConfig(shuffle=True, seed=3, batch_size=2)))
    source = open_data(data, VECTOR, DataConfig(shuffle=True, seed=3, batch_size=2))
    np.testing.assert_array_equal(fed(source), one)
    np.testing.assert_array_equal(fed(source.iterate(2)), one[4:])
    assert not np.array_equal(one, X)
    np.testing.assert_array_equal(np.sort(one, 0), X)
    other = fed(open_data(data, VECTOR, DataConfig(shuffle=True, seed=4)))
    assert not np.array_equal(one, other)


def test_digest_is_of_the_contents(tmp_path):
    digests = {open_data(o(tmp_path), VECTOR).digest() for o in ORIGINS}
    assert len(digests) == 1
    assert len(digests.pop()) == 64
    changed = X.copy()
    changed[6, 2] += 1
    assert open_data(changed, VECTOR).digest() != open_data(X, VECTOR).digest()


def test_digest_sees_labels_and_dtype():
    plain = open_data({"x": X}, VECTOR).digest()
    assert open_data({"x": X, "labels": np.arange(7)}, VECTOR).digest() != plain
    assert open_data({"x": X.astype(np.float64)}, VECTOR).digest() != plain


def test_tables_do_not_load_files(tmp_path):
    np.savez(tmp_path / "a.npz", x=X)
    np.savez_compressed(tmp_path / "b.npz", x=X)
    np.save(tmp_path / "c.npy", X)
    assert isinstance(open_npz(tmp_path / "a.npz", in_order=True)["x"], FileTable)
    assert isinstance(open_npz(tmp_path / "b.npz", in_order=True)["x"], PackedTable)
    assert isinstance(open_npy(tmp_path / "c.npy"), FileTable)


def test_packed_rows_in_any_order(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", x=X)
    table = open_npz(tmp_path / "x.npz", in_order=True)["x"]
    np.testing.assert_array_equal(table.take(np.array([6, 0, 3])), X[[6, 0, 3]])
    np.testing.assert_array_equal(table.take(slice(1, 3)), X[1:3])


@pytest.mark.parametrize("key", ["labels", "label"])
def test_labels(key, tmp_path):
    np.savez(tmp_path / "x.npz", **{"x": X, key: np.arange(7, dtype=np.uint8)[:, None]})
    batches = list(open_data(tmp_path / "x.npz", VECTOR, DataConfig(batch_size=4)))
    assert [b.labels.tolist() for b in batches] == [[0, 1, 2, 3], [4, 5, 6]]
    assert set(batches[0].feeds) == {"x"}


def test_labels_of_another_count():
    with pytest.raises(DataError, match=r"the dict: 7 samples and labels of shape \(6\); hand one a sample"):
        open_data({"x": X, "labels": np.arange(6)}, VECTOR)


def test_labels_that_are_no_classes():
    with pytest.warns(FewbitWarning, match=r"labels of dtype float64, shape \(7, 2\) are no class numbers; left out"):
        source = open_data({"x": X, "labels": np.zeros((7, 2))}, VECTOR)
    assert next(iter(source)).labels is None


def test_labels_may_be_the_objects_of_a_detector():
    objects = np.arange(7 * 2 * 5).reshape(7, 2, 5) / 70
    found = [b.labels for b in open_data({"x": X, "labels": objects}, VECTOR, DataConfig(batch_size=3))]
    assert found[0].shape == (3, 2, 5) and found[0].dtype == np.float32
    np.testing.assert_allclose(np.concatenate(found), objects, rtol=1e-6)


def test_an_input_may_be_called_labels():
    source = open_data({"x": X, "labels": np.arange(7)}, [*VECTOR, tensor("labels", "N", dtype=np.int64)])
    assert set(next(iter(source)).feeds) == {"x", "labels"}


def test_one_input_takes_another_key_and_says_so(tmp_path):
    with pytest.warns(FewbitWarning, match="the dict: 'whatever' is fed to 'x', the only input of the model"):
        np.testing.assert_array_equal(fed(open_data({"whatever": X}, VECTOR)), X)
    np.savez(tmp_path / "a.npz", X)  # as arr_0, which says nothing
    np.testing.assert_array_equal(fed(open_data(tmp_path / "a.npz", VECTOR)), X)


@pytest.mark.parametrize("key", ["imgae", "images", "Image"])
def test_the_one_input_mistyped_is_an_error(key, tmp_path):
    np.savez(tmp_path / "x.npz", **{key: X})
    for data in ({key: X}, {key: X, "labels": np.arange(7)}, tmp_path / "x.npz"):
        with pytest.raises(UnknownName, match=rf"unknown input name '{key}'.*did you mean 'image'\?.*It is a key of"):
            open_data(data, [tensor("image", "N", 3)])


SCALED = [tensor("x", "N", 3), tensor("scale")]


@pytest.mark.parametrize("save", [None, np.savez, np.savez_compressed])
def test_a_scalar_input_is_given_once(save, tmp_path):
    data = {"x": X, "scale": np.float32(0.5)}
    if save:
        save(tmp_path / "x.npz", **data)
    source = open_data(tmp_path / "x.npz" if save else data, SCALED)
    batches = list(source)
    assert len(batches) == len(source) == source.samples == 7
    assert all(b.feeds["scale"] == 0.5 and b.feeds["scale"].shape == () for b in batches)
    np.testing.assert_array_equal(fed(batches), X)
    assert source.digest() == open_data(data, SCALED).digest()
    assert source.digest() != open_data({"x": X, "scale": 0.25}, SCALED).digest()


def test_a_scalar_input_is_given_for_each_sample():
    batches = list(open_data({"x": X, "scale": np.arange(7)}, SCALED))
    assert [float(b.feeds["scale"]) for b in batches] == list(range(7))
    with pytest.raises(DataError, match="different numbers of samples: 'x' has 7, 'scale' has 6"):
        open_data({"x": X, "scale": np.arange(6)}, SCALED)
    with pytest.raises(ConfigError, match=r"'scale'.* has no batch axis, so 2 samples cannot share a batch"):
        open_data({"x": X, "scale": 1}, SCALED, DataConfig(batch_size=2))


def test_a_network_of_scalars(tmp_path):
    np.save(tmp_path / "s.npy", np.float32(0.5))
    for data in (np.float32(0.5), {"scale": 0.5}, tmp_path / "s.npy"):
        (batch,) = open_data(data, [tensor("scale")])
        assert batch.feeds["scale"] == np.float32(0.5) and batch.feeds["scale"].shape == ()


def test_a_state_is_given_once(tmp_path):
    state = rows(2, 1, 4)
    inputs = [tensor("x", "N", 3), tensor("h", 2, "N", 4)]
    np.savez_compressed(tmp_path / "x.npz", x=X, h=state)
    for data in ({"x": X, "h": state}, tmp_path / "x.npz"):
        batches = list(open_data(data, inputs))
        assert len(batches) == 7 and all(np.array_equal(b.feeds["h"], state) for b in batches)
    with pytest.raises(DataError, match="axis 0 is 3, not 2"):
        list(open_data({"x": X, "h": rows(3, 1, 4)}, inputs))


def test_unknown_name():
    with pytest.raises(UnknownName, match=r"unknown input name 'bb'; did you mean 'b'\?.*a key of the dict"):
        open_data({"a": rows(2, 2), "bb": rows(2, 1)}, PAIR)


def test_missing_input(tmp_path):
    np.savez(tmp_path / "x.npz", a=rows(2, 2))
    with pytest.raises(DataError, match=r"x.npz lacks input 'b'; it has 'a'"):
        open_data(tmp_path / "x.npz", PAIR)


def test_one_array_for_two_inputs(tmp_path):
    with pytest.raises(DataError, match="the ndarray feeds one input, and the model has 2: a, b; hand a mapping"):
        open_data(rows(2, 2), PAIR)
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(DataError, match=r"x.npy feeds one input, and the model has 2"):
        open_data(tmp_path / "x.npy", PAIR)


def test_different_counts():
    with pytest.raises(DataError, match="different numbers of samples: 'a' has 2, 'b' has 3"):
        open_data({"a": rows(2, 2), "b": rows(3, 1)}, PAIR)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (rows(5), r"the ndarray has shape \(5\): 1 axes, and input 'x' .* takes 4, \(N, 3, 4, 6\)"),
        (rows(3, 4, 6), r"if it is one sample, add the first axis: x\[None\]"),
        (rows(5, 4, 6, 3), r"axis 1 is 4, not 3; the data looks like NHWC: use x.transpose\(0, 3, 1, 2\)"),
        (rows(5, 1, 4, 6), r"has shape \(5, 1, 4, 6\), and input 'x' .* axis 1 is 1, not 3$"),
        (np.array([["a"]]), r"the ndarray has dtype <U1, and input 'x' .* takes numbers"),
        (np.array([[object()]]), "has dtype object"),
    ],
)
def test_misfits(x, text):
    with pytest.raises(DataError, match=text):
        open_data(x, PHOTO)


@pytest.mark.parametrize("x", [np.empty((0, 3), np.float32), {"x": np.empty((0, 3))}])
def test_empty(x):
    with pytest.raises(EmptyData, match=r"holds no sample: its shape is \(0, 3\)"):
        open_data(x, VECTOR)


def test_empty_file(tmp_path):
    np.save(tmp_path / "x.npy", np.empty((0, 3)))
    with pytest.raises(EmptyData, match=r"x.npy holds no sample"):
        open_data(tmp_path / "x.npy", VECTOR)


def test_nan_is_named():
    x = X.copy()
    x[5, 1] = np.nan
    with pytest.raises(
        BadSample, match=r"sample 5 has a value that is not finite as float32: nan at \(1\) of input 'x'"
    ):
        list(open_data(x, VECTOR, DataConfig(batch_size=4)))


def test_skip_bad_fills_batches_from_the_next():
    x = X.copy()
    x[[1, 5]] = np.nan
    source = open_data(x, VECTOR, DataConfig(batch_size=2, skip_bad=True))
    with pytest.warns(FewbitWarning, match=r"left out 2 of 7 samples: sample 1 has 3 values .*; sample 5 has") as seen:
        batches = list(source)
    assert len(seen) == 1
    assert [b.names for b in batches] == [["sample 0", "sample 2"], ["sample 3", "sample 4"], ["sample 6"]]
    assert [b.names for b in source.iterate(1)] == [b.names for b in batches[1:]]  # and no second warning
    assert (source.samples, source.batches) == (5, 3)
    fresh = open_data(x, VECTOR, DataConfig(batch_size=2, skip_bad=True))
    with pytest.warns(FewbitWarning):
        assert [b.names for b in fresh.iterate(1)] == [b.names for b in batches[1:]]


def test_all_bad():
    source = open_data(np.full((2, 3), np.inf), VECTOR, DataConfig(skip_bad=True))
    with (
        pytest.warns(FewbitWarning, match="left out 2 of 2"),
        pytest.raises(EmptyData, match="no sample of 2 is usable; the first: sample 0 has 3 values"),
    ):
        list(source)
    with pytest.raises(EmptyData, match="no sample of 2 is usable"):
        list(source)


def test_fixed_batch():
    source = open_data(X, [tensor("x", 3, 3)], DataConfig(batch_size=2))
    with pytest.warns(FewbitWarning, match="batches of exactly 3; left out 1 sample at the end, too few"):
        assert [len(b.names) for b in source] == [3, 3]
    assert len(source) == len(list(source)) == 2
    with pytest.raises(DataError, match="batches of exactly 8, and there are only 7 samples; hand at least 8"):
        list(open_data(X, [tensor("x", 8, 3)]))


def test_whole_inputs_come_sample_by_sample():
    inputs = [tensor("x", None, 3), tensor("state", 2, None, 4), tensor("rate", dtype=np.int64)]
    data = {"x": X, "state": rows(7, 2, 1, 4), "rate": np.full(7, 16000)}
    batches = list(open_data(data, inputs))
    assert len(batches) == 7
    assert {k: v.shape for k, v in batches[3].feeds.items()} == {"x": (1, 3), "state": (2, 1, 4), "rate": ()}
    np.testing.assert_array_equal(batches[3].feeds["state"], data["state"][3])


@pytest.mark.parametrize(
    "setting", [{"normalize_mean": 127}, {"resize_width": 4, "resize_height": 4}, {"input_layout": "NHWC"}]
)
def test_image_settings_are_refused(setting):
    with pytest.raises(
        ConfigError, match=r"is for images, and the ndarray is fed as it is; leave it out, or hand a folder"
    ):
        open_data(X, VECTOR, DataConfig(**setting))


def test_pickles_are_never_loaded(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(DataError, match=r"x.npy holds pickled Python objects, which could run code"):
        open_data(tmp_path / "x.npy", VECTOR)
    np.savez(tmp_path / "x.npz", x=np.array([[{}]]))
    with pytest.raises(DataError, match=r"x.npz: member 'x.npy' holds pickled Python objects"):
        open_data(tmp_path / "x.npz", VECTOR)


def test_damaged_files(tmp_path):
    path = as_npy(tmp_path)
    raw = path.read_bytes()
    path.write_bytes(raw[:-5])
    with pytest.raises(DataError, match=r"x.npy is cut off: it should hold an array of shape \(7, 3\)"):
        open_data(path, VECTOR)
    path.write_bytes(b"not an array")
    with pytest.raises(DataError, match=r"x.npy is not a .npy array"):
        open_data(path, VECTOR)
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(DataError, match=r"bad.npz is not a readable .npz file"):
        open_data(bad, VECTOR)
    with zipfile.ZipFile(bad, "w") as z:
        z.writestr("notes.txt", "hello")
    with pytest.raises(DataError, match=r"member 'notes.txt' is no array"):
        open_data(bad, VECTOR)


@pytest.mark.parametrize("fortran", [False, True])
def test_damaged_compression(fortran, tmp_path):
    x = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.asfortranarray(x) if fortran else x)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 40] = b"\xff" * 40
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"x.npz"):
        list(open_data(path, VECTOR))


def test_npz_with_an_empty_and_a_short_member(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        held = io.BytesIO()
        np.save(held, X)
        z.writestr("x.npy", held.getvalue()[:-12])
    with pytest.raises(DataError, match=r"member 'x.npy' is cut off: it should hold an array of shape \(7, 3\)"):
        list(open_data(path, VECTOR))
    raw = bytearray(path.read_bytes())  # a directory that is wrong about the size
    struct.pack_into("<I", raw, raw.index(b"PK\x01\x02") + 24, len(held.getvalue()))
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"member 'x.npy' ends at sample 6 of 7"):
        list(open_data(path, VECTOR))


@pytest.mark.parametrize("shape", [(-5, 3), (10**12, 3), (2**62, 3), (0, 2**62), (10**30, 3)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_header_that_promises_too_much_allocates_nothing(shape, shuffle, tmp_path):
    held = io.BytesIO()
    np.lib.format.write_array_header_1_0(held, {"descr": "<f4", "fortran_order": False, "shape": shape})
    data = held.getvalue() + bytes(60)
    (tmp_path / "x.npy").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("x.npy", data)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(DataError, match=r"is damaged: its shape is \(|is cut off: it should hold"):
            open_data(tmp_path / name, VECTOR, DataConfig(shuffle=shuffle))


def test_header_of_version_2_is_read(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (7, 3), }".ljust(51) + b"\n"
    path = tmp_path / "x.npy"
    path.write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header + X.tobytes())
    np.testing.assert_array_equal(fed(open_data(path, VECTOR)), X)

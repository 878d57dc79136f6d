"""A stored weight as bytes and back: every format, and entries that contradict themselves."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.core import weight_block
from fewbit.core.bitpack import packed_size
from fewbit.core.params import QuantParams
from fewbit.core.spec import QuantSpec
from fewbit.core.stored import StoredWeight
from fewbit.core.weight_block import Entry, from_block, to_block
from fewbit.errors import ConfigError, ModelFormatError


def make(
    shape: tuple[int, ...], spec: QuantSpec, *, seed: int = 0, spread: float = 0.2, fix: bool = False
) -> StoredWeight:
    """Random integers and parameters; `fix` adds gain and offset."""
    rng = np.random.default_rng(seed)
    like = Entry(shape, spec, "packed", ("scale",)).scale_shape
    middle, wide = (spec.qmin + spec.qmax + 1) / 2, (spec.qmax - spec.qmin) * spread
    q = np.clip(np.rint(rng.normal(middle, wide, shape)), spec.qmin, spec.qmax).astype(spec.storage)
    if spec.bits == 1 and spec.signed:
        q = np.where(q < 0, -1, 1).astype(np.int8)
    scale = rng.uniform(0.01, 1, like).astype(np.float32)
    zero = np.zeros(like, np.int32) if spec.symmetric else rng.integers(spec.qmin, spec.qmax + 1, like)
    gain, offset = (rng.normal(1, 0.1, like).astype(np.float32) if fix else None for _ in range(2))
    return StoredWeight(q, QuantParams(spec, scale, zero), gain, offset)


def same(a: StoredWeight, b: StoredWeight) -> None:
    assert a.params == b.params and a.q.dtype == b.q.dtype == np.dtype(a.params.spec.storage)
    np.testing.assert_array_equal(a.q, b.q)
    for x, y in ((a.gain, b.gain), (a.offset, b.offset)):
        assert (x is None) == (y is None)
        np.testing.assert_array_equal(x if x is not None else 0, y if y is not None else 0)
    assert a.real().tobytes() == b.real().tobytes()


def again(entry: Entry) -> Entry:
    """Through JSON."""
    return Entry.from_json(json.loads(json.dumps(entry.to_json())))


@st.composite
def weights(draw: st.DrawFn) -> StoredWeight:
    shape = tuple(draw(st.lists(st.integers(0, 9), min_size=1, max_size=3)))
    kind = draw(st.sampled_from(["tensor", "channel", "group"]))
    axis = None if kind == "tensor" else draw(st.integers(-len(shape), len(shape) - 1))
    group = draw(st.sampled_from([1, 4, 32])) if kind == "group" else None
    signed = draw(st.booleans())
    symmetric = signed and draw(st.booleans())
    spec = QuantSpec(
        draw(st.integers(1, 16)), signed, symmetric, kind, axis, group, narrow=signed and draw(st.booleans())
    )
    if spec.qmax <= spec.qmin or (spec.bits == 1 and spec.narrow):
        spec = QuantSpec(8, signed, symmetric, kind, axis, group)
    return make(shape, spec, seed=draw(st.integers(0, 99)), fix=draw(st.booleans()))


@settings(deadline=None, max_examples=150)
@given(weights())
def test_every_format_comes_back(weight: StoredWeight) -> None:
    entry, data = to_block(weight)
    assert again(entry) == entry
    same(weight, from_block(again(entry), data))
    with pytest.raises(ModelFormatError):
        from_block(entry, data + b"\0")


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", range(1, 17))
def test_the_smaller_form_is_taken(bits: int, signed: bool) -> None:
    spec, count = QuantSpec(bits, signed, symmetric=True), 30_000
    flat = make((count,), spec, spread=40)  # nearly all at the limits: one bit of entropy
    entry, data = to_block(flat)
    assert entry.form == ("fse" if bits > 1 else "packed")
    assert len(data) <= 4 + packed_size(bits, count)
    same(flat, from_block(entry, data))
    even = StoredWeight(np.floor(np.linspace(spec.qmin, spec.qmax + 0.999, count)).astype(spec.storage), flat.params)
    if bits > 1:
        entry, data = to_block(even)
        assert (entry.form, len(data)) == ("packed", 4 + packed_size(bits, count))
        same(even, from_block(entry, data))


def test_all_integers_of_16_bits_are_packed() -> None:
    q = np.concatenate([np.arange(-32768, 32768), np.zeros(300_000)]).astype(np.int16)
    weight = StoredWeight(q, QuantParams(QuantSpec(16, True), np.float32(1), np.int32(0)))
    entry, data = to_block(weight)
    assert entry.form == "packed"
    same(weight, from_block(entry, data))


def test_zero_points_of_zero_are_left_out() -> None:
    entry, data = to_block(make((4, 6), QuantSpec(4, True, True, "channel", 0), fix=True))
    assert entry.parts == ("scale", "gain", "offset") and len(data) == 3 * 16 + 12
    entry, data = to_block(make((4, 6), QuantSpec(4, False, False, "channel", 0)))
    assert entry.parts == ("scale", "zero") and len(data) == 16 + 4 + 12


def test_so_few_bytes_do_not_stand_for_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_block, "FREE", 1000)
    weight = make((300_000,), QuantSpec(4, True, True), spread=0)
    entry, data = to_block(weight)
    assert entry.form == "packed"
    same(weight, from_block(entry, data))
    huge = Entry((2**40,), weight.params.spec, "fse", ("scale",))
    with pytest.raises(ModelFormatError, match=r"1,099,511,627,776 integers in 33 bytes; so many do not fit in there"):
        from_block(huge, weight.params.scale.tobytes() + bytes(33))


GOOD = to_block(make((4, 6), QuantSpec(4, False, False, "group", 1, 4), fix=True))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"shape": "4"}, "shape is '4'; it must be a list of whole numbers"),
        ({"shape": [4, True]}, "it must be a list of whole numbers"),
        ({"shape": [4, -6]}, r"shape is \[4, -6\]; no weight has it"),
        ({"shape": [0, 2**62]}, "no weight has it"),
        ({"shape": [1] * 33}, "no weight has it"),
        ({"shape": [4]}, r"axis 1 is not one of the shape \[4\]"),
        ({"form": 3}, "form is 3, parts are .* they must be words"),
        ({"form": "huffman"}, "form is 'huffman'; allowed: fse, packed"),
        ({"parts": ["zero"]}, "scale must be there, then any of zero, gain, offset"),
        ({"parts": ["scale", "gain", "zero"]}, "scale must be there"),
        ({"parts": ["scale", "scale"]}, "scale must be there"),
        ({"parts": [[]]}, "they must be words"),
        ({"spec": None}, "the format is None, which has a field of the wrong type"),
        ({"spec": {"bits": True}}, "a field of the wrong type"),
        ({"spec": {"bits": 17, "signed": True}}, "bits is 17; it must be a whole number from 1 to 16"),
        ({"spec": {"bits": 4}}, "it is open whether the format is signed"),
        ({"spec": {"bits": 4, "sign": True}}, "unknown format field 'sign'; did you mean 'signed'"),
        ({"spec": {"bits": 4, "signed": True, "granularity": "row"}}, "unknown granularity 'row'"),
        ({"spec": GOOD[0].spec.to_json() | {"group_size": 10**18}}, "groups of 10{18} are longer than an axis of 6"),
    ],
)
def test_an_entry_that_contradicts_itself_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelFormatError, match=says):
        Entry.from_json(GOOD[0].to_json() | fields)


def test_a_field_left_out_is_refused() -> None:
    for key in GOOD[0].to_json():
        with pytest.raises(ModelFormatError):
            Entry.from_json({k: v for k, v in GOOD[0].to_json().items() if k != key})


def put(at: int, number: float | int) -> bytes:
    data = bytearray(GOOD[1])
    data[at : at + 4] = (np.float32 if isinstance(number, float) else np.uint32)(number).tobytes()
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (GOOD[1][:20], r"it has 20 bytes, but the scale of \(4, 6\) ends behind them"),
        (GOOD[1][:50], "but the gain of"),
        (GOOD[1][:-1], "24 integers of 4 bits take 12 bytes; here are 11"),
        (put(0, float("inf")), "a scale must be finite and greater than 0"),
        (put(0, -1.0), "a scale must be finite and greater than 0"),
        (put(32, 255), "a zero point lies outside of 0 … 15"),
        (put(40, float("nan")), "its gain is not finite"),
    ],
)
def test_data_that_is_not_what_the_entry_says_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(ModelFormatError, match=says):
        from_block(GOOD[0], data)


def test_integers_outside_of_the_format_are_refused() -> None:
    weight = make((100,), QuantSpec(8, True, True))
    entry, data = to_block(StoredWeight(np.full(100, -9, np.int8), weight.params))
    assert entry.form == "fse"
    narrow = Entry(entry.shape, QuantSpec(4, True), "fse", entry.parts)
    with pytest.raises(ModelFormatError, match="integers from -9 to -9 are not of the format, -8 … 7"):
        from_block(narrow, data)
    with pytest.raises(ModelFormatError, match="its values from -9 to -9 are beyond uint8"):
        from_block(Entry(entry.shape, QuantSpec(8, False), "fse", ("scale",)), data)


def test_what_the_writer_is_given_wrong_is_refused() -> None:
    weight = make((4, 6), QuantSpec(4, True, True, "channel", 0))
    with pytest.raises(ConfigError, match="integers from 9 to 9 are outside of -8 … 7"):
        to_block(StoredWeight(np.full((4, 6), 9, np.int8), weight.params))
    with pytest.raises(ConfigError, match=r"scale has the shape \(4,\); a weight of \(6, 4\) needs \(6,\)"):
        to_block(StoredWeight(weight.q.T, weight.params))
    with pytest.raises(ConfigError, match=r"gain has the shape \(\)"):
        to_block(StoredWeight(weight.q, weight.params, np.array(1, np.float32)))

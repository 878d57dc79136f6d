"""Packed integers against a slow packer, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.core import bitpack
from fewbit.core.bitpack import pack_bits, packed_size, unpack_bits
from fewbit.errors import ConfigError, ModelFormatError


def slow_pack(q: list[int], bits: int) -> bytes:
    queue: list[int] = []
    for value in q:
        u = value + 2 ** (bits - 1)
        for _ in range(bits):
            queue.append(u % 2)
            u //= 2
    word = 8 if bits <= 8 else 16
    out = b""
    while queue:
        taken, queue = queue[:word], queue[word:]
        out += sum(bit << i for i, bit in enumerate(taken)).to_bytes(word // 8, "little")
    return out


@st.composite
def integers(draw: st.DrawFn) -> tuple[list[int], int]:
    bits = draw(st.integers(1, 16))
    half = 2 ** (bits - 1)
    return draw(st.lists(st.integers(-half, half - 1), max_size=70)), bits


@settings(deadline=None, max_examples=200)
@given(integers())
def test_it_packs_as_the_slow_one_and_back(drawn: tuple[list[int], int]) -> None:
    q, bits = drawn
    data = pack_bits(np.array(q, np.int32), bits)
    assert data == slow_pack(q, bits) and len(data) == packed_size(bits, len(q))
    back = unpack_bits(data, bits, len(q))
    assert back.tolist() == q and back.dtype == (np.int8 if bits <= 8 else np.int16)


@pytest.mark.parametrize("bits", [1, 3, 8, 9, 13, 16])
def test_more_than_one_slab(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    monkeypatch.setattr(bitpack, "SLAB", 2)
    for count in (15, 16, 17, 31, 32, 50):
        q = np.random.default_rng(count).integers(-(1 << (bits - 1)), 1 << (bits - 1), count)
        assert pack_bits(q, bits) == slow_pack(q.tolist(), bits)
        np.testing.assert_array_equal(unpack_bits(pack_bits(q, bits), bits, count), q)


def test_by_hand() -> None:
    assert pack_bits(np.array([[-4, 3], [0, -1]]), 3).hex() == "3807"
    assert pack_bits(np.array([-256, 255]), 9).hex() == "00fe0300"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="integers from 0 to 4 do not fit in 3 bits"):
        pack_bits(np.array([0, 4]), 3)
    with pytest.raises(ConfigError, match="integers from -5 to 0 do not fit in 3 bits"):
        pack_bits(np.array([0, -5]), 3)
    for bits in (0, 17):
        with pytest.raises(ConfigError, match=f"bits is {bits}; integers of 1 to 16 bits can be packed"):
            pack_bits(np.array([0]), bits)


@pytest.mark.parametrize(("data", "bits", "count"), [(b"", 4, 1), (b"abc", 4, 4), (b"abc", 12, 2), (b"", 4, -1)])
def test_data_of_another_size_is_refused(data: bytes, bits: int, count: int) -> None:
    with pytest.raises(ModelFormatError, match=rf"{count} integers of {bits} bits take .* bytes; here are {len(data)}"):
        unpack_bits(data, bits, count)

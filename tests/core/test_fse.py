"""The entropy coder against a slow one written from the format's description, and against damaged buffers."""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fewbit.core import fse, fse_kernels
from fewbit.core.fse import decode, decode_real, encode, entropy
from fewbit.core.fse_tables import normalize, table_log
from fewbit.errors import ConfigError, ModelFormatError

KNOWN = [3, -1, 3, 3, 0, 3, -1, 3, 700, 3, 3, 0, 3, 3, 3, -1]
HEX = "04000600010000000c000000080000002800000004000000ffffffff0000000003000000bc02000000000000645792d51e"
MARKED = HEX + "00000003000000080005000000000010001c00000000001800190000000000"


# -- the slow one ------------------------------------------------------------------------------------------------------


def slow_spread(f: list[int], log: int) -> list[int]:
    size = 2**log
    table, at = [-1] * size, 0
    for symbol, times in enumerate(f):
        for _ in range(times):
            assert table[at] == -1
            table[at] = symbol
            at = (at + size // 2 + size // 8 + 3) % size
    return table


def slow_encode(q: list[int]) -> bytes:
    """The buffer with the prescribed size of table, bits as text."""
    values = sorted(set(q))
    log = min(16, len(bin(len(values))) - 3 + 4)
    size = 2**log
    f = [max(1, int(0.5 + q.count(v) * size / len(q))) for v in values]
    while sum(f) > size:
        f[f.index(max(f))] -= 1
    f[f.index(max(f))] += size - sum(f)
    table = slow_spread(f, log)
    code = [[size + i for i in range(size) if table[i] == s] for s in range(len(values))]

    def step(state: int, s: int) -> tuple[int, str]:
        bits = 0
        while state >> bits >= 2 * f[s]:
            bits += 1
        return code[s][(state >> bits) - f[s]], format(state, "b")[-bits:] if bits else ""

    symbols = [values.index(v) for v in q]
    state, _ = step(size, symbols[0])
    stream = ""
    for s in symbols:
        state, bits = step(state, s)
        stream += bits
    stream += format(state - size, f"0{log}b")
    chunks = [stream[i : i + 64] for i in range(0, len(stream), 64)]
    head = struct.pack(f"<HHI{len(f)}I", len(f), log, len(chunks), *f)
    middle = struct.pack(f"<{len(f)}i", *values)
    body = head + bytes(-len(head) % 8) + middle + bytes(-len(middle) % 8)
    return body + b"".join(struct.pack("<Q", int(c.ljust(64, "0"), 2)) for c in chunks) + bytes([len(chunks[-1])])


def slow_decode(data: bytes, count: int) -> list[int]:
    n, log, words = struct.unpack_from("<HHI", data)
    f = list(struct.unpack_from(f"<{n}I", data, 8))
    at = (8 + 4 * n + 7) // 8 * 8
    values = struct.unpack_from(f"<{n}i", data, at)
    at = (at + 4 * n + 7) // 8 * 8
    chunks = struct.unpack_from(f"<{words}Q", data, at)
    stream = "".join(format(c, "064b") for c in chunks)
    stream = stream[: 64 * (words - 1) + data[at + 8 * words]]
    table = slow_spread(f, log)
    size, x, moves = 2**log, list(f), []
    for s in table:
        bits = log - (x[s].bit_length() - 1)
        moves.append(((x[s] << bits) - size, bits))
        x[s] += 1

    def take(bits: int) -> int:
        nonlocal stream
        taken = stream[len(stream) - bits :]
        stream = stream[: len(stream) - bits]
        return int(taken or "0", 2)

    out, state = [], take(log)
    for _ in range(count):
        out.append(values[table[state]])
        base, bits = moves[state]
        state = base + take(bits)
    assert not stream
    return out[::-1]


small = st.lists(
    st.sampled_from([-40_000, -3, -1, 0, 1, 2, 3, 9, 500]) | st.integers(-20, 20), min_size=1, max_size=300
)


@settings(deadline=None, max_examples=60)
@given(small)
def test_a_slow_coder_writes_the_same_bytes_and_reads_ours(q: list[int]) -> None:
    ours = encode(np.array(q), table_log(len(set(q))))
    assert ours == slow_encode(q)
    assert slow_decode(encode(np.array(q)), len(q)) == q
    np.testing.assert_array_equal(decode(slow_encode(q), len(q)), q)


def test_the_bytes_stay_what_they_are() -> None:
    assert encode(np.array(KNOWN)).hex() == HEX
    assert encode(np.array(KNOWN), segments=3).hex() == MARKED
    assert decode(bytes.fromhex(HEX), len(KNOWN)).tolist() == KNOWN
    assert decode(bytes.fromhex(MARKED), len(KNOWN)).tolist() == KNOWN
    assert slow_decode(bytes.fromhex(HEX), len(KNOWN)) == KNOWN


# -- there and back ----------------------------------------------------------------------------------------------------

arrays = st.one_of(
    hnp.arrays(np.int8, st.integers(0, 200)),
    hnp.arrays(np.uint8, (7, 9), elements=st.integers(250, 255)),
    hnp.arrays(np.int16, st.integers(0, 2000)),
    hnp.arrays(np.int64, st.integers(0, 60), elements=st.integers(-(2**31), 2**31 - 1)),
)


@settings(deadline=None, max_examples=80)
@given(arrays, st.integers(1, 9), st.sampled_from([None, 12, 16]))
def test_integers_come_back(q: np.ndarray, segments: int, log: int | None) -> None:
    data = encode(q, log, segments)
    for threads in (1, None):
        back = decode(data, q.size, np.int64 if q.dtype.itemsize == 8 else q.dtype, threads)
        np.testing.assert_array_equal(back, q.reshape(-1))


@pytest.mark.parametrize(
    "q",
    [[], [7], [7] * 1000, [5, -5], [1] * 999 + [0], [-(2**31), 2**31 - 1], [0, 2**20 - 1, 2**20], list(range(65_535))],
    ids=lambda q: f"{len(q)} of {len(set(q))}",
)
@pytest.mark.parametrize("segments", [1, 2, 5])
def test_few_and_many_values_come_back(q: list[int], segments: int) -> None:
    assert decode(encode(np.array(q, np.int64), segments=segments), len(q)).tolist() == q


def test_one_value_takes_no_bits() -> None:
    assert len(encode(np.full(10**6, -4, np.int8))) == len(encode(np.array([-4]))) == 33
    assert len(encode(np.empty(0, np.int8))) == 17


def test_marks_need_not_end_with_a_thread_each() -> None:
    q = np.random.default_rng(0).integers(-3, 9, 5000)
    assert len(encode(q, segments=64)) == len(encode(q)) + (-len(encode(q)) % 4) + 4 + 64 * 8
    np.testing.assert_array_equal(decode(encode(q, segments=64), q.size, np.int8, threads=3), q)


def test_float_values_are_read_as_such() -> None:
    data = bytearray(encode(np.array(KNOWN)))
    n = len(set(KNOWN))
    data[8 + 4 * n : 8 + 8 * n] = struct.pack(f"<{n}f", -0.5, 0.0, 1.25, 3e20)
    want = [{-1: -0.5, 0: 0.0, 3: 1.25, 700: 3e20}[v] for v in KNOWN]
    np.testing.assert_array_equal(decode_real(bytes(data), len(KNOWN)), np.float32(want))
    data[8 + 4 * n : 12 + 4 * n] = struct.pack("<f", float("nan"))
    with pytest.raises(ModelFormatError, match="one of its values is not finite"):
        decode_real(bytes(data), len(KNOWN))


# -- size --------------------------------------------------------------------------------------------------------------


def draw(kind: str, n: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    real = {
        "normal": lambda: rng.normal(0, 12, n),
        "narrow": lambda: rng.normal(0, 0.3, n),
        "laplace": lambda: rng.laplace(0, 12, n),
        "tails": lambda: rng.standard_t(2, n) * 3,
        "sparse": lambda: (rng.random(n) < 0.001) * 5.0,
        "pruned": lambda: (rng.random(n) < 0.05) * rng.normal(0, 30, n),
        "flat": lambda: rng.integers(-128, 128, n),
    }[kind]()
    return np.clip(np.rint(real), -32768, 32767).astype(np.int16)


@pytest.mark.parametrize("kind", ["normal", "narrow", "laplace", "tails", "sparse", "pruned", "flat"])
@pytest.mark.parametrize("n", [20_000, 200_000])
def test_the_stream_is_within_one_percent_of_the_entropy(kind: str, n: int) -> None:
    q = draw(kind, n)
    coded = fse.from_buffer(encode(q), np.int32)
    assert entropy(q) * n <= coded.bits + 64
    assert coded.bits <= 1.01 * entropy(q) * n + coded.log


@pytest.mark.parametrize("kind", ["narrow", "sparse", "tails"])
def test_a_larger_table_is_taken_where_it_saves(kind: str) -> None:
    q = draw(kind, 50_000)
    assert len(encode(q)) < len(encode(q, table_log(len(np.unique(q)))))


def test_entropy_by_hand() -> None:
    assert entropy(np.array([1, 1, 2, 3])) == pytest.approx(1.5)
    assert entropy(np.array([4, 4])) == entropy(np.empty(0, np.int8)) == 0
    assert entropy(np.array([[-(2**40), 2**40], [0, 5]])) == pytest.approx(2)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 2000) | st.just(1), min_size=1, max_size=100), st.sampled_from([7, 9, 16]))
def test_frequencies_sum_up(counts: list[int], log: int) -> None:
    f = normalize(np.array(counts, np.int64), log)
    assert f.sum() == 1 << log and f.min() >= 1


# -- mistakes ----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_coded_is_refused() -> None:
    with pytest.raises(ConfigError, match="65,536 different integers cannot be entropy-coded; at most 65,535 can"):
        encode(np.arange(65_536))
    with pytest.raises(ConfigError, match="from 0 to 2147483648 cannot be entropy-coded; they must fit in 32 bits"):
        encode(np.array([0, 2**31]))
    with pytest.raises(ConfigError, match="from 18446744073709551615 to 18446744073709551615 cannot be"):
        encode(np.array([2**64 - 1], np.uint64))
    with pytest.raises(ConfigError, match="segments is 0; it must be 1 or more"):
        encode(np.array([1]), segments=0)
    with pytest.raises(ConfigError, match="table_log is 5; for 50 different integers it is 6 … 16"):
        encode(np.arange(50), 5)
    with pytest.raises(ConfigError, match="table_log is 17; for 1 different integers it is 4 … 16"):
        encode(np.array([1]), 17)


@lru_cache
def buffer(segments: int = 1) -> bytes:
    return encode(draw("normal", 700), segments=segments)


def changed(data: bytes, **fields: tuple[str, int, int]) -> bytes:
    """Put numbers in: struct's letter, where, what."""
    out = bytearray(data)
    for kind, at, value in fields.values():
        struct.pack_into("<" + kind, out, at, value)
    return bytes(out)


N = int.from_bytes(buffer()[:2], "little")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "ends inside of its head: it has 0 bytes and needs at least 8"),
        (buffer()[:20], "ends inside of the frequencies"),
        (buffer()[: 12 + 4 * N], "ends inside of the values"),
        (buffer()[:-20], "ends inside of the bits"),
        (buffer() + b"\0", "ends inside of the number of segments"),
        (buffer(4)[:-1], "4 segments need 32 bytes of marks; it has 31"),
        (changed(buffer(), log=("H", 2, 3)), r"2\^3 states for \d+ values; 2\^4 to 2\^16, and one a value"),
        (changed(buffer(), log=("H", 2, 17)), r"2\^17 states"),
        (changed(buffer(), f=("I", 8, 0)), "frequencies are 1 or more and sum up to"),
        (changed(buffer(), f=("I", 8, 9)), "frequencies are 1 or more and sum up to"),
        (changed(buffer(), value=("i", 8 + 4 * N + 4 * (N % 2), 10)), "its values do not ascend"),
        (changed(buffer(), used=("B", len(buffer()) - 1, 65)), "65 bits in the last one, hold no state"),
        (changed(buffer(), used=("B", len(buffer()) - 1, buffer()[-1] + 1)), "after 700 integers"),
        (changed(buffer(4), mark=("H", len(buffer(4)) - 6, 1)), "the last segment ends at bit and state"),
        (changed(buffer(4), mark=("I", len(buffer(4)) - 28, 9999)), "a mark of a segment points backwards"),
        (changed(buffer(4), mark=("I", len(buffer(4)) - 28, 0)), "after 175 integers"),
        (changed(buffer(4), mark=("H", len(buffer(4)) - 30, 0xFFFF)), "or to a state that is not there"),
    ],
)
def test_a_damaged_buffer_says_what_is_wrong(data: bytes, says: str) -> None:
    with pytest.raises(ModelFormatError, match="the entropy-coded data is damaged: .*" + says):
        decode(data, 700)


def test_the_number_of_integers_is_checked() -> None:
    for count, says in (
        (699, "bits left over after 699 integers"),
        (710, "too few bits after 710 integers"),
        (0, "some"),
    ):
        with pytest.raises(ModelFormatError, match=says):
            decode(buffer(), count)
    with pytest.raises(ModelFormatError, match=r"1,000,000,000,000 integers take [\d,]+ bits at least; it has"):
        decode(buffer(), 10**12)
    with pytest.raises(ModelFormatError, match="it holds no integers; 5 are expected"):
        decode(encode(np.empty(0, np.int8)), 5)
    with pytest.raises(ModelFormatError, match="are beyond int8"):
        decode(encode(np.array([0, 128])), 2, np.int8)


def test_an_end_in_another_integer_is_noticed() -> None:
    q = np.array([1] * 50 + [2] * 50)
    data = bytearray(encode(q))
    first = 8 + 4 * 2 + 4 * 2
    seen = set()
    for bit in range(8):  # the bits that lead to the first state
        broken = data.copy()
        broken[first + 7] ^= 1 << bit
        try:
            decode(bytes(broken), 100)
        except ModelFormatError as e:
            seen.add(str(e).rsplit(": ", 1)[-1])
    assert "the state in which it ends is not one of its first integer" in seen


@pytest.mark.parametrize("segments", [1, 4])
def test_random_damage_is_an_error_or_other_integers(segments: int) -> None:
    rng = np.random.default_rng(segments)
    whole, caught = buffer(segments), 0
    for _ in range(1500):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            data[at] ^= 1 << rng.integers(0, 8)
        cut = bytes(data[: rng.integers(0, len(data) + 1)]) if rng.random() < 0.2 else bytes(data)
        try:
            assert decode(cut, 700, np.int16).shape == (700,)
        except ModelFormatError:
            caught += 1
    assert caught > 1000


def test_damage_never_leads_out_of_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop in plain Python, in which numpy checks every index."""
    monkeypatch.setattr(fse_kernels, "take_bits", fse_kernels.take_bits.py_func)
    rng = np.random.default_rng(9)
    for segments in (1, 3):
        whole = encode(draw("laplace", 60), segments=segments)
        n = int.from_bytes(whole[:2], "little")
        np.testing.assert_array_equal(decode(whole, 60), draw("laplace", 60))
        for _ in range(120):
            data = bytearray(whole)
            data[rng.integers(8 * n, len(data))] ^= 1 << rng.integers(0, 8)
            try:
                decode(bytes(data), 60 + int(rng.integers(-1, 2)), threads=1)
            except ModelFormatError:
                continue

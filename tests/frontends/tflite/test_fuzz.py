"""Damaged files: an error of ours or a result, never anything else, and never much memory."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.errors import FewbitError
from tests.frontends.tflite import nets
from tests.frontends.tflite.cases import PARTS, SHAPES
from tests.frontends.tflite.one import Const, Fed, Lite, read, write
from tests.frontends.tflite.test_integers import small
from tests.frontends.tflite.test_ops import build

MOST = 24 << 20
FILES = [
    nets.flattened(), nets.mobile(), nets.sizes_of_itself(), small(), nets.dilated([[0, 1], [0, 0]], [[0, 1], [0, 0]]),
    *(build(case, behind=False)[0] for case in (*SHAPES[::9], *PARTS[::6])),
]  # fmt: skip
ODD = [0, 1, 2, 4, 127, 128, 2**15, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 4]


def is_read(data: bytes, integers: bool = False) -> bool:
    try:
        read(data, integers=integers)
    except FewbitError as e:
        assert str(e)
        return False
    return True


def test_a_file_that_is_cut_off_is_refused() -> None:
    data = FILES[0]
    ends = [*range(0, 200), *range(200, len(data), 97), len(data) - 1]
    read_anyway = [end for end in ends if is_read(data[:end])]
    assert read_anyway == [] and is_read(data)


def test_sizes_that_no_memory_holds_are_only_numbers() -> None:
    net = nets.Net(x=Fed((2**31 - 1, 3)))
    pads = net.const(np.asarray([[1, 1], [0, 0]], np.int32))
    mirrored = net.add("MIRROR_PAD", ["x", pads], (1, 3), "MirrorPadOptions", {"mode": 1})
    fill = nets.Net()
    shape = fill.const(np.asarray([2**30, 2**30], np.int32))
    filled = fill.add("FILL", [shape, fill.const(np.float32(1))], (2**30, 2**30))
    columns = Const(np.zeros(3, np.float32), shape=(1, 2**30))
    wide = write([Lite("FULLY_CONNECTED", ["x", "w"], ["y"], "FullyConnectedOptions")],
                 {"x": Fed((1, 2**15, 2**15, 1)), "w": columns, "y": Fed((1, 1))}, ["x"], ["y"])  # fmt: skip
    tracemalloc.start()
    assert not is_read(net.file(mirrored)) and is_read(fill.file(filled)) and not is_read(wide)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST


@given(st.data())
@settings(max_examples=40)
def test_bytes_may_be_wrong(data: st.DataObject) -> None:
    stored = bytearray(FILES[data.draw(st.integers(0, len(FILES) - 1))])
    for _ in range(data.draw(st.integers(1, 4))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    is_read(bytes(stored), data.draw(st.booleans()))


@given(st.data())
@settings(max_examples=40)
def test_numbers_may_be_absurd(data: st.DataObject) -> None:
    stored = bytearray(FILES[data.draw(st.integers(0, len(FILES) - 1))])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(2, len(stored) // 4 - 1)) * 4
        struct.pack_into("<I", stored, at, data.draw(st.sampled_from(ODD)))
    is_read(bytes(stored), data.draw(st.booleans()))

import io

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fewbit.graph.wire import BIG, read_cut, write_whole
from tests.models import NETWORKS, info, matmul, node, proto, weight


def cut(tmp_path, data: bytes):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with open(path, "rb") as file:
        message, weights = read_cut(file)
    return onnx.ModelProto.FromString(message), weights


def whole(message: onnx.ModelProto, weights) -> onnx.ModelProto:
    out = io.BytesIO()
    write_whole(message, weights, out)
    return onnx.ModelProto.FromString(out.getvalue())


@pytest.mark.parametrize("name", NETWORKS)
def test_small_networks_pass_through_as_they_are(tmp_path, name):
    made = NETWORKS[name]()
    message, weights = cut(tmp_path, made.SerializeToString())
    assert message == made and not weights
    assert whole(message, {}) == made


@pytest.mark.parametrize("rows", [BIG // 32 - 1, BIG // 32, 40_000])  # the last needs lengths of four bytes
def test_large_weights_are_cut_out_and_put_back(tmp_path, rows):
    made = matmul(k=rows, n=8)
    message, weights = cut(tmp_path, made.SerializeToString())
    if rows * 32 < BIG:
        assert message == made and not weights
        return
    assert list(weights) == ["w"] and not message.graph.initializer[0].raw_data
    assert list(message.graph.initializer[0].dims) == [rows, 8]
    np.testing.assert_array_equal(weights["w"].view(np.float32).reshape(rows, 8), weight(rows, 8))
    assert weights["w"].ctypes.data % 16 == 0
    assert whole(message, weights) == made


def test_data_in_front_of_the_name_is_found_too(tmp_path):
    raw = weight(BIG).tobytes()
    tensor = TensorProto(name="w", dims=[BIG], data_type=TensorProto.FLOAT)
    body = bytes([9 << 3 | 2]) + varint(len(raw)) + raw + tensor.SerializeToString()
    made = proto([node("Identity", "w", "y")], [], [info("y", [BIG])])
    rest = made.graph.SerializeToString() + bytes([5 << 3 | 2]) + varint(len(body)) + body
    made.ClearField("graph")
    message, weights = cut(tmp_path, bytes([7 << 3 | 2]) + varint(len(rest)) + rest + made.SerializeToString())
    assert weights["w"].tobytes() == raw and message.graph.initializer[0].name == "w"


def test_weights_that_a_name_does_not_single_out_stay_in_the_message(tmp_path):
    made = matmul(k=512, n=8)
    made.graph.initializer.append(made.graph.initializer[0])
    made.graph.initializer.append(made.graph.initializer[0])
    made.graph.initializer[2].name = ""
    message, weights = cut(tmp_path, made.SerializeToString())
    assert list(weights) == ["w"]
    assert [len(t.raw_data) for t in message.graph.initializer] == [0, 512 * 32, 512 * 32]


def test_weights_of_constants_and_bodies_stay_in_the_message(tmp_path):
    value = helper.make_tensor("", TensorProto.FLOAT, [BIG], weight(BIG).tobytes(), raw=True)
    made = proto([helper.make_node("Constant", [], ["y"], value=value)], [], [info("y", [BIG])])
    message, weights = cut(tmp_path, made.SerializeToString())
    assert message == made and not weights


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])

""".param text: read, written, refused."""

from __future__ import annotations

import pytest

from fewbit.engines.ncnn.param import Layer, inputs_of, outputs_of, read_param, write_param
from fewbit.errors import ModelFormatError

TEXT = """7767517
4 5
Input                    in0                      0 1 in0
Split                    s                        1 2 in0 1 2
Convolution              convclip_0               1 1 1 3 0=8 1=3 -23310=2,0.0,6.0 5=1 6=216 9=3
Reshape                  r                        1 1 2 out0 6="0w,-1"
"""


def test_a_file_is_written_as_it_was_read() -> None:
    layers = read_param(TEXT)
    assert write_param(layers) == TEXT
    _, split, conv, reshape = layers
    assert split.outputs == ("1", "2") and inputs_of(layers) == ["in0"] and outputs_of(layers) == ["3", "out0"]
    assert (conv.int(0), conv.int(77), conv.int(77, 5)) == (8, 0, 5)
    assert conv.floats(10) == (0, 6) and conv.floats(9) == (3,) and conv.floats(77) == ()
    assert reshape.params == {6: '"0w,-1"'}


def test_values_change_in_a_copy() -> None:
    layer = Layer("Convolution", "c", ("a",), ("b",), {0: "8", 9: "1"})
    made = layer.with_params(_8=102, _9=None)
    assert made.params == {0: "8", 8: "102"} and layer.params == {0: "8", 9: "1"}


def lines(*layers: str, counts: str = "") -> str:
    return "\n".join(["7767517", counts or f"{len(layers)} 9", *layers])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no ncnn .param file: it begins with \[\] instead of 7767517"),
        ("hello\n1 1", "begins with .'hello'"),
        ("7767517\nmany", "line 2: .'many'.; it must be two numbers"),
        (lines("Input in0 0 1 in0", counts="7 1"), "has 1 layers and says that there are 7"),
        (lines("Input in0 0"), "line 3: 'Input in0 0'; it must be"),
        (lines("Input in0 0 99999999 in0"), "line 3: 0 inputs and 99999999 outputs, but too few names"),
        (lines("Input in0 0 1 in0 0:3"), "line 3: '0:3'; it must be key=value"),
        (lines("Input in0 0 1 in0 x=3"), "line 3: 'x=3'; it must be key=value"),
        (lines("ReLU r 1 1 in0 out0"), "'r' reads blob 'in0', which no layer before it makes"),
        (lines("Input a 0 1 in0", "Input b 0 1 in0"), "'b' makes blob 'in0', which another one makes too"),
        (lines("Input a 0 1 in0", "Input a 0 1 in1"), "two ncnn layers are called 'a'"),
    ],
)
def test_what_is_no_param_file_is_refused(text: str, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        read_param(text)


def test_values_of_the_wrong_kind_are_refused() -> None:
    layer = Layer("Convolution", "c", ("a",), ("b",), {0: "eight", 10: "2,a,b"})
    with pytest.raises(ModelFormatError, match="'c': 0='eight'; it must be a whole number"):
        layer.int(0)
    with pytest.raises(ModelFormatError, match="'c': 10='2,a,b'; it must be numbers"):
        layer.floats(10)

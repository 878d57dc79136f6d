"""What a broken file says about a layer is refused with our own errors, which tell what is wrong."""

from __future__ import annotations

import re

import pytest

from fewbit.errors import ModelFormatError
from tests.frontends.mxnet.cases import one_layer

Shapes = list[tuple[int, ...]]

ODD: list[tuple[str, Shapes, dict[str, str], str]] = [
    ("slice", [(2, 3)], {"begin": "(0,)", "end": "(2,)", "step": "(0,)"}, "'step' cannot be 0"),
    (
        "slice",
        [(2, 3)],
        {"begin": "('a',)", "end": "(2,)"},
        "must be whole numbers or None, not 'a'",
    ),
    (
        "slice",
        [(2, 3)],
        {"begin": "(0.5,)", "end": "(2,)"},
        "must be whole numbers or None, not 0.5",
    ),
    ("tile", [(2, 3)], {"reps": "(-1,)"}, "reps is (-1,); all must be at least 1"),
    ("repeat", [(2, 3)], {"repeats": "-1"}, "repeats is -1; it must be at least 1"),
    ("depth_to_space", [(2, 4, 3, 3)], {"block_size": "0"}, "block_size is 0; it must be at least 1"),
    ("depth_to_space", [(2, 3, 3, 3)], {"block_size": "2"}, "(2, 3, 3, 3) does not have 4 axes and a multiple of 2²"),
    ("one_hot", [(2,)], {"depth": "-3"}, "depth is -3; it must be at least 1"),
    ("transpose", [(2, 3)], {"axes": "(0, 0)"}, "axes is (0, 0), which names an axis twice"),
    ("transpose", [(2, 3)], {"axes": "(0, 5)"}, "axes is 5; its input has 2 axes"),
    ("expand_dims", [(2, 3)], {"axis": "7"}, "Unexpected axis value: 7"),
    ("squeeze", [(2, 3)], {"axis": "0"}, "Squeeze cannot take inputs of shapes (2, 3)"),
    ("Concat", [(2, 3), (3, 3)], {"dim": "1"}, "Concat cannot take inputs of shapes (2, 3), (3, 3)"),
    ("stack", [(2, 3), (2, 3)], {"axis": "9"}, "axis is 9; its output has 3 axes"),
    ("broadcast_to", [(2, 3)], {"shape": "(2,)"}, "shape is (2,); its input has 2 axes"),
    ("broadcast_to", [(2, 3)], {"shape": "(2, 7)"}, "Expand cannot take inputs of shapes (2, 3)"),
    ("broadcast_axis", [(2, 3)], {"axis": "(0, 1)", "size": "(2,)"}, "axis is [0, 1], size (2,); they must be of one"),
    ("broadcast_like", [(2, 3)] * 2, {"lhs_axes": "(0, 1)", "rhs_axes": "0"}, "lhs_axes is [0, 1], rhs_axes [0]; they"),
    (
        "_np_moveaxis",
        [(2, 3)],
        {"source": "0", "destination": "(0, 1)"},
        "source is [0], destination [0, 1]; they",
    ),
    ("Crop", [(1, 2, 3, 3)], {"num_args": "1"}, "it cuts (3, 3) to (0, 0); it needs the height and width of"),
    ("_split_v2", [(4, 3)], {"indices": "()"}, "indices is (); it must be numbers that grow, the first of them 0"),
    ("_split_v2", [(4, 3)], {"indices": "(0, 2, 1)"}, "indices is (0, 2, 1); it must be numbers that grow"),
    ("_linspace", [], {"start": "0", "stop": "1", "num": "-1"}, "num is -1; it must be at least 1"),
    ("_eye", [], {"N": "-1"}, "N is -1; it must be at least 1"),
    ("sum", [(2, 3)], {"axis": "1.5"}, "axis is '1.5'; it must be whole numbers"),
    ("take", [(2, 3)], {}, "number of inputs is 1; it must be 2"),
    ("where", [(2, 3)] * 2, {}, "number of inputs is 2; it must be 3"),
    ("broadcast_add", [(2, 3)] * 3, {}, "number of inputs is 3; it must be 2"),
    ("relu", [], {}, "has no input"),
    ("pick", [(2, 3), (2, 3, 4)], {}, "Squeeze cannot take inputs of shapes (2, 3, 4)"),
    ("gather_nd", [(2, 3), (3, 4)], {}, "GatherND cannot take inputs of shapes (2, 3), (4, 3)"),
    ("scatter_nd", [(2, 3), (2, 4)], {"shape": "(-1, 2)"}, "shape is (-1, 2); all sizes must be at least 1"),
    ("dot", [(2, 3), (3, 2, 2, 2)], {"transpose_b": "1"}, "inputs of (2, 3) and (3, 2, 2, 2) do not fit each other"),
    ("batch_dot", [(2, 3), (2,)], {}, "it multiplies matrices, and an input has shape (2,)"),
    ("linalg_gemm", [(2, 2)] * 2, {}, "number of inputs is 2; it must be 3"),
    ("_npi_einsum", [(2, 3)], {"subscripts": "???"}, "Einsum cannot take inputs of shapes (2, 3)"),
    ("_npi_tensordot_int_axes", [(2, 3)] * 2, {"axes": "5"}, "axes is 5; its inputs have 2 and 2 axes"),
    ("_contrib_interleaved_matmul_selfatt_qk", [(2, 3)], {"heads": "2"}, "an input has 2 axes; it must have 3"),
    ("smooth_l1", [(2,)], {"scalar": "0"}, "scalar is 0; it must be another number"),
    ("reshape_like", [(2, 3), (4,)], {}, "(2, 3) cannot be reshaped to (4,)"),
    ("reshape_like", [(2, 3), (6,)], {"lhs_begin": "5"}, "lhs_begin and lhs_end are 5 and 2; that input has 2 axes"),
    ("slice_like", [(2, 3), (2,)], {"axes": "(1,)"}, "axes are [1]; its inputs have 2 and 1 axes"),
    ("SequenceMask", [(2, 3)], {"use_sequence_length": "1"}, "has 1 inputs, which are too few"),
    ("SequenceLast", [(2,), (2,)], {"use_sequence_length": "1"}, "Transpose cannot take inputs of shapes (2,)"),
    ("_contrib_arange_like", [(2,)], {"repeat": "0"}, "repeat is 0; it must be at least 1"),
    ("_npi_around", [(2,)], {"decimals": "99999"}, "decimals is 99999; it must be -30 to 30"),
]


@pytest.mark.parametrize(("operator", "shapes", "attrs", "message"), ODD)
def test_a_broken_layer_is_refused(operator: str, shapes: Shapes, attrs: dict[str, str], message: str) -> None:
    with pytest.raises(ModelFormatError, match=rf"layer 'l.*{re.escape(message)}"):
        one_layer(operator, *shapes, **attrs)


def test_a_number_beyond_the_type_of_whole_numbers_is_refused() -> None:
    with pytest.raises(ModelFormatError, match=r"layer 'l' \(_plus_scalar\): 1e\+30 is beyond its input's type, int32"):
        one_layer("_plus_scalar", (2,), whole=True, scalar="1e30")
    assert one_layer("_plus_scalar", (2,), whole=True, scalar="5").outputs[0].shape == (2,)

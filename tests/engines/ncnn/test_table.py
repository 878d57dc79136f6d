"""The table of ncnn's tools: order, spelling, what their readers make of it."""

from __future__ import annotations

import numpy as np
import pytest

from fewbit.engines.ncnn.param import read_param
from fewbit.engines.ncnn.table import read_table, write_table
from fewbit.errors import ModelFormatError

LAYERS = read_param("""7767517
5 5
Input in0 0 1 in0
Convolution conv_0 1 1 in0 1 0=2 5=1 6=18 8=102
ConvolutionDepthWise dw_0 1 1 1 2 0=2 5=0 6=18 7=2 8=1
Convolution float_0 1 1 2 3 0=2 6=18
InnerProduct fc_0 1 1 3 out0 0=1 2=2 8=2
""")
SCALES = {
    "conv_0": {"weight_scale": np.float32([182.25, 1]), "input_scale": np.float32([38.125])},
    "dw_0": {"weight_scale": np.float32([7, 0.5]), "input_scale": np.float32([2])},
    "float_0": {},
    "fc_0": {"weight_scale": np.float32([1 / 3]), "input_scale": np.float32([1e-3])},
}
TEXT = (
    "conv_0_param_0 182.250000 1.000000 \ndw_0_param_0 7.000000 0.500000 \nfc_0_param_0 0.333333 \n"
    "conv_0 38.125000 \ndw_0 2.000000 \nfc_0 0.001000 \n"
)


def test_weights_first_then_inputs_each_line_with_a_space_at_its_end() -> None:
    assert write_table(LAYERS, SCALES) == TEXT


def test_what_is_written_is_read_back() -> None:
    found = read_table(TEXT)
    assert found["conv_0_param_0"] == [182.25, 1] and found["fc_0"] == [0.001] and len(found) == 6


def test_lines_that_ncnn_leaves_out() -> None:
    assert read_table("a 1\n#b 2\n\nc 3\n") == {"a": [1]}


@pytest.mark.parametrize("line", ["alone", "a 1 x", "k" * 256 + " 1"])
def test_what_is_no_line_of_a_table_is_refused(line: str) -> None:
    with pytest.raises(ModelFormatError, match=r"ncnn table, line 2: .*; it must be a layer's name and numbers"):
        read_table(f"a 1\n{line}\n")

"""Golden cases of operators on two values, or on a value and a number; run as casefile.py says."""

from __future__ import annotations

import numpy as np
from casefile import CaseFile

A = np.array([[-2.5, -1.5, 0.0, 0.5], [1.5, 2.0, 2.5, 7.25]], np.float32)
B = np.array([[2.0, -1.5, 2.0, -2.0], [1.0, 2.0, 0.0, 3.0]], np.float32)
ROW = np.array([[2.0, -2.0, 1.5, 0.5]], np.float32)
I = np.array([[-3, 0, 1], [2, 5, -7]], np.int32)  # noqa: E741
J = np.array([[2, 2, -3], [0, 5, 2]], np.int32)
LOGIC = ["equal", "not_equal", "greater", "greater_equal", "lesser", "lesser_equal",
         "logical_and", "logical_or", "logical_xor"]  # fmt: skip
NUMPY = ["add", "subtract", "multiply", "true_divide", "power", "maximum", "minimum", "mod", "hypot", "equal",
         "not_equal", "greater", "greater_equal", "less", "less_equal"]  # fmt: skip


def pairs(file: CaseFile) -> None:
    for name in ("elemwise_add", "elemwise_sub", "elemwise_mul", "_grad_add", "_maximum", "_minimum", "_mod", "_hypot"):
        file.run(name, A, B)
    file.run("elemwise_div", A, B + 5)
    file.run("_power", np.abs(A) + 1, B)
    for name in LOGIC:
        file.run(f"_{name}", A, B)
        file.run(f"broadcast_{name}", A, ROW)
    for name in ("add", "sub", "mul", "div", "maximum", "minimum", "mod", "hypot"):
        file.run(f"broadcast_{name}", A, ROW)
        if name != "div":
            file.run(f"broadcast_{name}", I, J)
    file.run("broadcast_power", np.abs(A) + 1, ROW)
    file.run("broadcast_div", I, np.array([[2, -3, 4]], np.int32))
    file.run("broadcast_greater", I, J)
    file.run("broadcast_mod", A, B, params=[1], case="broadcast_mod by a parameter")
    file.run("broadcast_add", np.array([[3, 4]], np.uint8), np.array([[5], [250]], np.uint8))
    file.run("broadcast_mul", (2, 3, 4), (1, 3, 1))
    for n in (1, 2, 3):
        file.run("add_n", *[(2, 3)] * n, case=f"add_n of {n}", num_args=n)
    file.run("add_n", I, J, I, num_args=3)


def numpy_pairs(file: CaseFile) -> None:
    for name in NUMPY:
        a, b = (np.abs(A) + 1, ROW) if name in ("power", "true_divide") else (A, ROW)
        file.run(f"_npi_{name}", a, b[0] if name == "add" else b)
    file.run("_npi_true_divide", I, J + 20)
    file.run("_npi_add", I, A[:, :3], case="_npi_add of mixed types")
    file.run("_npi_multiply", I, A[:, :3], case="_npi_multiply of mixed types")
    for name in [*NUMPY, "rsubtract", "rtrue_divide", "rmod", "rpower"]:
        file.run(f"_npi_{name}_scalar", np.abs(A) + 1, scalar=1.5)
    file.run("_npi_add_scalar", I, scalar=2, is_int=True)
    file.run("_npi_add_scalar", I, scalar=1.5, is_int=False)
    file.run("_npi_true_divide_scalar", I, scalar=2, is_int=True)
    file.run("_npi_greater_scalar", I, scalar=1, is_int=True)


def scalars(file: CaseFile) -> None:
    for name in (
        "plus",
        "minus",
        "rminus",
        "mul",
        "div",
        "rdiv",
        "maximum",
        "minimum",
        "hypot",
        "power",
        "rpower",
        *LOGIC,
    ):
        file.run(f"_{name}_scalar", np.abs(A) + 0.5, scalar=2.0)
    for name in ("_scatter_plus_scalar", "_scatter_minus_scalar"):
        file.run(name, A, scalar=2.0)
    file.run("_scatter_elemwise_div", A, B + 5)
    for name in ("mod", "rmod"):
        for number in (2.0, -1.5):
            file.run(f"_{name}_scalar", A, scalar=number)
        file.run(f"_{name}_scalar", I, scalar=-3)
    file.run("_mod_scalar", A, scalar=0)
    for name in ("plus", "mul", "maximum", "greater"):
        file.run(f"_{name}_scalar", I, scalar=1.5)


if __name__ == "__main__":
    cases = CaseFile("arithmetic")
    pairs(cases)
    numpy_pairs(cases)
    scalars(cases)
    cases.save()

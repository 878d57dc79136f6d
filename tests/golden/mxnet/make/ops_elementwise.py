"""Golden cases of operators on single numbers; run as casefile.py says."""

from __future__ import annotations

import numpy as np
from casefile import CaseFile

TIES = np.array([[-2.5, -1.5, -0.5, -0.3, 0.0], [0.49999997, 0.5, 1.5, 2.5, 2.7]], np.float32)
SMALL = np.array([[-0.9, -0.5, -0.1], [0.0, 0.3, 0.8]], np.float32)
POSITIVE = np.array([[0.1, 0.5, 1.0], [1.7, 4.0, 9.5]], np.float32)
ABOVE = POSITIVE + 1
WHOLE = np.array([[-3, 0, 1], [2, 5, -7]], np.int32)
COUNTS = np.array([[1, 2, 3], [4, 9, 7]], np.int32)

ANY = """abs negative sign relu exp erf sigmoid tanh softsign sin cos tan arctan sinh cosh arcsinh degrees radians
square cbrt expm1 ceil floor round rint fix trunc logical_not hard_sigmoid""".split()
WITHIN = {"arcsin": SMALL, "arccos": SMALL, "arctanh": SMALL, "log1p": SMALL, "arccosh": ABOVE}
ABOVE_ZERO = "log log2 log10 sqrt rsqrt rcbrt reciprocal".split()
NUMPY = {**dict.fromkeys("cos cosh sin sinh tan tanh arctan arcsinh cbrt ceil floor trunc sign square".split(), TIES),
         **dict.fromkeys("absolute negative rint fix around logical_not exp expm1 degrees radians".split(), TIES),
         **dict.fromkeys("arccos arcsin arctanh log1p".split(), SMALL), "arccosh": ABOVE,
         **dict.fromkeys("sqrt reciprocal log2 log10".split(), POSITIVE)}  # fmt: skip


def unary(file: CaseFile) -> None:
    for name in ANY:
        file.run(name, TIES)
    for name, x in {**WITHIN, **dict.fromkeys(ABOVE_ZERO, POSITIVE)}.items():
        file.run(name, x)
    for name, x in NUMPY.items():
        file.run(f"_npi_{name}", x)
    for name in ("_npx_relu", "_npx_sigmoid"):
        file.run(name, TIES)
    for name in ("abs", "negative", "sign", "square", "relu", "ceil", "rint", "exp", "logical_not"):
        file.run(name, WHOLE)
    for name in ("sqrt", "_npi_sqrt", "_npi_log"):
        file.run(name, COUNTS)
    file.run("_npi_around", np.array([0.25, 0.35, -0.75, 1.26, -2.5], np.float32), decimals=1)
    file.run("_npi_around", np.array([25, 36, -75, -74], np.float32), decimals=-1)
    file.run("hard_sigmoid", (2, 3), alpha=0.3, beta=0.4)


def others(file: CaseFile) -> None:
    x = np.linspace(-3, 2.5, 12, dtype=np.float32).reshape(2, 6)
    file.run("smooth_l1", x, scalar=2.0)
    file.run("smooth_l1", x)
    file.run("clip", x, a_min=-1, a_max=2.5)
    file.run("clip", x, a_min=-1, a_max="inf")
    file.run("clip", WHOLE, a_min=-1.5, a_max=2.5)
    for kind in ("float32", "float64", "float16", "int32", "int8", "uint8", "int64", "bool"):
        file.run("Cast", np.array([[1.875, 0, 3], [2.25, 100, 0.5]], np.float32), dtype=kind)
    file.run("Cast", WHOLE, dtype="float32")
    file.run("amp_cast", x, dtype="float16")
    file.run("amp_multicast", (2, 3), (2, 3), outputs=2, num_outputs=2)
    file.run("cast_storage", (2, 3), stype="default")
    file.run("zeros_like", (2, 3))
    file.run("ones_like", WHOLE)
    file.run("_npi_full_like", (2, 3), fill_value=2.5)
    file.run("_npi_full_like", (2, 3), fill_value=2, dtype="int32")
    yes = np.array([[1, 0, 2], [0, 0, -1]], np.float32)
    file.run("where", yes, (2, 3), (2, 3))
    file.run("where", np.array([0, 3], np.float32), (2, 3), (2, 3), case="where rows")
    file.run("where", yes.astype(np.int32), (2, 3), (2, 3))
    file.run("_npi_where", yes, (2, 3), (3,))
    file.run("_npi_where_lscalar", yes, (2, 3), scalar=1.5)
    file.run("_npi_where_rscalar", yes, (2, 3), scalar=1.5)
    file.run("_npi_where_scalar2", yes, x=1.5, y=-2)
    file.run("_contrib_quadratic", (2, 3), a=2, b=-1, c=0.5)


if __name__ == "__main__":
    cases = CaseFile("elementwise")
    unary(cases)
    others(cases)
    cases.save()

"""Golden cases of lookups, sequences and products of matrices; run as casefile.py says."""

from __future__ import annotations

import numpy as np
from casefile import CaseFile

PLACES = np.array([[-1, 5, 1.9], [3, 0, 2]], np.float32)
ROWS = np.array([1, 3, 2], np.float32)


def lookups(file: CaseFile) -> None:
    file.run("Embedding", PLACES, (4, 3), input_dim=4, output_dim=3, params=[1])
    file.run("Embedding", PLACES.astype(np.int32), (4, 3), input_dim=4, output_dim=3, params=[1])
    file.run("_contrib_SparseEmbedding", PLACES, (4, 3), input_dim=4, output_dim=3, params=[1])
    for mode in ("clip", "wrap"):
        file.run("take", (4, 3), PLACES, mode=mode)
        file.run("take", (2, 4, 3), PLACES, axis=1, mode=mode)
        file.run("pick", (3, 4), np.array([-1, 5, 2], np.float32), mode=mode)
    file.run("take", (4, 3), np.array([1, 3], np.float32), mode="raise")
    file.run("batch_take", (3, 4), np.array([-1, 5, 2], np.int32))
    file.run("pick", (3, 4, 2), np.array([[0, 1], [2, 3], [1, 1]], np.float32), axis=1)
    file.run("pick", (3, 4, 2), np.array([[0, 1], [2, 3], [1, 1]], np.float32), axis=1, keepdims=True)
    file.run("pick", (3, 4), np.array([[0], [2], [3]], np.float32), keepdims=True)
    file.run("gather_nd", (3, 4), np.array([[0, 2, 1], [1, 3, 0]], np.float32))
    file.run("gather_nd", (3, 4), np.array([[0, 2, 1]], np.int32))
    file.run("scatter_nd", (3,), np.array([[0, 2, 1], [1, 3, 0]], np.float32), shape=(3, 4))
    file.run("one_hot", PLACES, depth=4)
    file.run("one_hot", np.array([0, 2], np.int32), depth=3, on_value=2, off_value=-1)
    file.run("one_hot", PLACES, depth=3, dtype="int32")


def sequences(file: CaseFile) -> None:
    x = (4, 3, 2)
    for name in ("SequenceMask", "SequenceLast", "SequenceReverse"):
        file.run(name, x)
        file.run(name, x, ROWS, use_sequence_length=True)
    file.run("SequenceMask", x, np.array([1, 0, 2, 3], np.float32), use_sequence_length=True, axis=1, value=-5)
    file.run("SequenceMask", (4, 3), ROWS, use_sequence_length=True)
    file.run("SequenceLast", x, np.array([1, 3, 2, 3], np.float32), use_sequence_length=True, axis=1)
    file.run("SequenceLast", x, axis=1)


def products(file: CaseFile) -> None:
    file.run("dot", (2, 3), (3, 4))
    file.run("dot", (3, 2), (3, 4), transpose_a=True)
    file.run("dot", (2, 3), (4, 3), transpose_b=True)
    file.run("dot", (3, 2), (4, 3), transpose_a=True, transpose_b=True)
    file.run("dot", (3,), (3,))
    file.run("dot", (3,), (3, 2), case="dot vector matrix")
    file.run("dot", (2, 3), (3,), case="dot matrix vector")
    file.run("dot", (2, 5, 3), (3, 4), case="dot 3 2")
    file.run("dot", (2, 5, 3), (4, 3), case="dot 3 2 transpose_b", transpose_b=True)
    file.run("dot", (2, 3), (3, 4, 5), case="dot 2 3")
    file.run("dot", (3, 2, 5), (3, 4, 5), case="dot 3 3 transpose_a", transpose_a=True)
    file.run("dot", (2, 5), (3, 4, 5), case="dot 2 3 transpose_b", transpose_b=True)
    file.run("_np_dot", (2, 3), (3, 4))
    file.run("_np_dot", (3,), (3,), case="_np_dot vectors")
    file.run("_np_dot", (2, 3), (5, 3, 4), case="_np_dot 2 3")
    file.run("_npi_tensordot", (2, 3, 4), (4, 5, 2), a_axes_summed=(0, -1), b_axes_summed=(2, 0))
    file.run("_npi_tensordot_int_axes", (2, 3, 4), (3, 4, 5), axes=2)
    file.run("_npi_matmul", (2, 5, 3), (3, 4))
    file.run("_npi_einsum", (2, 3), (3, 4), num_args=2, subscripts="ij,jk->ik")
    for ta, tb, a, b in ((False, False, (2, 3, 4), (2, 4, 5)), (True, False, (2, 4, 3), (2, 4, 5)),
                         (False, True, (2, 3, 4), (2, 5, 4)), (True, True, (2, 4, 3), (2, 5, 4))):  # fmt: skip
        file.run("batch_dot", a, b, transpose_a=ta, transpose_b=tb)
        file.run("linalg_gemm2", a, b, transpose_a=ta, transpose_b=tb, alpha=0.5)
    file.run("linalg_gemm2", (2, 3), (3, 4))
    file.run("linalg_gemm2", (2, 3, 4), (2, 4, 5), case="linalg_gemm2 plain")
    file.run("linalg_gemm", (2, 3), (3, 4), (2, 4), alpha=2.0, beta=0.5)
    file.run("linalg_gemm", (2, 3, 4), (2, 4, 5), (2, 3, 5), alpha=2.0, beta=0.5, case="linalg_gemm 3")


def attention(file: CaseFile) -> None:
    time, batch, heads, deep = 5, 2, 3, 4
    qkv, att = (time, batch, heads * 3 * deep), (batch * heads, time, time)
    file.run("_contrib_interleaved_matmul_selfatt_qk", qkv, heads=heads)
    file.run("_contrib_interleaved_matmul_selfatt_valatt", qkv, att, heads=heads)
    file.run(
        "_contrib_interleaved_matmul_encdec_qk", (3, batch, heads * deep), (time, batch, heads * 2 * deep), heads=heads
    )
    kv = (time, batch, heads * 2 * deep)
    file.run("_contrib_interleaved_matmul_encdec_valatt", kv, (batch * heads, 3, time), heads=heads)
    file.run("_contrib_div_sqrt_dim", (2, 3, 5))


if __name__ == "__main__":
    cases = CaseFile("index")
    for add in (lookups, sequences):
        add(cases)
    cases.save()
    cases = CaseFile("matmul")
    for add in (products, attention):
        add(cases)
    cases.save()

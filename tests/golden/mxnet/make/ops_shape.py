"""Golden cases of operators that rearrange; run as casefile.py says."""

from __future__ import annotations

from casefile import CaseFile

X = (2, 3, 4, 5)


def reshapes(file: CaseFile) -> None:
    for shape in ((0, -1), (-1, 20), (0, 0, -1), (-3, 0, 0), (0, -3, 0), (-2,), (0, -2), (0, 0, -3), (-3, -3),
                  (-4, 1, 2, -2), (-4, -1, 2, 0, 0, 0), (0, -4, 3, -1, -2), (0, 0, -4, 2, 2, 0), (6, 20), (24, -1),
                  (0, 12, 5), (2, -1, 5)):  # fmt: skip
        file.run("Reshape", X, shape=shape)
    for shape in ((-1, 0), (-1, -3), (-1, 0, 0), (-2, 0)):
        file.run("Reshape", X, shape=shape, reverse=True)
    file.run("Reshape", X, target_shape=(2, 0))
    file.run("Reshape", X, target_shape=(0, 0), keep_highest=True)
    for shape in (
        (-2, -1),
        (-2, -2, -5),
        (-4,),
        (-2, -4),
        (-5, -4),
        (-6, 1, 2, -4),
        (-2, -6, -1, 3, -4),
        (-1,),
        (6, -1),
    ):
        file.run("_npx_reshape", X, newshape=shape)
    file.run("_npx_reshape", (2, 1, 3), newshape=(-2, -3, -1))
    file.run("_npx_reshape", X, newshape=(-1, -2), reverse=True)
    file.run("_np_reshape", X, newshape=(6, -1))
    file.run("reshape_like", (2, 12), (2, 3, 4))
    file.run("reshape_like", (30, 7), (15, 2, 4), lhs_begin=0, lhs_end=1, rhs_begin=0, rhs_end=2)
    file.run("reshape_like", (2, 12, 5), (9, 3, 4, 1), lhs_begin=1, lhs_end=-1, rhs_begin=1, rhs_end=-1)


def axes(file: CaseFile) -> None:
    file.run("Flatten", X)
    file.run("Flatten", (2, 3))
    file.run("Flatten", (3,))
    file.run("_npx_batch_flatten", X)
    file.run("transpose", X)
    file.run("transpose", X, axes=(0, 2, 3, 1))
    file.run("_np_transpose", X, axes=(3, 1, 0, 2))
    file.run("SwapAxis", X, dim1=1, dim2=3)
    file.run("SwapAxis", X, dim1=0, dim2=2)
    file.run("_np_moveaxis", X, source=(0, 1), destination=(-1, 0))
    for axis in (0, 2, -1):
        file.run("expand_dims", (2, 3), axis=axis)
    file.run("squeeze", (1, 3, 1, 2))
    file.run("squeeze", (1, 3, 1, 2), axis=2)
    file.run("squeeze", (1, 3, 1, 2), axis=(0, -2))
    file.run("squeeze", (1, 1), case="squeeze all")
    file.run("_np_squeeze", (1, 3, 1))
    file.run("_np_squeeze", (1, 1), case="_np_squeeze all")


def joined(file: CaseFile) -> None:
    file.run("Concat", (2, 3, 4), (2, 1, 4), (2, 2, 4), num_args=3)
    file.run("Concat", (2, 3), (1, 3), num_args=2, dim=0)
    file.run("Concat", (2, 3), (2, 1), num_args=2, dim=-1)
    file.run("Concat", (2, 3), num_args=1)
    for axis in (0, -1, None):
        file.run("_npi_concatenate", (2, 3), (2, 3), num_args=2, axis=axis)
    file.run("stack", (2, 3), (2, 3), num_args=2)
    file.run("stack", (2, 3), (2, 3), num_args=2, axis=-1)
    file.run("_npi_stack", (2, 3), (2, 3), num_args=2, axis=1)
    file.run("tile", (2, 3), reps=(2, 3))
    file.run("tile", (2, 3), reps=(2,))
    file.run("tile", (2, 3), reps=(2, 1, 2))
    file.run("repeat", (2, 3), repeats=2)
    file.run("repeat", (2, 3), repeats=2, axis=1)
    file.run("repeat", (2, 3, 2), repeats=3, axis=-2)
    file.run("repeat", (2, 3), repeats=2, axis=0)
    file.run("broadcast_to", (2, 1, 3), shape=(2, 4, 3))
    file.run("broadcast_to", (2, 1, 3), shape=(0, 4, 0))
    file.run("_npi_broadcast_to", (1, 3), shape=(2, 4, 3))
    file.run("broadcast_axis", (2, 1, 3, 1), axis=(1, 3), size=(4, 2))
    file.run("broadcast_axis", (2, 1), axis=1, size=3)
    file.run("broadcast_like", (2, 1, 3), (2, 4, 3))
    file.run("broadcast_like", (1, 3), (5, 7), lhs_axes=(0,), rhs_axes=(-1,))
    file.run("depth_to_space", (2, 8, 2, 3), block_size=2)
    file.run("space_to_depth", (2, 2, 4, 6), block_size=2)
    file.run("shape_array", X)
    file.run("size_array", X)


def parts(file: CaseFile) -> None:
    x = (4, 6, 5)
    for begin, end, step in (((1, 2), (3, None), None), ((None, -3, 1), (None, -1, 4), None), ((0,), (3,), None),
                             ((None, None), (None, None), (2, -1)), ((3, 5), (None, 0), (-1, -2)),
                             ((None, 1), (None, 5), (None, 2))):  # fmt: skip
        more = {} if step is None else {"step": step}
        file.run("slice", x, begin=begin, end=end, **more)
    file.run("slice_axis", x, axis=1, begin=1, end=4)
    file.run("slice_axis", x, axis=-1, begin=-3, end=None)
    file.run("slice_axis", x, axis=0, begin=0, end=-1)
    file.run("reverse", x, axis=1)
    file.run("reverse", x, axis=(0, 2))
    file.run("_npi_flip", x, axis=(1,))
    file.run("slice_like", x, (2, 3, 4))
    file.run("slice_like", x, (9, 3, 4), axes=(1, -1))
    file.run("slice_like", x, (9, 3), axes=(1,))
    y = (2, 3, 7, 8)
    file.run("Crop", y, num_args=1, h_w=(4, 5), offset=(1, 2))
    file.run("Crop", y, num_args=1, h_w=(4, 5), center_crop=True)
    file.run("Crop", y, (1, 1, 3, 6), num_args=2)
    file.run("Crop", y, (1, 1, 3, 6), num_args=2, offset=(2, 1))
    file.run("Crop", y, (1, 1, 4, 5), num_args=2, center_crop=True)
    file.run("SliceChannel", x, num_outputs=3, outputs=3)
    file.run("SliceChannel", x, num_outputs=2, axis=0, outputs=2)
    file.run("SliceChannel", x, num_outputs=5, axis=-1, squeeze_axis=True, outputs=5)
    file.run("SliceChannel", x, num_outputs=1)
    file.run("SliceChannel", (2, 1, 3), num_outputs=1, squeeze_axis=True)
    file.run("_split_v2", x, sections=3, axis=1, indices=(), outputs=3)
    file.run("_split_v2", x, indices=(0, 1, 4), axis=1, outputs=3)
    file.run("_split_v2", x, indices=(0, 1, 2, 3), axis=0, squeeze_axis=True, outputs=4)
    file.run("_npi_split", x, indices=(0, 2), axis=0, outputs=2)


def fills(file: CaseFile) -> None:
    file.run("_zeros", shape=(2, 3))
    file.run("_ones", shape=(3,), dtype="int32")
    file.run("_full", shape=(2,), value=1.5)
    file.run("_arange", start=1, stop=6, step=1.5)
    file.run("_arange", start=4)
    file.run("_arange", start=0, stop=3, repeat=2, dtype="int32")
    file.run("_arange", start=5, stop=0, step=-2)
    file.run("_linspace", start=0, stop=1, num=5)
    file.run("_linspace", start=0, stop=1, num=5, endpoint=False)
    file.run("_eye", N=3, M=4, k=1)
    file.run("_npi_eye", N=3)
    file.run("_npi_zeros", shape=(2, 3))
    file.run("_npi_ones", shape=(2, 3), dtype="int8")
    file.run("_npi_arange", start=2, stop=8, step=2, dtype="int64")
    file.run("_contrib_arange_like", (2, 3))
    file.run("_contrib_arange_like", (2, 3), start=1, step=0.5, repeat=2)
    file.run("_contrib_arange_like", (2, 3), axis=1)
    file.run("_contrib_arange_like", (4, 3), axis=0, start=2, step=3, repeat=2)


if __name__ == "__main__":
    cases = CaseFile("shape")
    for add in (reshapes, axes, joined):
        add(cases)
    cases.save()
    cases = CaseFile("slicing")
    for add in (parts, fills):
        add(cases)
    cases.save()

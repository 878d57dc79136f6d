"""Pictures of another size.

Where the centre of a pixel lies, and which pixel is nearest:

    half_pixel_centers    (i + ½)·n/m - ½      nearest: rounded half up
    align_corners         i·(n - 1)/(m - 1)    nearest: rounded half up
    neither               i·n/m                nearest: rounded down
"""

from __future__ import annotations

from fewbit.frontends.tflite.laid import Laid
from fewbit.frontends.tflite.layer import Layer, op


@op("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def resize(layer: Layer) -> Laid:
    """Resize to a size that is a constant, or computed."""
    x, o = layer.first(0), layer.options
    if len(x.perm) != 4:
        raise layer.misfit(f"its input has {len(x.perm)} axes; it must have 4")
    corners, half = o.flag("AlignCorners"), o.flag("HalfPixelCenters")
    way = "align_corners" if corners else "half_pixel" if half else "asymmetric"
    near = layer.operator.op == "RESIZE_NEAREST_NEIGHBOR"
    how = {"mode": "nearest", "nearest_mode": "round_prefer_ceil" if corners or half else "floor"}
    attrs = {**(how if near else {"mode": "linear"}), "coordinate_transformation_mode": way}
    if layer.array(1) is None:
        sizes = layer.node("Concat", layer.node("Shape", x.value, end=2), layer.longs(1), axis=0)
        return x.like(layer.main("Resize", x.value, None, None, sizes, **attrs))
    wanted, have = layer.wholes(1, "size"), layer.sizes(x.value)
    if len(wanted) != 2 or min(wanted) < 1:
        raise layer.misfit(f"its size is {wanted}; it must be two numbers of at least 1")
    (high, wide), (batch, channels, *old) = wanted, have
    if batch is not None and channels is not None:
        y = layer.main("Resize", x.value, None, None, layer.const([batch, channels, high, wide]), **attrs)
    elif None not in old and all(w % int(n or 1) == 0 for w, n in zip(wanted, old, strict=True)):
        times = [1.0, 1.0, high / int(old[0] or 1), wide / int(old[1] or 1)]
        y = layer.main("Resize", x.value, None, layer.const(times), **attrs)
    else:
        head = layer.node("Shape", x.value, end=2)
        sizes = layer.node("Concat", head, layer.const([high, wide]), axis=0)
        y = layer.main("Resize", x.value, None, None, sizes, **attrs)
    return x.like(layer.told(y, (batch, channels, high, wide)))

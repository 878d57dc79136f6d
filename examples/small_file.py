"""Make a network small without integer arithmetic: weights in 4 bits, and mixed bit, entropy-coded.

python examples/small_file.py
"""

from pathlib import Path

import fewbit as fb
from fewbit.data.demo import DEMO_MODEL, demo_calibration, demo_test


def main() -> None:
    data, test = demo_calibration(), demo_test()
    four = fb.quantize(DEMO_MODEL, data, quant_type="weight", bit_num=4)
    four.save("demo-w4.onnx")  # standard ONNX: engines unpack the weights when they load it

    mixed = fb.quantize(DEMO_MODEL, data, quant_type="weight", bit_num=0, min_cosine=0.995)
    mixed.save("demo-mixed.fewbit")  # entropy-coded; `fewbit expand` makes ONNX of it
    again = fb.load("demo-mixed.fewbit")

    for name, model, file in (
        ("float", fb.load(DEMO_MODEL), DEMO_MODEL),
        ("4 bits", four, "demo-w4.onnx"),
        ("mixed", again, "demo-mixed.fewbit"),
    ):
        top1 = fb.evaluate(model, test, batch_size=100).accuracy[1].rate
        print(f"{name:8} {Path(file).stat().st_size / 1000:6.1f} kB   top-1 {top1:.3f}")


if __name__ == "__main__":
    main()

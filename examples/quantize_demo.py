"""Quantize the small network that comes with fewbit, and see what it costs and gains.

python examples/quantize_demo.py          writes demo-int8.onnx and demo-int8.plan.json into the current folder
"""

import fewbit as fb
from fewbit.data.demo import DEMO_MODEL, demo_calibration, demo_test


def main() -> None:
    model = fb.load(DEMO_MODEL)
    print(model)

    # 320 images of the training set, as {"image": float32 (320, 1, 28, 28)}
    q = fb.quantize(model, demo_calibration(), calib_mode="entropy", batch_size=32)
    print(q.report.text())

    # 1,000 images that neither training nor calibration has seen, with labels
    found = fb.evaluate(q, demo_test(), reference=model, batch_size=100)
    print(f"\ntop-1 float  {found.reference[1]}")
    print(f"top-1 int8   {found.accuracy[1]}")
    print(f"agreement    {found.agreement}; {found.fixed} fixed, {found.broken} broken")

    q.save("demo-int8.onnx")
    print("\nwrote demo-int8.onnx and demo-int8.plan.json")


if __name__ == "__main__":
    main()

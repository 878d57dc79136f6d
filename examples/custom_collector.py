"""Choose ranges by a rule of your own: a CalibrationCollector, in a quantization and on a running network.

python examples/custom_collector.py
"""

import numpy as np

import fewbit as fb
from fewbit.data.demo import DEMO_MODEL, demo_calibration, demo_test

SIGMAS = 6.0


class SigmaCollector(fb.CalibrationCollector):
    """mean ± 6 standard deviations, cut to what was seen: one stray value cannot widen the range much."""

    def __init__(self, include_layers=None):
        super().__init__()
        self.include_layers = include_layers  # names of values; None = all
        self.seen = {}  # name → count, Σx, Σx², min, max

    def collect(self, name, op_name, arr):
        x = np.asarray(arr, np.float64)
        n, s, ss, lo, hi = self.seen.get(name, (0, 0.0, 0.0, np.inf, -np.inf))
        self.seen[name] = (n + x.size, s + x.sum(), ss + (x * x).sum(), min(lo, x.min()), max(hi, x.max()))

    def post_collect(self):
        ranges = {}
        for name, (n, s, ss, lo, hi) in self.seen.items():
            mean = s / n
            reach = SIGMAS * np.sqrt(max(ss / n - mean**2, 0.0))
            ranges[name] = (max(lo, mean - reach), min(hi, mean + reach))
        return ranges


def main() -> None:
    model, data = fb.load(DEMO_MODEL), demo_calibration()

    q = fb.quantize(model, data, calib_mode="custom", collector=SigmaCollector(), batch_size=32)
    found = fb.evaluate(q, demo_test(), reference=model, batch_size=100)
    print(f"top-1 {found.accuracy[1]}, float {found.reference[1]}")

    # the same class on a float network that runs; feed it whatever you like, as often as you like
    watch = SigmaCollector(include_layers=["image", "logits"])
    run = fb.attach(model, watch)
    for i in range(0, 64, 16):
        outputs = run({"image": data["image"][i : i + 16]})
    print(f"ran on 64 images; the last logits have shape {outputs['logits'].shape}")
    for name, (lo, hi) in watch.post_collect().items():
        print(f"{name:8} {lo:8.3f} … {hi:.3f}")


if __name__ == "__main__":
    main()

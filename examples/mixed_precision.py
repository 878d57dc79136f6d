"""Give some layers 16 bits, others 4, keep some in float; see what each costs and buys.

python examples/mixed_precision.py
"""

import warnings

import fewbit as fb
from fewbit.data.demo import DEMO_MODEL, demo_calibration

SETTINGS = {
    "int8": {},
    "16 bits in layer1": {"overrides": {"/layer1/*": {"bit_num": 16}}},
    "16 bits everywhere": {"bit_num": 16},
    "first layer float": {"exclude_layers": ["/stem/*"]},
    "4 bits in layer4": {"overrides": {"/layer4/*": {"bit_num": 4}}},  # stored as 8: the error without the gain
}


def main() -> None:
    warnings.simplefilter("ignore", fb.FewbitWarning)  # that 16 bits are slow is what we are about to show
    model, data = fb.load(DEMO_MODEL), demo_calibration()
    print(f"{'':20} {'bytes':>8} {'float layers':>13} {'latency':>8} {'output SQNR':>12}")
    for name, words in SETTINGS.items():
        q = fb.quantize(model, data, batch_size=32, **words)
        r = q.report
        print(f"{name:20} {r.size_quantized:>8,} {len(r.kept):>13} {r.latency.ratio:>7.2f}x {r.sqnr:>9.1f} dB")
        if "exclude_layers" in words:
            for layer, reason in q.plan.kept_float().items():
                print(f"    {layer}: {reason}")


if __name__ == "__main__":
    main()

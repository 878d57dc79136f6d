"""Calibrate once, edit a range by hand, apply again without data.

python examples/edit_plan.py              writes table.json into the current folder
"""

import json
from pathlib import Path

import fewbit as fb
from fewbit.data.demo import DEMO_MODEL, demo_calibration, demo_test

VALUE = "/layer4/relu2/Relu_output_0"
TABLE = Path("table.json")


def main() -> None:
    model = fb.load(DEMO_MODEL)
    fused = fb.fuse(model)  # plans are about the fused network
    plan = fb.make_plan(fused)
    fb.calibrate(fused, plan, demo_calibration(), batch_size=32).save(TABLE)

    accuracy("as calibrated", model, fb.apply(fused, TABLE))  # no data from here on

    table = json.loads(TABLE.read_text("utf-8"))
    lo, hi = table["values"][VALUE]["range"]
    table["values"][VALUE]["range"] = [lo, hi / 20]
    TABLE.write_text(json.dumps(table, indent=1), "utf-8")
    print(f"edited {VALUE}: {lo:g} … {hi:g} became {lo:g} … {hi / 20:g}, far too narrow")

    q = fb.apply(fused, TABLE)
    accuracy("as edited", model, q)

    found = fb.compare(model, q, {"image": demo_test()["image"][:100]}, batch_size=50)
    clipped = next(e for e in found.layers if e.name == VALUE)
    print(f"compare sees it: {clipped.clip:.1%} of {VALUE} lies outside of its range")


def accuracy(what: str, model: fb.Model, q: fb.Model) -> None:
    found = fb.evaluate(q, demo_test(), reference=model, batch_size=100)
    print(f"{what:14} top-1 {found.accuracy[1]}, float {found.reference[1]}")


if __name__ == "__main__":
    main()

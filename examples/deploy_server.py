"""Quantize a network for OpenVINO, write the folder that a server gets, and run it there without fewbit.

python examples/deploy_server.py          writes the folder server/ into the current one
"""

import subprocess
import sys
from pathlib import Path

import fewbit as fb
from fewbit.data.demo import DEMO_MODEL, demo_calibration, demo_test


def main() -> None:
    q = fb.quantize(DEMO_MODEL, demo_calibration(), target="openvino", effort="fast", batch_size=32, verify=False)

    # how images became inputs: it was trained on grey pixels with (x / 255 - 0.286) / 0.353
    done = fb.deploy(
        q,
        "openvino",
        "server",
        data=demo_test()["image"],
        image_to_format="GRAY",
        normalize_mean=[0.286 * 255],
        normalize_std=[0.353 * 255],
    )
    print(done.text())

    # from here on only what is in the folder, numpy and openvino
    for script in (["verify.py"], ["run.py", "--threads", "1", "--time", "inputs/1/image.npy"]):
        print(f"\n$ python {' '.join(script)}", flush=True)
        ran = subprocess.run([sys.executable, "-B", *script], cwd=Path("server"), capture_output=True, text=True)
        print(ran.stdout + ran.stderr)


if __name__ == "__main__":
    main()

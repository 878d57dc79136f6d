"""Every form of a network side by side: file, loading, memory, latency, error. What `fewbit sizes` prints.

    python bench/sizes.py [--only NAME …] [--calib 48]

Writes results/sizes.json and .md; with `--only`, the tables of other networks stay as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from itertools import islice
from typing import Any

from common import RESULTS, write
from zoo.nets import NETWORKS

import fewbit as fb
from fewbit.errors import FewbitWarning

NAMES = ("minilm", "efficientnet_lite0", "silero_vad_half")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(NAMES))
    parser.add_argument("--calib", type=int, default=48)
    args = parser.parse_args()
    warnings.simplefilter("ignore", FewbitWarning)
    file = RESULTS / "sizes.json"
    found = json.loads(file.read_text("utf-8"))["tables"] if file.exists() else {}
    for name in args.only:
        network = NETWORKS[name]
        data = list(islice(network.calib(), args.calib))
        made = fb.sizes(network.build(), data, say=lambda what, name=name: print(f"{name}: {what}", file=sys.stderr))
        found[name] = {"text": made.text(), **made.to_json()}
        write("sizes", {"tables": found}, page(found), show=False)
        print(made.text())


def page(tables: dict[str, Any]) -> str:
    """The result for people."""
    return "\n\n".join(f"## {k}\n\n```text\n{t['text']}\n```" for k, t in tables.items())


if __name__ == "__main__":
    main()

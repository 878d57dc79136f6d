"""The page that `fewbit quantize --report` writes: of a few samples, best of those that were not calibrated on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from fewbit.cli.outputs import output_file
from fewbit.cli.typed import command_line
from fewbit.cli.zoo import Asked
from fewbit.errors import UsageError

SAMPLES = 64
"""Shown on the page; `fewbit report` takes as many as are wanted."""

CALIBRATED = "measured on samples that ranges were calibrated on; fewbit report shows others"


def check_report(page: Path, ask: Asked, config: Path | None) -> None:
    """Refuse before the work what could not be written after it.

    Raises:
        UsageError: no data, the name of an input, another suffix. OutputError: it cannot be written there.
    """
    from fewbit.report.full.report import check_page

    check_page(output_file(page, ask.model, config, ask.params, data=ask.data))
    if ask.data is None:
        raise UsageError("a report needs data to run on; give it with --data PATH, or leave --report out")


def write_report(page: Path, given: Any, network: Path, source: Any, about: Any, say: Any) -> None:
    """Measure the network as it lies on disk, and write the page.

    Args:
        given: the float network. source: the data. about: the report of quantizing. say: told what is done, or None.
    """
    from dataclasses import replace

    from fewbit import api
    from fewbit.core.plan import Plan
    from fewbit.report.quantized import plan_path

    plan = Plan.load(plan_path(network))
    used, batches = plan.config.get("num_calib_batches") or 0, source.batches or 0
    fresh = 0 < used < batches
    size = max(1, math.ceil(source.samples / batches)) if batches and source.samples else 1
    found = api.make_report(
        given, network, source, plan=plan, num_skipped_batches=used if fresh else 0, limit=math.ceil(SAMPLES / size),
        about=about, command=command_line(), say=say,
    )  # fmt: skip
    if not fresh and plan.data:
        found = replace(found, notes=(*found.notes, CALIBRATED))
    found.save(page)

"""The command line: one verb a file, its flags made from the fields of the configs.

    fewbit quantize net.onnx -o net-int8.onnx --data photos/ --calib-mode entropy

Results go to stdout, everything else to stderr; exit code 0 done, 1 failed, 2 bad usage, 130 and 143 interrupted.
Files appear whole or not at all. Nothing heavy is imported before a verb runs.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Args:
        arguments: the words after `fewbit`; default: those that the process was started with.
    """
    from fewbit.cli.boundary import run

    return run(arguments)

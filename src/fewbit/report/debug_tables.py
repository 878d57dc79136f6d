"""The CSV files of a debug folder, as MindSpore Lite's converter names and fills them.

    round_N.csv          a line for each tensor, original and dequantized, on batch N; in front its number
    quant_param.csv      a line for each scale
    output_summary.csv   a line for each output of the network and each batch

Every line ends in a comma. Files of MindSpore Lite itself are read as well: columns are found by their names, the last
comma may be missing, cells may be quoted.
"""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from fewbit.errors import DataError, OutputError, UsageError, unknown

ROUND = (
    ",NodeName,NodeType,TensorName,InOutFlag,DataTypeFlag,TensorTypeFlag,Min,Q1,Median,Q3,Max,Mean,Var,Sparsity,Clip,"
    "CosineSimilarity,"
)
PARAMS = "NodeName,NodeType,TensorName,ElementsNum,Dims,Scale,ZeroPoint,Bits,CorrectionVar,CorrectionMean,"
SUMMARY = "Round,TensorName,CosineSimilarity,"

PARAMS_FILE, SUMMARY_FILE, PLAN_FILE = "quant_param.csv", "output_summary.csv", "plan.json"
ROUND_FILE = re.compile(r"round_(\d+)\.csv")

FLAGS = {
    "InOutFlag": ("Input", "Output"), "DataTypeFlag": ("Origin", "Dequant"), "TensorTypeFlag": ("Activation", "Weight")
}  # fmt: skip

Cells = dict[str, str]


def round_file(n: int) -> str:
    """Name of the table of one batch."""
    return f"round_{n}.csv"


# -- writing ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and remove it again if nothing came of it.

    Raises:
        OutputError: it cannot be made.
    """
    fresh = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise OutputError(f"cannot make the folder {folder}: {e.strerror or e}; give another one") from e
    try:
        yield
    except BaseException:
        if fresh:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def forget_rounds(folder: Path, count: int) -> None:
    """Remove tables of batches from number `count` on: an earlier call had more of them."""
    for file in folder.iterdir():
        match = ROUND_FILE.fullmatch(file.name)
        if match and int(match[1]) >= count:
            file.unlink()


def begin(file: TextIO, header: str) -> None:
    """Write the line of column names."""
    file.write(header + "\n")


def add(file: TextIO, rows: Iterable[Sequence[Any]]) -> None:
    """Write lines; floats with the nine digits that float32 needs."""
    out = csv.writer(file, lineterminator="\n")
    for row in rows:
        out.writerow([*(f"{x:.9g}" if isinstance(x, float) else x for x in row), ""])


# -- reading ----------------------------------------------------------------------------------------------------------


def rounds_in(folder: Path) -> list[Path]:
    """The tables of batches in a folder, in their order.

    Raises:
        UsageError: no such folder, or there is none in it.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; give the one that debug_info_save_path named")
    found = [(int(m[1]), f) for f in folder.iterdir() if (m := ROUND_FILE.fullmatch(f.name))]
    if not found:
        raise UsageError(
            f"{folder} holds no round_0.csv; give the folder that debug_info_save_path named when the network was "
            "quantized"
        )
    return [f for _, f in sorted(found)]


def lines(path: Path, header: str, needed: Sequence[str]) -> Iterator[tuple[int, Cells]]:
    """Each line of a table with its number in the file; columns are found by name, whatever their case.

    Args:
        header: the columns of such a table, for the message. needed: those that must be there.

    Raises:
        DataError: it cannot be read, a needed column is missing, a line is too short or too long.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            names = [name.strip() for name in _cut(next(reader, []), 0)]
            at = _columns(path, names, header, needed)
            for row in reader:
                cells = _cut(row, len(names))
                if not any(cells):
                    continue
                if len(cells) != len(names):
                    why = "it was cut off" if len(cells) < len(names) else "names with commas need double quotes"
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(cells)} cells under {len(names)} columns; {why}"
                    )
                yield reader.line_num, {column: cells[i].strip() for column, i in at.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise DataError(f"cannot read {path}: {e}") from e


def _cut(row: list[str], most: int) -> list[str]:
    """Without the empty cells behind the last comma."""
    while len(row) > most and row and not row[-1].strip():
        row = row[:-1]
    return row


def _columns(path: Path, names: list[str], header: str, needed: Sequence[str]) -> dict[str, int]:
    known = {name.lower(): i for i, name in enumerate(names)}
    for column in needed:
        if column.lower() not in known:
            raise DataError(f"{path} has no column {column}; the columns of such a table are {header.strip(',')}")
    return {column: known[column.lower()] for column in needed}


def number(path: Path, line: int, column: str, text: str) -> float:
    """The number in a cell; nan and inf are some.

    Raises:
        DataError: it is none.
    """
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{path}, line {line}: {column} is {text!r}; it must be a number") from None


def flag(path: Path, line: int, column: str, text: str) -> bool:
    """Whether a flag is the second of its two words: Output, Dequant, Weight.

    Raises:
        DataError: it is neither.
    """
    words = FLAGS[column]
    if text not in words:
        raise DataError(f"{path}, line {line}: {unknown(column, text, words)}")
    return text == words[1]

"""Pickles of plain data, read without pickle: nothing is imported, nothing is called.

    80 02 } q 01 ( U 04 "data" q 02 c numpy.core.multiarray _reconstruct … b u .    →    {"data": array}

An interpreter of the few opcodes that dictionaries of lists, strings, numbers and arrays need (protocols 0 to 3), as
Python 2 and NumPy write them. The functions that a stream names are not looked up: three names stand for what is built
here instead. Any other opcode or name is refused.

Work and memory are bounded by the length of the stream: the number of opcodes is limited, strings are copied once,
keys are texts (hashing nested tuples takes time exponential in their depth), and arrays are views of their bytes.
"""

from __future__ import annotations

import math
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fewbit.errors import DataError

OPCODES = 2_000_000
"""That many are read at most; the largest CIFAR file has about 200,000."""

ARRAY, DTYPE, ENCODE = "numpy.core.multiarray _reconstruct", "numpy dtype", "_codecs encode"
NAMES = {
    ARRAY: ARRAY,
    "numpy._core.multiarray _reconstruct": ARRAY,
    "numpy ndarray": "numpy ndarray",
    DTYPE: DTYPE,
    ENCODE: ENCODE,  # how protocol 2 writes the bytes of Python 3
}
CODES = frozenset(f"{kind}{size}" for kind, sizes in (("u", "1248"), ("i", "1248"), ("f", "248")) for size in sizes)
VALUES = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES UNICODE BINUNICODE "
    "FLOAT BINFLOAT".split()
)
"""Opcodes whose argument is the value."""

CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
AXES, MOST = 32, 2**48
"""Axes of an array, and the length of one, at most."""

TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class _Name:
    """A function or class that the stream names."""

    name: str


@dataclass(eq=False)
class _Blank:
    """An array or a dtype between being made and being filled; the memo holds it before it has a value."""

    kind: str
    value: Any = None


@dataclass
class _Machine:
    """Where the reading stands. Opcodes that need more than a line have a method."""

    what: str
    length: int
    at: int = 0
    opcode: str = ""
    copied: int = 0
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def fault(self, text: str) -> DataError:
        return DataError(f"{self.what} is no pickle of plain data: at byte {self.at}, {self.opcode}: {text}")

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.fault("there is nothing on the stack")
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        if not self.marks:
            raise self.fault("there is no mark")
        start = self.marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def top(self, kind: type) -> Any:
        """What the opcode changes."""
        found = self.pop()
        if type(found) is not kind:
            raise self.fault(f"it takes a {kind.__name__.strip('_').lower()}, not a {type(found).__name__}")
        self.stack.append(found)
        return found

    def fill(self, pairs: list[Any]) -> None:
        """Set items of the dictionary on top."""
        target = self.top(dict)
        if len(pairs) % 2:
            raise self.fault(f"{len(pairs)} keys and values are no pairs")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str):
                raise self.fault(f"a key is a {type(key).__name__}; keys must be texts")
            target[key] = value

    def recall(self, place: int) -> Any:
        if place not in self.memo:
            raise self.fault(f"nothing was remembered as {place}")
        return self.memo[place]

    def name(self, text: str) -> _Name:
        if text not in NAMES:
            raise self.fault(f"{text.replace(' ', '.')!r:.90} is not among the names that data needs; nothing was run")
        return _Name(NAMES[text])

    def as_bytes(self, text: object) -> bytes:
        """The bytes that a string of Python 2 stands for."""
        if isinstance(text, bytes):
            return text
        if not isinstance(text, str):
            raise self.fault(f"it takes a string, not a {type(text).__name__}")
        self.copied += len(text)
        if self.copied > self.length:
            raise self.fault("one string is copied again and again")
        try:
            return text.encode("latin-1")
        except UnicodeEncodeError as e:
            raise self.fault("the string holds characters that are no bytes") from e

    def call(self) -> Any:
        """Stand in for the call of a function with arguments."""
        given, function = self.pop(), self.pop()
        if isinstance(function, _Name) and type(given) is tuple:
            if function.name == ARRAY and given and given[0] == _Name("numpy ndarray"):
                return _Blank("array")
            if function.name == DTYPE and given and isinstance(given[0], str) and given[0] in CODES:
                return _Blank("dtype", np.dtype(given[0]))
            if function.name == ENCODE and len(given) == 2 and given[1] in ("latin1", "latin-1"):
                return self.as_bytes(given[0])
        name = function.name.replace(" ", ".") if isinstance(function, _Name) else f"a {type(function).__name__}"
        raise self.fault(f"{name} is called in a way that data does not need; nothing was run")

    def build(self) -> None:
        """Fill the array or dtype on top with its state."""
        state = self.pop()
        blank = self.top(_Blank)
        if blank.kind == "dtype":
            if not (type(state) is tuple and len(state) >= 8 and state[1] in ("|", "<", ">", "=")):
                raise self.fault("the state of a dtype must be version, byte order, …")
            if any(x is not None for x in state[2:5]):
                raise self.fault("a dtype has fields; only plain numbers are read")
            blank.value = blank.value.newbyteorder(state[1])
            return
        if not (type(state) is tuple and len(state) == 5 and isinstance(state[2], _Blank)):
            raise self.fault("the state of an array must be version, shape, dtype, order, bytes")
        _, shape, dtype, fortran, raw = state
        if dtype.kind != "dtype" or type(shape) is not tuple or len(shape) > AXES:
            raise self.fault("an array has no dtype, or no shape of a few axes")
        if not all(type(n) is int and 0 <= n <= MOST for n in shape):
            raise self.fault(f"an axis of an array is no whole number from 0 to {MOST}")
        size = math.prod(shape) * dtype.value.itemsize
        if not isinstance(raw, (str, bytes)) or len(raw) != size:
            held = f"{len(raw)} bytes" if isinstance(raw, (str, bytes)) else f"a {type(raw).__name__}"
            raise self.fault(f"an array of shape {shape} takes {size} bytes, and has {held}")
        values = np.frombuffer(self.as_bytes(raw), dtype.value)
        blank.value = values.reshape(shape, order="F" if fortran is True else "C")

    def step(self, opcode: str, argument: Any) -> None:
        """Execute one opcode."""
        push = self.stack.append
        match opcode:
            case "MARK":
                self.marks.append(len(self.stack))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.pop()
                push(self.memo[argument])
            case "GET" | "BINGET" | "LONG_BINGET":
                push(self.recall(argument))
            case "APPENDS":
                items = self.since_mark()
                self.top(list).extend(items)
            case "APPEND":
                item = self.pop()
                self.top(list).append(item)
            case "SETITEMS":
                self.fill(self.since_mark())
            case "SETITEM":
                value = self.pop()
                self.fill([self.pop(), value])
            case "TUPLE":
                push(tuple(self.since_mark()))
            case "LIST":
                push(self.since_mark())
            case "DICT":
                items = self.since_mark()
                push({})
                self.fill(items)
            case "GLOBAL":
                push(self.name(argument))
            case "REDUCE":
                push(self.call())
            case "BUILD":
                self.build()
            case _:
                raise self.fault("data does not need this opcode; nothing was run")


def read_pickle(raw: bytes | bytearray, what: str) -> dict[str, Any]:
    """Read a pickled dictionary of plain values and arrays.

    Args:
        raw: the whole stream. what: its file, for messages.

    Returns:
        Its items; strings of Python 2 are texts whose characters are their bytes.

    Raises:
        DataError: the stream is damaged, or holds anything but data; names the opcode or the function.
    """
    machine = _Machine(what, len(raw))
    try:
        for count, (opcode, argument, at) in enumerate(pickletools.genops(bytes(raw))):
            machine.at, machine.opcode = at or 0, opcode.name
            if count >= OPCODES:
                raise machine.fault(f"there are more than {OPCODES} opcodes")
            if opcode.name == "STOP":
                break
            _execute(machine, opcode.name, argument)
    except (ValueError, struct.error, OverflowError) as e:
        raise DataError(f"{what} is no pickle, or is cut off: {e}; fetch it anew") from e
    found = machine.pop()
    if type(found) is not dict:
        raise machine.fault(f"the stream holds a {type(found).__name__}; it must hold a dictionary")
    return {key: value.value if isinstance(value, _Blank) else value for key, value in found.items()}


def _execute(machine: _Machine, opcode: str, argument: Any) -> None:
    if opcode in VALUES:
        machine.stack.append(argument)
    elif opcode in CONSTANTS:
        machine.stack.append(CONSTANTS[opcode]())
    elif opcode in TUPLES:
        items = [machine.pop() for _ in range(TUPLES[opcode])]
        machine.stack.append(tuple(reversed(items)))
    elif opcode != "PROTO":
        machine.step(opcode, argument)

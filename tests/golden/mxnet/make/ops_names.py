"""All names of every MXNet operator, one operator in a line, its own name first; run as casefile.py says."""

from __future__ import annotations

import ctypes
from collections import defaultdict

from casefile import FOLDER
from mxnet.base import _LIB, OpHandle, check_call


def handle(name: str) -> int:
    found = OpHandle()
    check_call(_LIB.NNGetOpHandle(name.encode(), ctypes.byref(found)))
    return found.value


def own_name(operator: int) -> str:
    texts = [ctypes.c_char_p() for _ in range(4)]
    lists = [ctypes.POINTER(ctypes.c_char_p)() for _ in range(3)]
    count = ctypes.c_uint()
    name, about, key, kind = map(ctypes.byref, texts)
    info = (name, about, ctypes.byref(count), *map(ctypes.byref, lists), key, kind)
    check_call(_LIB.MXSymbolGetAtomicSymbolInfo(ctypes.c_void_p(operator), *info))
    return texts[0].value.decode()


count, array = ctypes.c_uint(), ctypes.POINTER(ctypes.c_char_p)()
check_call(_LIB.MXListAllOpNames(ctypes.byref(count), ctypes.byref(array)))
groups = defaultdict(list)
for text in sorted(array[i].decode() for i in range(count.value)):
    if "backward" not in text:
        groups[handle(text)].append(text)
lines = sorted(" ".join([own_name(h), *(n for n in names if n != own_name(h))]) for h, names in groups.items())
(FOLDER / "names.txt").write_text("\n".join(lines) + "\n")
print(len(lines), "operators")

"""magika: the type of a file from its first and last 1,024 bytes. The files are made here, so their type is known."""

from __future__ import annotations

import bz2
import csv
import gzip
import inspect
import io
import json
import lzma
import pickle
import plistlib
import tarfile
import wave
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.base import Feeds, Network, top1
from zoo.fetch import wheel
from zoo.sentences import paragraph

EDGE, BLOCK, PADDING = 1024, 4096, 256
MODULES = (
    "argparse ast bisect calendar cmd codecs collections configparser contextlib copy csv dataclasses datetime difflib "
    "dis email.message enum fileinput fractions ftplib functools getopt getpass glob gzip hashlib heapq html.parser "
    "http.client inspect json.decoder logging"
).split()


def folder() -> Path:
    """Network and its list of types."""
    return wheel("magika", "1.0.3") / "magika" / "models" / "standard_v3_3"


def feeds(data: bytes) -> Feeds:
    """Both ends without white space around them, padded with 256 to 1,024 each; (1, 2048), int32."""
    x = np.full((1, 2 * EDGE), PADDING, np.int32)
    first, last = data[:BLOCK].lstrip()[:EDGE], data[-BLOCK:].rstrip()[-EDGE:]
    x[0, : len(first)] = np.frombuffer(first, np.uint8)
    x[0, 2 * EDGE - len(last) :] = np.frombuffer(last, np.uint8)
    return {"bytes": x}


def rows(number: int) -> list[dict[str, Any]]:
    """A small table."""
    rng = np.random.default_rng((23, number))
    names = paragraph(number, 20).split()
    return [
        {"name": str(rng.choice(names)), "count": int(rng.integers(1000)), "share": rng.random()} for _ in range(40)
    ]


def image(number: int, kind: str) -> bytes:
    """A smooth random picture in a file of that kind."""
    rng = np.random.default_rng((29, number))
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    out = io.BytesIO()
    small.resize((96, 80), Image.Resampling.BICUBIC).save(out, kind)
    return out.getvalue()


def table(number: int, separator: str) -> bytes:
    """Rows with a separator between the columns."""
    out = io.StringIO()
    writer = csv.DictWriter(out, ["name", "count", "share"], delimiter=separator)
    writer.writeheader()
    writer.writerows(rows(number))
    return out.getvalue().encode()


def archive(number: int) -> bytes:
    """A tar file with three texts."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as f:
        for i in range(3):
            text = paragraph(number + i).encode()
            info = tarfile.TarInfo(f"part{i}.txt")
            info.size = len(text)
            f.addfile(info, io.BytesIO(text))
    return out.getvalue()


def zipped(number: int) -> bytes:
    """A zip file with three texts."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as f:
        for i in range(3):
            f.writestr(f"part{i}.txt", paragraph(number + i))
    return out.getvalue()


def sound(number: int) -> bytes:
    """Half a second of noise."""
    out = io.BytesIO()
    with wave.open(out, "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(8000)
        f.writeframes(np.random.default_rng(number).normal(0, 2000, 4000).astype("<i2").tobytes())
    return out.getvalue()


def array(number: int) -> bytes:
    """An .npy file."""
    out = io.BytesIO()
    np.save(out, np.random.default_rng(number).normal(size=(40, 30)))
    return out.getvalue()


def python(number: int) -> bytes:
    """Source of a module of the standard library."""
    return inspect.getsource(import_module(MODULES[number % len(MODULES)])).encode()


def html(number: int) -> bytes:
    """A page with a table."""
    cells = "".join(f"<tr><td>{r['name']}</td><td>{r['count']}</td></tr>\n" for r in rows(number))
    body = f"<h1>Report {number}</h1>\n<p class='intro'>{paragraph(number)}</p>\n<table>\n{cells}</table>"
    return f"<!DOCTYPE html>\n<html>\n<head><title>Report</title></head>\n<body>\n{body}\n</body>\n</html>\n".encode()


def xml(number: int) -> bytes:
    """Rows as elements."""
    inner = "".join(f"  <item id='{i}'><name>{r['name']}</name></item>\n" for i, r in enumerate(rows(number)))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<items>\n{inner}</items>\n'.encode()


def ini(number: int) -> bytes:
    """Sections of settings."""
    return "\n".join(
        f"[part{i}]\ncount = {r['count']}\nshare={r['share']}\n" for i, r in enumerate(rows(number))
    ).encode()


def text(number: int, pack: Callable[[bytes], bytes] = bytes) -> bytes:
    """Sentences, packed."""
    return pack(paragraph(number, 30).encode())


KINDS: dict[str, Callable[[int], bytes]] = {  # the network's word for a type -> file number n
    "applebplist": lambda n: plistlib.dumps(rows(n), fmt=plistlib.FMT_BINARY),
    "bmp": partial(image, kind="BMP"),
    "bzip": partial(text, pack=bz2.compress),
    "csv": partial(table, separator=","),
    "gif": partial(image, kind="GIF"),
    "gzip": partial(text, pack=partial(gzip.compress, mtime=0)),
    "html": html,
    "ico": partial(image, kind="ICO"),
    "ini": ini,
    "jpeg": partial(image, kind="JPEG"),
    "json": lambda n: json.dumps(rows(n), indent=1).encode(),
    "jsonl": lambda n: "\n".join(map(json.dumps, rows(n))).encode(),
    "npy": array,
    "pdf": partial(image, kind="PDF"),
    "pickle": lambda n: pickle.dumps(rows(n)),
    "png": partial(image, kind="PNG"),
    "python": python,
    "tar": archive,
    "tga": partial(image, kind="TGA"),
    "tiff": partial(image, kind="TIFF"),
    "tsv": partial(table, separator="\t"),
    "wav": sound,
    "webp": partial(image, kind="WEBP"),
    "xml": xml,
    "xz": partial(text, pack=lzma.compress),
    "zip": zipped,
    "zlibstream": partial(text, pack=zlib.compress),
}


def samples(first: int, count: int) -> Iterator[tuple[Feeds, int]]:
    """`count` files of each kind."""
    types = json.loads((folder() / "config.min.json").read_text())["target_labels_space"]
    for n in range(first, first + count):
        for kind, make in KINDS.items():
            yield feeds(make(n)), types.index(kind)


FILES = (
    Network(
        "magika",
        build=lambda: folder() / "model.onnx",
        calib=lambda: (f for f, _ in samples(0, 4)),
        judge=lambda: samples(16, 12),
        metric=top1("target_label"),
        scores="target_label",
        note=f"bytes to 214 file types; {len(KINDS)} types made here; the output is a softmax",
    ),
)

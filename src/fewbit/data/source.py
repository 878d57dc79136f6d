"""open_data: find out what was handed over, and open it as batches for a model."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import fields
from pathlib import Path
from typing import Any

from fewbit.config import DataConfig, default_of
from fewbit.data.arrays import array_samples, match_names
from fewbit.data.base import DataSource, Samples, TensorInfo
from fewbit.data.folders import folder_samples, join_samples
from fewbit.data.function import PATTERN, guarded, load_function, said
from fewbit.data.indexed import IndexedSource
from fewbit.data.npy import MemoryTable, open_npy, open_npz
from fewbit.data.records import record_samples
from fewbit.data.signature import Signature, Slot, read_signature, to_array
from fewbit.data.stream import StreamSource
from fewbit.errors import ConfigError, DataError, UnknownName, UsageError, unknown

ACCEPTED = (
    "a folder of images or .bin files, an .npy, .npz or .rec file, 'input:folder,input:folder', 'module:function', "
    "a function, a numpy array, a mapping from input names to arrays or folders, or an iterable of arrays, tuples or "
    "mappings"
)
IMAGE_FIELDS = tuple(
    f.name for f in fields(DataConfig) if f.name.startswith(("image_", "normalize_", "resize_", "center_", "input_"))
)
PLAIN = DataConfig()


def open_data(data: object, inputs: Sequence[TensorInfo], config: DataConfig = PLAIN) -> DataSource:
    """Open data as batches for a model.

    Args:
        data: see `fewbit.data` for what is accepted.
        inputs: the inputs of the model.
        config: batch size, and how images become tensors.

    Raises:
        DataError: the data is missing, of an unknown kind, or does not fit the inputs; `EmptyData` if it holds nothing.
        UsageError: a name or a setting does not fit; `UnknownName` offers the nearest name.
    """
    signature = read_signature(inputs)
    if isinstance(data, str):
        return _open_text(data, signature, config)
    if isinstance(data, os.PathLike):
        return _open_path(Path(data), signature, config)
    return _open_value(data, signature, config, f"the {type(data).__name__}")


def _open_text(text: str, signature: Signature, config: DataConfig) -> DataSource:
    if os.path.exists(text):
        return _open_path(Path(text), signature, config)
    if pairs := _pairs(text, signature):
        return _open_mapping(pairs, signature, config, text)
    if PATTERN.fullmatch(text):
        return _open_function(_function(text, signature), signature, config, text)
    raise _missing(text)


def _function(text: str, signature: Signature) -> Callable[[], Any]:
    """The function; where there is no such module, the text may be meant as `input:path`."""
    try:
        return load_function(text)
    except UnknownName:
        raise
    except UsageError as e:
        name, _, path = text.partition(":")
        if os.path.exists(path):
            raise unknown("input name", name, signature.names, hint=f"It is in {text!r}") from e
        raise UsageError(f"{e}; nor is {name!r} an input: there is {', '.join(map(repr, signature.names))}") from e


def _pairs(text: str, signature: Signature) -> dict[str, Path] | None:
    """`in1:/dir1,in2:/dir2`; input names may hold colons. None: the text is something else."""
    found: dict[str, Path] = {}
    for part in text.split(","):
        names = [n for n in signature.names if part.startswith(f"{n}:")]
        if not names:
            if not found and (PATTERN.fullmatch(text) or not re.match(r"[^,:/\\]+:[/.\w]", text)):
                return None
            raise unknown("input name", part.rpartition(":")[0] or part, signature.names, hint=f"It is in {text!r}")
        name = max(names, key=len)
        if name in found:
            raise DataError(f"{text!r} names input {name!r} twice; give each input once")
        found[name] = Path(part[len(name) + 1 :])
    return found


def _open_path(path: Path, signature: Signature, config: DataConfig) -> DataSource:
    if path.suffix.lower() == ".npz" and path.is_file():
        samples: Samples = array_samples(open_npz(path, in_order=not config.shuffle), signature, str(path))
        images = False
    else:
        samples, images = _one_input(path, signature.only(str(path)), signature, config)
    return _numbered(samples, images, signature, config, str(path))


def _one_input(path: Path, slot: Slot, signature: Signature, config: DataConfig) -> tuple[Samples, bool]:
    """Samples of one input, and whether they are images."""
    if not path.exists():
        raise _missing(path)
    if path.is_dir():
        return folder_samples(path, slot, config)
    if path.suffix.lower() == ".rec":
        return record_samples(path, slot, config), True
    if path.suffix.lower() != ".npy":
        raise DataError(f"{path} is a file of an unknown kind {path.suffix!r}; data may be {ACCEPTED}")
    alone = Signature((slot,), signature.batch)
    return array_samples({slot.name: open_npy(path)}, alone, str(path)), False


def _missing(path: object) -> DataError:
    return DataError(f"{path}: there is no such file or folder; data may be {ACCEPTED}")


def _numbered(samples: Samples, images: bool, signature: Signature, config: DataConfig, what: str) -> DataSource:
    if not images:
        _refuse_image_settings(config, what)
    return IndexedSource(samples, signature, config)


class FedAsItIs(ConfigError):
    """Settings of images came with data that holds none."""


def _refuse_image_settings(config: DataConfig, what: str) -> None:
    """Arrays are fed as they are: a setting that would change images would be ignored."""
    for f in fields(config):
        if f.name in IMAGE_FIELDS and getattr(config, f.name) != default_of(f):
            raise FedAsItIs(
                f"{f.name} is for images, and {what} is fed as it is; leave it out, "
                "or hand a folder of images or a .rec file"
            )


def _open_mapping(data: Mapping[str, Any], signature: Signature, config: DataConfig, what: str) -> DataSource:
    on_disk = any(isinstance(v, (str, os.PathLike)) for v in data.values())
    if not on_disk:
        tables = {str(k): MemoryTable(to_array(v, f"{what}: {k!r}")) for k, v in data.items()}
        return _numbered(array_samples(tables, signature, what), False, signature, config, what)
    found, labels = match_names(data, signature, what)
    if labels is not None:
        raise DataError(f"{what}: labels go with arrays; for folders, sort the images into a folder for each class")
    parts: dict[str, Samples] = {}
    any_images = False
    for slot in signature.slots:
        value = found[slot.name]
        if isinstance(value, (str, os.PathLike)):
            parts[slot.name], images = _one_input(Path(value), slot, signature, config)
            any_images |= images
        else:
            table = MemoryTable(to_array(value, f"{what}: {slot.name!r}"))
            parts[slot.name] = array_samples({slot.name: table}, Signature((slot,), signature.batch), what)
    return _numbered(join_samples(parts, what), any_images, signature, config, what)


def _open_value(data: Any, signature: Signature, config: DataConfig, what: str) -> DataSource:
    if isinstance(data, Mapping):
        return _open_mapping(data, signature, config, what)
    if _is_array(data):
        table = MemoryTable(to_array(data, what))
        return _numbered(
            array_samples({signature.only(what).name: table}, signature, what), False, signature, config, what
        )
    if callable(data) and (isinstance(data, type) or not (isinstance(data, Iterable) or hasattr(data, "__getitem__"))):
        name = f"the function {getattr(data, '__qualname__', type(data).__name__)}"
        return _open_function(said(data, name), signature, config, name)
    _refuse_image_settings(config, what)
    items = _iterable(data, what)
    first = data[0] if isinstance(data, (list, tuple)) and data else None
    once = isinstance(data, Iterator)
    return StreamSource(items, signature, config, what=what, once=once, count=_count(data), first=first)


def _is_array(data: object) -> bool:
    return hasattr(data, "shape") and hasattr(data, "__array__")


def _iterable(data: Any, what: str) -> Callable[[], Iterable[Any]]:
    """What gives the items of a pass."""
    if isinstance(data, (str, bytes)):
        raise DataError(f"{what} is text; data may be {ACCEPTED}")
    if isinstance(data, Iterable):
        return lambda: data
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):  # a torch Dataset: may never raise IndexError
        return lambda: (data[i] for i in range(len(data)))
    raise DataError(f"{what} cannot be used as data; it may be {ACCEPTED}")


def _count(data: object) -> int | None:
    try:
        return len(data) if isinstance(data, Sized) else None
    except TypeError:  # a DataLoader over an endless set has a length that raises
        return None


def _open_function(call: Callable[[], Any], signature: Signature, config: DataConfig, text: str) -> DataSource:
    given = call()
    if isinstance(given, Mapping) or _is_array(given):
        return _open_value(given, signature, config, f"what {text} returned")
    _refuse_image_settings(config, text)
    _iterable(given, f"what {text} returned, {given!r:.40},")
    waiting = [given]  # the result of the first call serves the first pass

    def items() -> Iterable[Any]:
        value = waiting.pop() if waiting else call()
        return guarded(text, _iterable(value, f"what {text} returned")())

    first = given[0] if isinstance(given, (list, tuple)) and given else None
    return StreamSource(items, signature, config, what=text, count=_count(given), first=first)

"""[data_preprocess_param]: where the data is, and how it is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from fewbit.config import DataConfig
from fewbit.errors import ConfigError
from fewbit.mindspore.file import File
from fewbit.mindspore.keys import DATA, IMAGES, TABLE

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
IMAGE_KEYS = tuple(name for section, name in TABLE if section == DATA and not name.startswith(("calibrate_", "input_")))


def read_data(file: File) -> tuple[str | None, DataConfig, str]:
    """The data that a file names, as `fewbit.data.open_data` takes it, how to read it, and what of it is not there.

    Raises:
        ConfigError: keys that need each other, or an input_type that the folders contradict.
    """
    path, size, kind = (file(DATA, key) for key in ("calibrate_path", "calibrate_size", "input_type"))
    folders = _folders(path, file.name) if path is not None else {}
    for key, value in (("calibrate_size", size), ("input_type", kind)):
        if path is not None and value is None:
            raise ConfigError(f"{file.name}: calibrate_path needs {key} beside it in [{DATA}]")
    for name, folder in folders.items():
        _look(file, name, Path(folder), kind, size)
    words = {key: file(DATA, key) for key in IMAGE_KEYS if file.given(DATA, key)}
    if kind == "BIN":
        file.unused(DATA, "input_type is BIN, and buffers are fed as they are", only=IMAGE_KEYS)
        words = {}
    elif kind == IMAGES:
        words = {"image_to_format": file(DATA, "image_to_format")} | words
    text = ",".join(f"{name}:{folder}" for name, folder in folders.items()) or None
    return text, DataConfig(batch_size=1, **words), _missing(file, folders)


def _missing(file: File, folders: Mapping[str, str]) -> str:
    """What to say to who needs the data; empty if all is there."""
    for name, folder in folders.items():
        if not Path(folder).exists():
            where = "" if Path(folder).is_absolute() else f" in {os.getcwd()}, where relative paths start"
            named = f"{file.name}: calibrate_path in [{DATA}] is {folder!r} for input {name!r}"
            return f"{named}; there is no such folder{where}"
    return ""


def _folders(text: str, name: str) -> Mapping[str, str]:
    """`in1:/dir1,in2:'/dir2'` by input; an input's name may hold colons, and so may a folder in quotes."""
    found: dict[str, str] = {}
    for part in text.split(","):
        before, quoted, inside = part.strip().partition("'")
        if quoted:
            entry, folder = before.strip().removesuffix(":"), inside.removesuffix("'")
        else:
            entry, _, folder = (piece.strip() for piece in part.rpartition(":"))
        if not entry or not folder:
            raise ConfigError(f"{name}: calibrate_path is {text!r}; it must look like input1:/folder1,input2:/folder2")
        if entry in found:
            raise ConfigError(f"{name}: calibrate_path names the input {entry!r} twice")
        found[entry] = folder
    return found


def _look(file: File, name: str, folder: Path, kind: str, size: int) -> None:
    """Compare what a folder holds with what the file says of it; a folder that is not there is told when it is read."""
    if not folder.is_dir():
        return
    endings = [Path(f).suffix.lower() for f in os.listdir(folder) if not f.startswith(".")]
    wrong = sorted({e for e in endings if (e in PICTURES) == (kind == "BIN") and (e in PICTURES or e == ".bin")})
    if wrong:
        raise ConfigError(
            f"{file.name}: input_type is {kind}, and {folder}, for input {name!r}, holds {', '.join(wrong)} files; "
            f"it must be {IMAGES} for pictures and BIN for raw buffers, which end in .bin"
        )
    count = sum(e in PICTURES or e == ".bin" for e in endings)
    if 0 < count < size:
        file.told.append(f"{file.name}: calibrate_size is {size}, and {folder} holds {count} samples; all are used")

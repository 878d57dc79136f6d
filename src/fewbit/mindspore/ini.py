"""Files with sections of `key=value`, as MindSpore Lite's converter reads them, and TOML files with the same words.

    [full_quant_param]                   a section
    # MAX_MIN, KL or REMOVAL_OUTLIER     a comment: a line of its own
    activation_quant_method = KL         a key; everything behind the first = is its value
    target_device=                       a key without a value counts as not given

Nothing is quoted, continued on the next line or replaced; names are case-sensitive.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fewbit.errors import ConfigError

SECTION = re.compile(r"\[([^\[\]]+)\]")


class Given(NamedTuple):
    """What a file gives for a key, and where: `line 3`. A TOML file has no lines, but values of types."""

    text: str
    where: str
    value: Any = None


Sections = dict[str, dict[str, Given]]


def read_file(path: str | os.PathLike[str]) -> Sections:
    """Section → key → what is given, in the order of the file; `.toml` files are TOML.

    Raises:
        ConfigError: the file cannot be read, or a line of it.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"cannot read the config file {path}: {e}") from e
    return read_toml(text, str(path)) if path.suffix.lower() == ".toml" else read_text(text, str(path))


def read_text(text: str, name: str) -> Sections:
    """Read the text of an INI file.

    Raises:
        ConfigError: a line that is none of section, key and comment, a key before the first section or without a name,
            a section or a key twice.
    """
    found: Sections = {}
    section: str | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        line, at = raw.strip(), f"{name}, line {number}"
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = _section(line, at, found)
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not key:
            raise ConfigError(f"{at}: {line!r} is neither [section] nor key=value; comments begin with #")
        if section is None:
            raise ConfigError(f"{at}: {key!r} stands before the first section, such as [common_quant_param]")
        if key in found[section]:
            raise ConfigError(f"{at}: {key!r} is given twice in [{section}]; keep one of them")
        found[section][key] = Given(value, at)
    _refuse_own(
        found, name, f"name it .toml, and hand it to: fewbit quantize --config {Path(name).with_suffix('.toml')}"
    )
    return found


def _section(line: str, at: str, found: Sections) -> str:
    match = SECTION.fullmatch(line)
    if match is None:
        raise ConfigError(f"{at}: {line!r} is no section; it must look like [common_quant_param]")
    name = match[1].strip()
    if name in found:
        raise ConfigError(f"{at}: the section [{name}] is there twice; put its keys together")
    found[name] = {}
    return name


def read_toml(text: str, name: str) -> Sections:
    """Read the same words from TOML: tables are sections; numbers, booleans and lists may stand for their texts.

    Raises:
        ConfigError: not TOML, or a key outside of a table, or a table within a table.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{name} is not valid TOML: {e}") from e
    found: Sections = {}
    _refuse_own(tables, name, f"hand it to: fewbit quantize --config {name}")
    for table, keys in tables.items():
        if not isinstance(keys, Mapping):
            raise ConfigError(f"{name}: {table!r} stands before the first section, such as [common_quant_param]")
        found[table] = {
            key: Given(_as_text(value, f"{name}: {table}.{key}"), name, value) for key, value in keys.items()
        }
    return found


def _refuse_own(tables: Mapping[str, Any], name: str, advice: str) -> None:
    """Refuse what is a config of fewbit itself, not of the converter."""
    if tables and set(tables) <= {"quantize", "data"}:
        heads = " and ".join(f"[{table}]" for table in tables)
        raise ConfigError(f"{name} is fewbit's own config, with {heads}, and no config of the converter; {advice}")


def _as_text(value: Any, what: str) -> str:
    """`true`, `[127.5, 127.5]`, `4` and "KL" as an INI file has them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    if isinstance(value, list) and not any(isinstance(v, (list, dict)) for v in value):
        return ",".join(_as_text(v, what) for v in value)
    raise ConfigError(f"{what} is {value!r}; it must be text, a number, true or false, or a list of these")

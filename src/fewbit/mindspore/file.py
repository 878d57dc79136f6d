"""A converter config while it is read: the values of its keys, checked, and what is to be told of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewbit.mindspore.ini import Given, Sections
from fewbit.mindspore.keys import TABLE, Key, check_section, key_named


class File:
    """The values of a file, and what is to be told of them."""

    def __init__(self, sections: Sections, name: str) -> None:
        self.name = name
        self.told: list[str] = []
        self.values: dict[tuple[str, str], Any] = {}
        for section, given in sections.items():
            check_section(section, name)
            idle: dict[str, list[str]] = {}
            for key, found in given.items():
                known = key_named(section, key, name)
                if found.text and self._take(known, found):
                    idle.setdefault(known.because, []).append(key)
            self._tell(section, idle, "ignored")

    def _take(self, key: Key, given: Given) -> bool:
        """Keep a value; whether that is to be told as ignored."""
        if given.value is None:
            key.check_quotes(given.text, given.where)
        else:
            key.check_type(given.value, given.where)
        value = key.read(given.text, given.where)
        if not key.because:
            self.values[key.section, key.name] = value
        return bool(key.because) and given.text.lower() not in key.same

    def _tell(self, section: str, keys: Mapping[str, list[str]], what: str) -> None:
        """One sentence for each reason."""
        for why, names in keys.items():
            told = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
            verb = "are" if len(names) > 1 else "is"
            self.told.append(f"{self.name}: {told} in [{section}] {verb} {what}: {why}")

    def __call__(self, section: str, key: str) -> Any:
        """The value, or the converter's default."""
        return self.values.get((section, key), TABLE[section, key].default)

    def given(self, section: str, key: str) -> bool:
        """Whether the file says it."""
        return (section, key) in self.values

    def unused(self, section: str, why: str, *, but: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> None:
        """Tell of the keys of a section that have no effect."""
        names = [k for at, k in self.values if at == section and k not in but and (not only or k in only)]
        self._tell(section, {why: names} if names else {}, "not used")

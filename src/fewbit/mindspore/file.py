"""A converter config while it is read: the values of its keys, checked, and what is to be told of them."""

from __future__ import annotations

from typing import Any

from fewbit.mindspore.ini import Sections
from fewbit.mindspore.keys import TABLE, Key, check_section, key_named


class File:
    """The values of a file, and what is to be told of them."""

    def __init__(self, sections: Sections, name: str) -> None:
        self.name = name
        self.told: list[str] = []
        self.values: dict[tuple[str, str], Any] = {}
        for section, given in sections.items():
            check_section(section, name)
            for key, (text, where) in given.items():
                known = key_named(section, key, name)
                if text:
                    self._take(known, text, where)

    def _take(self, key: Key, text: str, where: str) -> None:
        value = key.read(text, where)
        if not key.because:
            self.values[key.section, key.name] = value
        elif text.lower() not in key.same:
            self.told.append(f"{self.name}: {key.name} in [{key.section}] is ignored: {key.because}")

    def __call__(self, section: str, key: str) -> Any:
        """The value, or the converter's default."""
        return self.values.get((section, key), TABLE[section, key].default)

    def given(self, section: str, key: str) -> bool:
        """Whether the file says it."""
        return (section, key) in self.values

    def unused(self, section: str, why: str, *, but: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> None:
        """Tell of the keys of a section that have no effect."""
        for at, key in self.values:
            if at == section and key not in but and (not only or key in only):
                self.told.append(f"{self.name}: {key} in [{section}] is not used: {why}")

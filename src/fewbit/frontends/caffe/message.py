"""A message that was read: its fields, whichever file they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Message:
    """Fields that were given, in order.

    Args:
        kind: which message of `schema.MESSAGES`.
        line: of the text, 0 in binary files.
        odd: fields that the schema lacks: names with their lines, or numbers; only where that may turn out harmless.
    """

    kind: str
    line: int = 0
    given: dict[str, list[Any]] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)

    def has(self, key: str) -> bool:
        """Whether a field is given."""
        return key in self.given

    def all(self, key: str) -> list[Any]:
        """All values of a field, in order."""
        return self.given.get(key, [])

    def one(self, key: str, default: Any = None) -> Any:
        """The value of a field; the last one counts, as everywhere in protobuf."""
        found = self.given.get(key)
        return found[-1] if found else default

    def add(self, key: str, value: Any) -> None:
        """One more value of a field."""
        self.given.setdefault(key, []).append(value)

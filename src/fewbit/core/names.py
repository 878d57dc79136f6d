"""Engines decorate names: `conv1_nchwc`, `conv1_token_4` and `conv1/quant` all stand for `conv1`, `conv10` does not."""

from __future__ import annotations

from collections.abc import Container


def longest(name: str, known: Container[str]) -> str | None:
    """The longest known name that `name` starts with and that ends where a word of it ends."""
    for end in range(len(name), 0, -1):
        if name[:end] in known and not (name[end : end + 1].isalnum() and name[end - 1].isalnum()):
            return name[:end]
    return None

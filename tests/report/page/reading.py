"""A report's page taken apart, as a browser would: elements, texts, scripts, addresses."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

ADDRESSES = ("src", "href", "action", "data", "poster", "srcset", "formaction", "background")
RAW = ("script", "style")


class Read(HTMLParser):
    """What stands in a page.

    tags: names of all elements, in order. attributes: all of them as (name, value). text: all that is read, without
    scripts and styles, blanks as one. scripts: those that run. data: the JSON. policy: the content security policy.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.scripts: list[str] = []
        self.policy = self.raw = ""
        self._inside: str | None = None
        self._parts: list[str] = []
        self.feed(html)
        self.close()
        self.text = " ".join(" ".join(self._parts).split())

    @property
    def data(self) -> Any:
        return json.loads(self.raw)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = {k: v or "" for k, v in attrs}
        self.attributes += found.items()
        if tag in RAW:
            self._inside = found.get("type") or tag
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"]

    def handle_endtag(self, tag: str) -> None:
        if tag in RAW:
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside == "application/json":
            self.raw += data
        elif self._inside == "script":
            self.scripts.append(data)
        elif self._inside is None:
            self._parts.append(data)

    def addresses(self) -> list[str]:
        """Where the page points to or would fetch from."""
        return [v for k, v in self.attributes if k in ADDRESSES]

    def handlers(self) -> list[str]:
        """Attributes that would run something."""
        return [f"{k}={v}" for k, v in self.attributes if k.startswith("on")]

    def hashes(self) -> list[str]:
        """What the policy must hold to let the scripts run."""
        return [
            f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in self.scripts
        ]  # fmt: skip


def with_texts(facts: Any, make: Callable[[str], str], keep: frozenset[str] = frozenset({"nan", "inf", "-inf"})) -> Any:
    """The same facts, every text replaced by `make(text)` but those that are numbers."""
    if isinstance(facts, dict):
        return {k: with_texts(v, make, keep) for k, v in facts.items()}
    if isinstance(facts, list):
        return [with_texts(v, make, keep) for v in facts]
    return make(facts) if isinstance(facts, str) and facts not in keep else facts


def with_numbers(facts: Any, to: Any) -> Any:
    """The same facts, every number that was measured (a float) replaced by `to`."""
    if isinstance(facts, dict):
        return {k: with_numbers(v, to) for k, v in facts.items()}
    if isinstance(facts, list):
        return [with_numbers(v, to) for v in facts]
    return to if isinstance(facts, float) or facts in ("nan", "inf", "-inf") else facts


def rounded(x: Any, digits: int = 5, long: int = 16) -> Any:
    """Facts as the page holds them: numbers in long lists have `digits` significant digits."""
    if isinstance(x, dict):
        return {k: rounded(v, digits, long) for k, v in x.items()}
    if isinstance(x, list) and len(x) <= long:
        return [rounded(v, digits, long) for v in x]
    if isinstance(x, list):
        return [float(f"{v:.{digits}g}") if isinstance(v, float) else rounded(v, digits, long) for v in x]
    return x

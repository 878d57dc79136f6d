"""Reasons without what is particular to one layer, so that layers can be told by them.

    its input 'a' comes from float, its input 'b' comes from float   →   its input '…' comes from float

What the user asked for stays in his words.
"""

from __future__ import annotations

import re

# What differs from layer to layer within one reason: quoted names, names in known phrases, counts.
PARTICULAR = (
    (re.compile(r"'[^']*'"), "'…'"),
    (re.compile(r"^follows \S+,"), "follows a layer"),
    (re.compile(r"\bhas \d+"), "has …"),
)


def general(reason: str) -> str:
    """A reason without what is particular to one layer."""
    if reason.startswith("excluded"):
        return reason
    for pattern, general_form in PARTICULAR:
        reason = pattern.sub(general_form, reason)
    return reason

r"""fewbit's docstrings → reStructuredText.

    Args:                                                  :param model: float.
        model: float. plan: calibrated, of `model`.        :param plan: calibrated, of `model`.
        words: fields of `DataConfig`; 0 < |x|.      ⇒     :param words: fields of `DataConfig`; 0 < \|x\|.
    Raises:                                                :raises PlanError: …
        PlanError: … NotCalibrated: …                      :raises NotCalibrated: …

The house style puts several short entries on one line, and its text is plain: what reStructuredText would read as
markup is escaped. `Args` of a dataclass are its fields, and become attributes with their types.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

SECTION = re.compile(r"(\s*)(Args|Attributes|Raises|Returns|Yields|[A-Z][\w ,]+):$")
NAMES = r"\*{0,2}[A-Za-z_]\w*(?:, \*{0,2}[A-Za-z_]\w*)*"
ENTRY = re.compile(rf"(?:^|(?<=[.;)?] ))({NAMES}): ")
MARKUP = re.compile(r"(`[^`]*`)|([*|\\]|(?<=\w)_(?!\w))")


def to_rest(lines: Sequence[str], known: Collection[str], types: Mapping[str, str] | None = None) -> list[str]:
    """The same docstring in reStructuredText.

    Args:
        lines: of a docstring, without common indentation.
        known: names of parameters and attributes, which may begin an entry.
        types: of a class whose Args are fields: name → annotation.
    """
    out: list[str] = []
    attributes: list[str] = []
    for title, body in sections(lines):
        text = " ".join(line.strip() for line in body if line.strip())
        if title is None:
            out += plain(body)
        elif title in ("Returns", "Yields"):
            out += ["", f":returns: {escape(text)}"]
        elif title == "Raises":
            out += ["", *(f":raises {n}: {escape(said)}" for n, said in entries(text, known, errors=True))]
        elif title == "Attributes" or (title == "Args" and types is not None):
            for name, said in entries(text, known):
                attributes += attribute(name, (types or {}).get(name, ""), escape(said))
        elif title == "Args":
            out += [
                "",
                *(f":param {n}: {escape(said)}" for names, said in entries(text, known) for n in names.split(", ")),
            ]
        else:
            out += ["", f"*{title}:* {escape(text)}", ""]
    return [*out, "", *attributes]


def attribute(names: str, kind: str, said: str, value: str = "") -> list[str]:
    """The entry of one attribute, or of several that are told of together."""
    first, *more = names.split(", ")
    out = [f".. py:attribute:: {first}", *(f"                  {n}" for n in more)]
    out += [f"   :type: {kind}"] if kind and not more else []
    out += [f"   :value: {value}"] if value else []
    return [*out, "", f"   {said}", ""]


def sections(lines: Sequence[str]) -> list[tuple[str | None, list[str]]]:
    """Title and dedented lines of each section; the title of running text is None."""
    found: list[tuple[str | None, list[str]]] = [(None, [])]
    for i, line in enumerate(lines):
        title = SECTION.fullmatch(line)
        following = lines[i + 1] if i + 1 < len(lines) else ""
        if title and not title[1] and following.startswith("    "):
            found.append((title[2], []))
        elif found[-1][0] is not None and line and not line.startswith(" "):
            found.append((None, [line]))
        else:
            found[-1][1].append(line[4:] if found[-1][0] is not None else line)
    return found


def entries(text: str, known: Collection[str], errors: bool = False) -> list[tuple[str, str]]:
    """Split `a: one. b, c: two.` where a name that may begin an entry does."""
    starts: list[re.Match[str]] = []
    for m in ENTRY.finditer(text):
        names = [n.lstrip("*") for n in m[1].split(", ")]
        if not m.start() or all((n[0].isupper() and errors) or n in known for n in names):
            starts.append(m)
    if not starts:
        return [("", text)] if text else []
    ends = [*(m.start() for m in starts[1:]), len(text)]
    found = [(m[1], text[m.end() : end].strip().rstrip(";")) for m, end in zip(starts, ends, strict=True)]
    if errors:
        return [(name, said) for names, said in found for name in names.split(", ")]
    return found


def plain(lines: Sequence[str]) -> list[str]:
    """Running text; what is indented is shown as it stands."""
    out: list[str] = []
    literal = False
    for line in lines:
        if line.startswith("    ") and not literal and (not out or not out[-1].strip()):
            out += ["", ".. code-block:: text", ""]
            literal = True
        elif line and not line.startswith(" "):
            out += [""] if literal else []
            literal = False
        out.append(line if literal else escape(line))
    return out


def escape(text: str) -> str:
    """Text without markup but for `code`."""
    return MARKUP.sub(lambda m: m[1] or "\\" + m[2], text)

"""API pages from docstrings: autodoc with what fewbit's house style needs.

* docstrings go through `docstrings.to_rest`;
* a settings class shows its fields with default and help, as the command line does;
* classes that users are handed, and do not make, show no constructor;
* a name in backticks, or in a signature, is a link if exactly one thing on the site is called so.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from docstrings import attribute, escape, to_rest
from docutils import nodes
from docutils.nodes import Element, Node, TextElement
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxRole

import fewbit
from fewbit.config import default_of

MADE = ("CalibrationCollector", "QuantSpec", "OpRule", "Builder", "Edit", "Rule")
"""Classes that users make themselves: their constructors are shown."""
WORD = re.compile(r"(?<![\w.\"'])[A-Za-z_]\w*")
CLASSES = frozenset(n for n in fewbit.__all__ if n[0].isupper() and n not in ("Model", "Plan"))
"""Public names that are no words of a sentence."""
CODE = re.compile(r"[A-Za-z_][\w.]*(?:\(\))?")


class Soft(SphinxRole):
    """`text`: code, and a link if it names something that is documented."""

    def run(self) -> tuple[list[Node], list[nodes.system_message]]:
        """Called by Sphinx."""
        code = nodes.literal(self.rawtext, self.text, classes=["code"])
        if not CODE.fullmatch(self.text):
            return [code], []
        return [soft_link(code, self.text.removesuffix("()"), self.env.docname)], []


class LinkNames(SphinxTransform):
    """`fb.quantize` and `QuantConfig` on a page are links, too."""

    default_priority = 600

    def apply(self, **kwargs: Any) -> None:
        """Called by Sphinx."""
        for code in list(self.document.findall(nodes.literal)):
            text = code.astext().removesuffix("()")
            name = text.removeprefix("fb.") if text.startswith("fb.") else text if text in CLASSES else ""
            outside = (nodes.reference, nodes.title, addnodes.pending_xref)
            if CODE.fullmatch(name) and not any(isinstance(p, outside) for p in parents(code)):
                code.replace_self(soft_link(code.deepcopy(), f"fewbit.{name}", self.env.docname))


def parents(node: Element) -> Iterator[Element]:
    """What a node stands in, from the inside out."""
    while node.parent is not None:
        node = node.parent
        yield node


def soft_link(code: nodes.literal, target: str, page: str) -> addnodes.pending_xref:
    """A link to a Python name; left as code if there is none."""
    return addnodes.pending_xref("", code, refdomain="py", reftype="obj", reftarget=target, soft=True, refdoc=page)


def rewrite(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """autodoc-process-docstring."""
    handed = inspect.isclass(obj) and is_dataclass(obj) and obj.__name__ not in MADE
    known, types = names_in(obj), annotations_of(obj)
    found = to_rest(lines, known, types if handed else None)
    if handed and has_help(obj):
        found += ["", *settings_list(obj)]
    lines[:] = found


def has_help(kind: type) -> bool:
    """Whether this is a settings class: its fields have help texts."""
    return is_dataclass(kind) and any("help" in f.metadata for f in fields(kind))


def names_in(obj: Any) -> set[str]:
    """Parameters, fields and annotated attributes."""
    found = set(annotations_of(obj))
    if inspect.isclass(obj):
        found |= {n for kind in obj.__mro__ for n in vars(kind)}
    with contextlib.suppress(TypeError, ValueError):
        found |= set(inspect.signature(obj).parameters)
    return found


def annotations_of(obj: Any) -> dict[str, str]:
    """Attribute → annotation as it stands in the code, names in full (`~` hides all but their last part)."""
    found: dict[str, str] = {}
    for kind in reversed(obj.__mro__) if inspect.isclass(obj) else ():
        known = vars(sys.modules[kind.__module__])
        for name, annotation in vars(kind).get("__annotations__", {}).items():
            found[name] = WORD.sub(partial(in_full, known), str(annotation))
    return found


def in_full(known: Mapping[str, Any], word: re.Match[str]) -> str:
    """`Timing` → `~fewbit.report.benchmark.Timing`, in a module that knows the name."""
    thing = known.get(word[0])
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    return f"~{module}.{name}" if module and name and module != "builtins" else word[0]


def settings_list(kind: type) -> list[str]:
    """Each field with default, allowed words and help."""
    out: list[str] = []
    types = annotations_of(kind)
    for f in fields(kind):
        said = escape(f.metadata.get("help", ""))
        if "choices" in f.metadata:
            said += " – " + ", ".join(f"``{c}``" for c in f.metadata["choices"])
        out += attribute(f.name, types[f.name], said, repr(default_of(f)))
    return out


def signature(app: Sphinx, what: str, name: str, obj: Any, options: Any, args: str | None, back: str | None) -> Any:
    """autodoc-process-signature: no constructor where nobody calls it."""
    if what == "class" and obj.__name__ not in MADE:
        return ("(**words)" if has_help(obj) else "", None)
    return None


def resolve(app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: TextElement) -> Element | None:
    """missing-reference: by the last part of the name, if that is unique; code in backticks may lead nowhere."""
    if node.get("refdomain") != "py":
        return None
    found = by_last_part(app, env).get(node["reftarget"].rsplit(".", 1)[-1], {})
    if len(found) == 1:
        ((name, entry),) = found.values()
        reference = nodes.reference("", "", content, internal=True, reftitle=name)
        reference["refuri"] = app.builder.get_relative_uri(node["refdoc"], entry.docname) + "#" + entry.node_id
        return reference
    return content if node.get("soft") else None


class Dashes(SphinxTransform):
    """Between a parameter and its text stands a dash; docutils has two hyphens there."""

    default_priority = 800

    def apply(self, **kwargs: Any) -> None:
        """Called by Sphinx."""
        for text in list(self.document.findall(nodes.Text)):
            if text == " -- ":
                text.parent.replace(text, nodes.Text(" – "))


def by_last_part(app: Sphinx, env: BuildEnvironment) -> dict[str, dict[Any, tuple[str, Any]]]:
    """Last part of a name → the places where such a thing is described.

    Attributes and methods are linked by their full names only: `name` and `text` are words, too.
    """
    if not hasattr(app, "_by_last_part"):
        found: dict[str, dict[Any, tuple[str, Any]]] = {}
        for name, entry in env.domains.python_domain.objects.items():
            if entry.objtype not in ("attribute", "method", "property", "module"):
                found.setdefault(name.rsplit(".", 1)[-1], {})[entry.docname, entry.node_id] = (name, entry)
        app._by_last_part = found  # type: ignore[attr-defined]
    return app._by_last_part  # type: ignore[attr-defined,no-any-return]


def setup(app: Sphinx) -> Mapping[str, Any]:
    """Called by Sphinx."""
    app.add_role("soft", Soft())
    app.add_transform(Dashes)
    app.add_transform(LinkNames)
    app.connect("autodoc-process-docstring", rewrite)
    app.connect("autodoc-process-signature", signature)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Contents beside pages: classes without their members; and the site's own contents, made once and not for each page.

Sphinx copies the headings of all pages, and the names of all members, for the navigation of each page, and then drops
all but the titles: 15 seconds. Here it is handed titles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def without_members(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """env-updated: members are found by the search and the index."""
    for toc in env.tocs.values():
        for entry in list(toc.findall(addnodes.compact_paragraph)):
            below = entry.next_node(siblings=True, descend=False)
            if entry.next_node(nodes.literal) is not None and isinstance(below, nodes.bullet_list):
                entry.parent.remove(below)
    return []


def titles(toc: nodes.bullet_list) -> nodes.bullet_list:
    """Of one page's contents its title, and which pages stand below it."""
    short = toc.deepcopy()
    for item in short.children:
        if len(item.children) > 1:
            below = list(item[1].findall(addnodes.toctree))
            item[1][:] = below
            if not below:
                item.pop(1)
    return short


def short_navigation(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """html-page-context, before the theme asks for the navigation."""
    made: Callable[..., str] | None = context.get("toctree")
    if made is None:
        return

    def toctree(**words: Any) -> str:
        env = app.env
        full = env.tocs
        if not hasattr(app, "_titles"):
            app._titles = {name: titles(toc) for name, toc in full.items()}  # type: ignore[attr-defined]
        env.tocs = app._titles  # type: ignore[attr-defined]
        try:
            return made(**words).replace('role="heading"', 'role="heading" aria-level="2"')  # else it is no heading
        finally:
            env.tocs = full

    context["toctree"] = toctree


def setup(app: Sphinx) -> Mapping[str, Any]:
    """Called by Sphinx."""
    app.connect("env-updated", without_members)
    app.connect("html-page-context", short_navigation, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

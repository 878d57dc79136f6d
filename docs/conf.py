"""The documentation as a site.

    make docs, or
    sphinx-build -W --keep-going -n -c docs . build/docs

The source folder is the whole repository, so that links which work where the files lie work on the site, too. Nothing
is fetched while building, and no page loads anything from elsewhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "docs" / "_ext")]

import fewbit  # noqa: E402

project = "fewbit"
author = "The fewbit authors"
project_copyright = "the fewbit authors, Apache-2.0"
release = version = fewbit.__version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    # our own, in _ext; what each does stands on top of it
    "api",
    "benchmarks",
    "contents",
    "notebooks",
    "pages",
    "programs",
]

root_doc = "docs/index"
include_patterns = [
    "*.md", "docs/**.md", "bench/README.md", "bench/results/*.md", "examples/*.py", "notebooks/*.ipynb"
]  # fmt: skip
exclude_patterns = [".*", "build", "dist", "src", "tests", "shared"]

# markdown, as GitHub reads it: a line that begins with % is text
myst_heading_anchors = 4
myst_disable_syntax = ["myst_block_break", "myst_line_comment", "myst_target"]
myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence"]

# docstrings
default_role = "soft"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
autosummary_generate = False
python_display_short_literal_types = True
python_maximum_signature_line_length = 88
smartquotes = False  # quotes are typed as they are meant

# -n: every name must lead somewhere, but for these
nitpick_ignore_regex = [
    # other projects' types: their pages lie elsewhere, and nothing is fetched
    ("py:.*", r"(collections|concurrent|numpy|np|onnx|onnx_ir|ir|os|pathlib|torch|nn|fx|typing)\..*"),
    # imported for type checkers alone, so that their modules are not known here
    ("py:class", r"Module|ExportedProgram|Path"),
    # type variables, and aliases: (model, samples) → None, job → deployed, (width, height)
    ("py:class", r"(fewbit\..*\.)?([A-Z]|Check|Function|Size)"),
]

html_theme = "furo"
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
html_title = "fewbit"
html_static_path = ["_static"]
html_css_files = ["fewbit.css"]
html_js_files = ["fewbit.js"]
html_extra_path = ["_root"]  # index.html, which leads to docs/index.html
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "top_of_page_buttons": [],
    "light_css_variables": {"color-brand-primary": "#0a6a63", "color-brand-content": "#0a6a63"},
    "dark_css_variables": {"color-brand-primary": "#57cfc3", "color-brand-content": "#57cfc3"},
}

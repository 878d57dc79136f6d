"""Blocks as HTML, for JupyterLab, VS Code, generated docs and GitHub, light and dark.

It needs no script and no style sheet, and takes the colours of the page around it; where even inline styles are taken
away (GitHub), plain tables are left. Whatever comes from a model file is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from fewbit.core.blocks import Aside, Bar, Block, Code, Facts, Fold, Items, Loud, Table, Title, Wrapped
from fewbit.core.tables import WIDTH, Name, heading, short

WIDE = 60
"""Letters of a name that a notebook shows; the whole one stands behind the pointer."""

LONGEST = 400
"""Letters of a name that stand behind the pointer."""

MOST = 100
"""Rows of a table and items of a list that a notebook shows."""

NARROW = 40
"""Letters up to which a cell stays on one line."""

LENGTH = 70
"""Pixels of a full bar."""

AMOUNT, WORSE = "rgba(70,130,220,.45)", "rgba(225,110,40,.5)"
"""Colours of bars, seen through by the page behind them: light or dark."""

LINE = "rgba(128,128,128,.45)"
ROOT = f"max-width:{WIDTH + 10}ch;overflow-x:auto;font-size:13px;line-height:1.45"
TABLE = "border-collapse:collapse;margin:2px 0 8px;width:auto;font-variant-numeric:tabular-nums"
CELL = "padding:2px 10px;vertical-align:top;border:0"
LOUD = "border:2px solid #d9442f;border-left-width:8px;background:rgba(217,68,47,.1);padding:6px 12px;margin:4px 0 10px"
MUTED = "opacity:.75"
ALIGN = {"left": "", "right": ' align="right"'}
"""Old, and all that GitHub leaves of a layout."""


def to_html(blocks: Iterable[Block]) -> str:
    """One element that fits into any page, problems first."""
    found = list(blocks)
    order = [b for b in found if isinstance(b, Loud)] + [b for b in found if not isinstance(b, Loud)]
    inner = "\n".join(filter(None, map(_html, order)))
    # the classes keep MathJax from reading names with `$` as formulas
    return f'<div class="fewbit tex2jax_ignore mathjax_ignore" style="{ROOT}">\n{inner}\n</div>'


def _html(block: Block) -> str:
    match block:
        case str() | Wrapped() | Aside():
            text = block if isinstance(block, str) else block.text
            return f'<p style="margin:2px 0 6px;{MUTED}">{escape(text)}</p>' if text.strip() else ""
        case Title():
            return f'<p style="margin:8px 0 2px"><strong>{escape(block.text)}</strong></p>'
        case Code():
            style = "margin:0 0 6px;padding:0;white-space:pre-wrap;font-family:monospace"
            return f'<pre style="{style}">{escape(block.text.strip())}</pre>'
        case Facts():
            return _table("", "".join(_fact(k, v) for k, v in block.lines))
        case Table():
            return _columns(block)
        case Items():
            inner = "".join(f"<li>{escape(text)}</li>" for text in block.lines[:MOST])
            return f'<ul style="margin:2px 0 8px;padding-left:24px">{inner}</ul>{_rest(len(block.lines))}'
        case Loud():
            return _loud(block)
        case Fold():
            inner = "\n".join(filter(None, map(_html, block.blocks)))
            head = f'<summary style="cursor:pointer">{escape(block.title)}</summary>'
            return f'<details style="margin:2px 0 6px">{head}\n{inner}\n</details>'


def _loud(block: Loud) -> str:
    parts = [f'<p style="margin:4px 0"><strong>&#9888; {escape(p)}</strong></p>' for p in block.problems]
    if block.steps:
        steps = "".join(f"<li>{escape(s)}</li>" for s in block.steps)
        parts += ['<p style="margin:4px 0">What to try:</p>', f'<ol style="margin:0;padding-left:28px">{steps}</ol>']
    return f'<blockquote role="alert" style="{LOUD}">{"".join(parts)}</blockquote>'


def _table(head: str, body: str) -> str:
    return f'<table style="{TABLE}">{head}<tbody>{body}</tbody></table>'


def _fact(what: str, value: str) -> str:
    head = f'<th scope="row" style="text-align:left;font-weight:normal;{MUTED};{CELL}">{escape(what)}</th>'
    return f'<tr>{head}<td style="text-align:left;{CELL}">{escape(value)}</td></tr>'


def _columns(block: Table) -> str:
    heads = [heading(h) for h in block.head]
    sides = ["left" if h.side == "<" else "right" for h in heads]
    titles = "".join(
        f'<th scope="col"{ALIGN[s]} style="text-align:{s};{CELL};border-bottom:1px solid {LINE}">{escape(h.title)}</th>'
        for h, s in zip(heads, sides, strict=True)
    )
    rows = []
    for i, row in enumerate(block.rows[:MOST]):
        bars = {column: of[i] for column, of in block.bars.items()}
        rows.append("".join(_cell(c, s, bars.get(k)) for k, (c, s) in enumerate(zip(row, sides, strict=True))))
    whole = _table(f"<thead><tr>{titles}</tr></thead>", "".join(f"<tr>{r}</tr>" for r in rows))
    return whole + _rest(len(block.rows))


def _rest(count: int) -> str:
    """What is said where there are more."""
    return _html(f"{MOST} of {count:,}; text() shows all") if count > MOST else ""


def _cell(text: str, side: str, bar: Bar | None) -> str:
    style = f"text-align:{side};{CELL}" + (f";{_bar(bar)}" if bar is not None else "")
    style += ";white-space:nowrap" if side == "right" or isinstance(text, Name) or len(text) <= NARROW else ""
    if not isinstance(text, Name):
        return f'<td{ALIGN[side]} style="{style}">{escape(text)}</td>'
    seen = short(text, WIDE)
    whole = f' title="{escape(text[:LONGEST])}"' if seen != text else ""
    return f'<td style="{style}"{whole}>{escape(seen)}</td>'


def _bar(bar: Bar) -> str:
    """A bar beside the number, as layers of background: a line, and the bar behind it."""
    place = f"10px 50%/{LENGTH}px 62% no-repeat"
    end, color = LENGTH * bar.share, WORSE if bar.worse else AMOUNT
    layers = [f"linear-gradient(90deg,{color} {end:.1f}px,transparent {end:.1f}px) {place}"]
    if bar.mark is not None:
        a, b = LENGTH * bar.mark - 1, LENGTH * bar.mark
        line = f"transparent {a:.1f}px,currentColor {a:.1f}px,currentColor {b:.1f}px,transparent {b:.1f}px"
        layers.insert(0, f"linear-gradient(90deg,{line}) {place}")
    return f"padding-left:{LENGTH + 18}px;background:{','.join(layers)}"

"""Pages of results: HTML in one file, and tables in Markdown."""

from __future__ import annotations

import html
from collections.abc import Sequence
from string import Template

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #111827 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .75rem;
  border-bottom: 1px solid #e5e7eb; text-align: left } svg { max-width: 100%; height: auto }
</style></head><body><h1>$title</h1>$body</body></html>
""")


def page(title: str, *parts: str) -> str:
    """Return a page of parts that are HTML."""
    return _PAGE.substitute(title=html.escape(title), body="\n".join(parts))


def paragraph(text: str) -> str:
    """Return a plain text as HTML."""
    return f"<p>{html.escape(text)}</p>"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of plain texts as HTML; the first one is the head."""
    cells = [[html.escape(cell) for cell in row] for row in rows]
    head = "".join(f"<th>{cell}</th>" for cell in cells[0])
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in cells[1:])
    return f"<table><tr>{head}</tr>{body}</table>"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown, with an empty line after it."""
    return [
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]

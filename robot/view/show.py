"""`holdfast show`: the results of logged runs, in the terminal and as a self-contained page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from holdfast import files
from holdfast.errors import LogError
from holdfast.log.episodes import runs
from holdfast.log.reader import Log
from holdfast.plain import printable
from holdfast.robot.view import compare as comparing
from holdfast.robot.view import svg
from holdfast.robot.view.results import Results, results, table, told_apart

PAGE = "show.html"
MOST_LETTERS = 44
"""Largest length of a title in the terminal, which is not broken into lines."""

_FOLDER = Path(__file__).parent


def command(
    run: Annotated[tuple[Path, ...], tyro.conf.Positional] = (),
    compare: tuple[Path, Path] | None = None,
    out: Path | None = None,
) -> None:
    """Print the results of logged runs, and write them as one self-contained page.

    The results are returns and costs with 95 % intervals, stops and interventions by reason,
    timing and paths. A torn log is shown up to the tear.

    Args:
        run: directories of runs, or log files.
        compare: runs A and B of one contract: answer whether B is better, by a permutation test of
            returns, costs and episodes cut short, and how many episodes would be needed.
        out: file of the page. Default: show.html in the folder of the first run.
    """
    paths = [*run, *(path for path in compare or () if path not in run)]
    if not paths:
        raise LogError("which run? Give a run's directory or its .mcap file, or --compare A B")
    if out is not None:
        files.require_output(out, (".html", ".htm"), paths)
    with np.errstate(all="ignore"):  # a log may hold any number
        found = told_apart([results(log) for log in runs(paths)])
        tested = None
        if compare is not None:
            a, b = (found[paths.index(path)] for path in compare)
            tested = comparing.compare(a, b), a.name, b.name
        page = out or found[0].log.path.parent / PAGE
        files.write(page, write(found, tested))
        rows = table(found)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    _print(console, _terminal(rows))
    if tested is not None:
        _print(console, _terminal(comparing.table(*tested)))
        console.print(comparing.METHOD)
        console.print(printable(comparing.answer(*tested)))
    console.print(f"page: {page}")


Test = tuple[Sequence[comparing.Tested], str, str]
"""A comparison, and the names of runs A and B."""


def write(found: Sequence[Results], tested: Test | None = None) -> str:
    """Return the page."""
    title = " and ".join(dict.fromkeys(run.name for run in found))
    answer = comparison = ""
    if tested is not None:
        answer = f'<p class="card answer">{html.escape(comparing.answer(*tested))}</p>'
        comparison = (
            f'<section class="card"><h2>Comparison</h2><div class="scroll">'
            f"{_html_table(comparing.table(*tested))}</div>"
            f'<p class="quiet">{html.escape(comparing.METHOD)}</p></section>'
        )
    style = (_FOLDER / "watch.css").read_text(encoding="utf-8")
    return Template((_FOLDER / "show.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        style=style,
        answer=answer,
        comparison=comparison,
        table=_html_table(table(list(found))),
        runs="".join(_run(run, _largest(found)) for run in found),
    )


def _largest(found: Sequence[Results]) -> float:
    """Return the largest cost to draw: of any run's episodes, limits or episode caps."""
    values = [
        value
        for run in found
        for values in (run.costs.ravel().tolist(), run.log.info.episode_cap.values())
        for value in values
    ]
    values += [cost.limit for run in found for cost in run.log.info.contract.costs]
    finite = [value for value in values if np.isfinite(value) and value < 1e9]
    return 1.2 * max([*finite, 1e-9])


def _run(run: Results, most: float) -> str:
    """Return the part of the page about one run."""
    info = run.log.info
    about = (
        f"{info.contract.task} on {info.identity.get('hardware_id', info.contract.robot)}; "
        f"contract {info.contract.hash[:12]}, bundle {info.bundle_hash[:12] or 'none'}, "
        f"seed {info.seed}{run.log.remarks}"
    )
    figures = [
        f"<h3>{html.escape(cost.name)} of each episode</h3>{svg.costs(run, k, most)}"
        for k, cost in enumerate(info.contract.costs)
    ]
    drawn = svg.paths(run)
    shown = min(len(run), svg.PATHS_SHOWN)
    title = f"Paths of the first {shown} episodes" if shown < len(run) else "Paths"
    figures += [f"<h3>{title}</h3>{drawn}"] if drawn else []
    if svg.fences(run) is None:
        figures.append("<p>The log's geofence has an unknown form, and is not drawn.</p>")
    drawings = "".join(f"<div>{figure}</div>" for figure in figures)
    return (
        f'<section class="card"><h2>{html.escape(run.name)}</h2>'
        f'<p class="quiet">{html.escape(about)}</p>{_LEGEND}'
        f'<div class="figures">{drawings}</div><h3>Stops</h3>{_stops(run.log)}</section>'
    )


_LEGEND = (
    '<p class="legend quiet"><span class="key completed">completed episode</span>'
    '<span class="key stopped">stopped episode</span><span class="key path">path</span>'
    '<span class="key paid">path with a cost</span></p>'
)


def _stops(log: Log) -> str:
    """Return the list of the stops' sentences, each with the episodes that ended so."""
    ended: dict[tuple[str, str], list[int]] = {}
    for end in (episode.result for episode in log.episodes):
        if end.code:
            ended.setdefault((end.text or end.code, end.code), []).append(end.episode)
    items = "".join(
        f'<li>{html.escape(text)} <span class="quiet">({html.escape(code)}; episode'
        f"{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))})</span></li>"
        for (text, code), numbers in ended.items()
    )
    return f'<ul class="plain">{items}</ul>' if items else "<p>No episode was stopped.</p>"


def _html_table(lines: Sequence[tuple[str, ...]]) -> str:
    def cells(texts: tuple[str, ...], tag: str) -> str:
        return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)

    head, *rows = lines
    body = "".join(f"<tr>{cells(texts, 'td')}</tr>" for texts in rows)
    return f"<table><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def _terminal(lines: Sequence[tuple[str, ...]]) -> Table:
    head, *rows = lines
    made = Table(box=None, pad_edge=False)
    for number, title in enumerate(head):
        made.add_column(printable(title), justify="right" if number else "left", no_wrap=not number)
    for title, *texts in rows:
        cut = title if len(title) <= MOST_LETTERS else f"{title[: MOST_LETTERS - 3]}..."
        made.add_row(*map(printable, (cut, *texts)))
    return made


def _print(console: Console, made: Table) -> None:
    """Print a table, at least as wide as its words: no word is broken."""
    wide = console.options.update(max_width=10_000)
    console.print(made, width=max(console.width, console.measure(made, options=wide).minimum))

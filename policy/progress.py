"""Progress of long work: a bar in a terminal, and plain lines in a pipe or a file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_S = 10.0
"""Least time between two plain lines, s; the first and the last are always printed."""

Show = Callable[[int, str], None]
"""Shows how many steps are done, and a status."""


@contextmanager
def progress(console: Console, what: str, total: int, done: int = 0) -> Iterator[Show]:
    """Yield what shows the progress of a work.

    Args:
        what: the work in words.
        total: number of its steps.
        done: the steps that were done before.
    """
    if not console.is_interactive:
        yield _lines(console, what, total)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}", markup=False),
    )
    with Progress(*columns, console=console) as shown:
        bar = shown.add_task(what, total=total, completed=done, status="")
        yield lambda count, status: shown.update(bar, completed=count, status=status)


def _lines(console: Console, what: str, total: int) -> Show:
    next_s = -math.inf

    def show(count: int, status: str) -> None:
        nonlocal next_s
        if time.monotonic() >= next_s or count == total:
            next_s = time.monotonic() + LINE_S
            console.print(f"{what}: {count}/{total}  {status}".rstrip(), soft_wrap=True)

    return show

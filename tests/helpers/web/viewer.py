"""The viewer of `holdfast watch`, as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def watched(folder: Path, *options: str) -> Iterator[str]:
    """Watch a run or a training in a process of its own; yields the page's address."""
    program = [sys.executable, "-m", "holdfast", "watch", str(folder), "--port", "0", *options]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        while "http" not in line:
            line = process.stdout.readline()
        yield "http" + line.partition("http")[2].strip()
    finally:
        process.kill()
        process.communicate()

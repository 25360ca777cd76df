"""A walk through a page of the documentation: its files are written, and its commands run."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

from holdfast.log.reader import read
from tests.helpers.ros import graphs

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "start" / "YOUR_ROBOT.md"

LATE = {"source_stale", "source_lost", "proposal_stale", "proposal_lost", "fallback_ended"}
"""Why a computer that other programs use may stop a robot in real time; such a run is repeated."""

ATTEMPTS, READY_S, INTERRUPTED = 5, 120.0, 130
ADDRESSES = ("serial:", "dds:", "http:")


@dataclass(frozen=True)
class Block:
    """A fenced block of the page: ```LANGUAGE LABEL.

    A block of `sh` holds commands for the first terminal; with a label, as `twin` or `viewer`, each
    of its commands runs in a terminal of this name, until the next one there. Any other block with
    a label is appended to the file that the label names.
    """

    language: str
    label: str
    text: str

    def commands(self) -> Iterator[str]:
        """Yield each command, with its continued lines."""
        for command in re.findall(r"^(?:.*\\\n)*.+$", self.text, flags=re.MULTILINE):
            yield command.partition("  #")[0].rstrip()


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page, in order."""
    fence = re.compile(r"^( *)```(\w+)(?: ([\w.]+))?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
    found = fence.findall(page)  # one in a list is indented
    return [Block(language, label, dedent(text)) for _, language, label, text in found]


@dataclass(frozen=True)
class Taken:
    """A command with what it printed and took: wall and CPU seconds, those of its children too."""

    command: str
    output: str
    wall_s: float
    cpu_s: float


@dataclass
class Walk:
    """Does what the page says, in an empty folder.

    Args:
        folder: where the files go.
        numbers: texts of the page and what stands in their place, for a walk that is shorter. Each
            of them has to be on the page.
        leave_out: commands with one of these texts are not run.
        done: called after each command.
        page: the page.
    """

    folder: Path
    numbers: Mapping[str, str] = field(default_factory=dict)
    leave_out: tuple[str, ...] = ()
    done: Callable[[Taken], None] | None = None
    page: Path = PAGE
    taken: list[Taken] = field(default_factory=list)
    _others: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def __call__(self) -> Walk:
        page = self.page.read_text("utf-8")
        for text, other in self.numbers.items():
            assert text in page, f"{text!r} is not on the page any more"
            page = page.replace(text, other)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            for block in blocks(page):
                self._do(block)
        finally:
            for label in list(self._others):
                self._end(label)
        return self

    def _do(self, block: Block) -> None:
        if block.language != "sh":
            if not block.label:
                return
            with (self.folder / block.label).open("a", encoding="utf-8") as file:
                file.write(block.text)
            return
        for command in block.commands():
            if any(text in command for text in self.leave_out):
                continue
            if block.label:
                self._end(block.label)
                self._start(block.label, command)
            else:
                self._run(command)

    def _environment(self) -> dict[str, str]:
        """Return an environment whose `holdfast` is the one that is tested."""
        tools = self.folder.parent / "bin"
        tools.mkdir(exist_ok=True)
        script = tools / "holdfast"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m holdfast "$@"\n')
        script.chmod(0o755)
        path = f"{tools}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return {**os.environ, **graphs.ENVIRONMENT, **own}

    def _run(self, command: str) -> None:
        for attempt in range(ATTEMPTS):
            start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(
                ["bash", "-euc", command],
                cwd=self.folder,
                env=self._environment(),
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            if done.returncode == 0:
                break
            out = self.folder / command.rsplit(maxsplit=1)[-1]
            late = "--robot dds:" in command and self._was_late(out)
            if not late or attempt == ATTEMPTS - 1:
                raise AssertionError(f"{command}\n{done.stdout}")
            shutil.rmtree(out)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.taken.append(Taken(command, done.stdout, time.monotonic() - start, cpu_s))
        if self.done is not None:
            self.done(self.taken[-1])

    def _was_late(self, out: Path) -> bool:
        """Whether a run's last episode was stopped because this computer was busy."""
        return out.is_dir() and read(out).episodes[-1].result.code in LATE

    def _start(self, label: str, command: str) -> None:
        """Start the program of another terminal, and wait for the address that it prints."""
        program = self._others[label] = subprocess.Popen(
            ["bash", "-euc", f"exec {command}"],
            cwd=self.folder,
            env=self._environment(),
            text=True,
            stdout=subprocess.PIPE,
        )
        assert program.stdout is not None
        said = line = program.stdout.readline()
        while line and not any(kind in line for kind in ADDRESSES):
            line = program.stdout.readline()
            said += line
        assert line, f"{command}\n{said}"
        self.taken.append(Taken(command, said, 0.0, 0.0))

    def _end(self, label: str) -> None:
        """Press Ctrl-C in another terminal."""
        program = self._others.pop(label, None)
        if program is not None:
            program.send_signal(signal.SIGINT)
            assert program.wait(READY_S) in (0, INTERRUPTED)
            assert program.stdout is not None
            program.stdout.close()

    def output(self, start: str) -> str:
        """Return what the commands that begin so have printed."""
        return "".join(taken.output for taken in self.taken if taken.command.startswith(start))

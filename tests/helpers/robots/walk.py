"""A walk through docs/start/YOUR_ROBOT.md: its files are written, and its commands run."""

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

from holdfast.log.reader import read
from tests.helpers.ros import graphs

PAGE = Path(__file__).resolve().parents[3] / "docs" / "start" / "YOUR_ROBOT.md"
ROOT = PAGE.parents[1]

LATE = {"source_stale", "source_lost", "proposal_stale", "proposal_lost", "fallback_ended"}
"""Why a computer that other programs use may stop a robot in real time; such a run is repeated."""

ATTEMPTS, READY_S = 5, 120.0


@dataclass(frozen=True)
class Block:
    """A fenced block of the page: ```LANGUAGE LABEL.

    A block of `sh` holds commands for the first terminal, with the label `twin` for the second. Any
    other block is appended to the file that its label names.
    """

    language: str
    label: str
    text: str

    def commands(self) -> Iterator[str]:
        """Yield each command, with its continued lines."""
        yield from re.findall(r"^(?:.*\\\n)*.+$", self.text, flags=re.MULTILINE)


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page, in order."""
    found = re.findall(r"^```(\w+)(?: ([\w.]+))?\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    return [Block(*parts) for parts in found]


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
        leave_out: commands with this text are not run.
        done: called after each command.
    """

    folder: Path
    numbers: Mapping[str, str] = field(default_factory=dict)
    leave_out: str | None = None
    done: Callable[[Taken], None] | None = None
    taken: list[Taken] = field(default_factory=list)
    _twin: subprocess.Popen[str] | None = None

    def __call__(self) -> Walk:
        page = PAGE.read_text("utf-8")
        for text, other in self.numbers.items():
            assert text in page, f"{text!r} is not on the page any more"
            page = page.replace(text, other)
        self.folder.mkdir(parents=True)
        try:
            for block in blocks(page):
                self._do(block)
        finally:
            self._end_twin()
        return self

    def _do(self, block: Block) -> None:
        if block.language != "sh":
            with (self.folder / block.label).open("a", encoding="utf-8") as file:
                file.write(block.text)
            return
        for command in block.commands():
            if self.leave_out is not None and self.leave_out in command:
                continue
            if block.label == "twin":
                self._end_twin()
                self._start_twin(command)
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

    def _start_twin(self, command: str) -> None:
        """Start the second terminal's program, and wait for the address that it prints."""
        self._twin = subprocess.Popen(
            ["bash", "-euc", f"exec {command}"],
            cwd=self.folder,
            env=self._environment(),
            text=True,
            stdout=subprocess.PIPE,
        )
        assert self._twin.stdout is not None
        address = self._twin.stdout.readline()
        assert address.startswith(("serial:", "dds:")), f"{command}\n{address}"

    def _end_twin(self) -> None:
        """Press Ctrl-C in the second terminal."""
        twin, self._twin = self._twin, None
        if twin is not None:
            twin.send_signal(signal.SIGINT)
            assert twin.wait(READY_S) == 0
            assert twin.stdout is not None
            twin.stdout.close()

    def output(self, start: str) -> str:
        """Return what the commands that begin so have printed."""
        return "".join(taken.output for taken in self.taken if taken.command.startswith(start))

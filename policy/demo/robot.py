"""The demo's robot: one twin, its registry, and the programs that a person would start for it."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from rich.console import Console

from holdfast import child, files
from holdfast.errors import ConfigError, FileError, RunError
from holdfast.policy.progress import progress

TWIN_START_S = 30.0
TRUTH_S = 10.0
"""Longest wait for the twin's line about an episode that has ended, s."""

MARKER = ".holdfast-demo"
"""File that marks a folder as a demo's, finished or not, which a new demo may replace."""

CONFIG, TRUTH = "robot.yaml", "truth.jsonl"


class DemoRobot:
    """A twin that serves from the first run of a demo to the last one: one robot.

    Args:
        address: the twin's address.
        out: the demo's folder, with the robot's configuration file and the twin's account.
    """

    def __init__(self, address: str, out: Path, console: Console) -> None:
        self._address, self._out, self._console = address, out, console
        self._told = 0

    def deploy(self, run: Path, what: Sequence[object], episodes: int, seed: int) -> list[str]:
        """Run episodes with sampled actions; return what `holdfast deploy` said.

        The twin's account of these episodes is written beside the run (`truth_of`).

        Args:
            what: the options that name the policy.
            episodes: most episodes.

        Raises:
            RunError: the run failed.
        """
        line = ["deploy", "--robot", self._address, "--config", self._out / CONFIG, "--out", run,
                "--episodes", episodes, "--explore", "--seed", seed, *what]  # fmt: skip
        said, count = [], 0
        with program(line) as deploy, progress(self._console, "  episodes", episodes) as show:
            assert deploy.stdout is not None
            for text in deploy.stdout:
                said.append(text.strip())
                if text.startswith("episode "):
                    count += 1
                    show(count, "")
            if deploy.wait():
                raise RunError(f"deploy failed: {said[-1] if said else 'it said nothing'}", "demo")
        files.write(truth_of(run), "".join(self._truth(count)))
        return said

    def _truth(self, count: int) -> list[str]:
        """Return the twin's lines about the latest episodes."""
        deadline_s = time.monotonic() + TRUTH_S
        while True:
            lines = (self._out / TRUTH).read_text(encoding="utf-8").splitlines(keepends=True)
            if len(lines) >= self._told + count and lines[-1].endswith("\n"):
                break
            if time.monotonic() > deadline_s:
                raise RunError(f"the twin told of {len(lines) - self._told} of {count} episodes")
            time.sleep(0.05)
        latest, self._told = lines[self._told :], len(lines)
        return latest

    def promote(self, policy: Path, *options: object) -> str:
        """Run `holdfast promote`; return what it said.

        Raises:
            RunError: it refused.
        """
        line = ["promote", policy, "--config", self._out / CONFIG, *options]
        with program(line) as promote:
            said, _ = promote.communicate()
            if promote.returncode:
                raise RunError(f"promote failed: {said.strip()}", "demo")
        return str(said).strip()


def truth_of(run: Path) -> Path:
    """Return the path of the twin's account of a run."""
    return run.with_suffix(".truth.jsonl")


@contextmanager
def demo_robot(
    out: Path, robot: str, config: Path | None, twin: Sequence[object], seed: int, console: Console
) -> Iterator[DemoRobot]:
    """Start the twin, and write its configuration file, which names its registry.

    Args:
        robot: the robot's name. config: its configuration file; None: the installed one.
        twin: further options of `holdfast twin`. seed: the twin's.
    """
    base = robot if config is None else os.path.relpath(config.resolve(), out.resolve())
    if config is not None and os.sep not in base:
        base = f"./{base}"
    data = {
        "extends": base,
        "registry": {"folder": "registry", "hardware_id": f"twin-{seed}"},
    }
    files.write(out / CONFIG, yaml.safe_dump(data, sort_keys=False))
    line = ["twin", "--seed", seed, "--realtime-factor", 0, "--truth", out / TRUTH, *twin]
    with program(line) as process:
        yield DemoRobot(first_line(process), out, console)


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Empty a folder for a demo. No other demo can use the folder until the context ends.

    Raises:
        ConfigError: the folder holds something other than a demo, or another demo uses it.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ConfigError(f"{out}: should be a folder; give another --out")
    if out.exists() and any(out.iterdir()) and not (out / MARKER).exists():
        raise ConfigError(f"{out}: holds something other than a demo; give another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        opened = (out / MARKER).open("a", encoding="utf-8")
    except OSError as error:
        raise FileError(f"{out}: no folder can be made here ({error.strerror})") from None
    with opened as marker:
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{out}: another demo uses this folder; give another --out") from None
        for path in out.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != MARKER:
                path.unlink()
        yield


@contextmanager
def program(line: Sequence[object]) -> Iterator[subprocess.Popen[str]]:
    """Run `holdfast LINE...` as a child process, which ends with the context."""
    process = child.start(
        "holdfast",
        *map(str, line),
        at_end=signal.SIGTERM,  # which stops the robot properly
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if line[0] == "twin" else subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()


def first_line(twin: subprocess.Popen[str]) -> str:
    """Return a twin's address.

    Raises:
        RunError: the twin did not start.
    """
    assert twin.stdout is not None
    ready, _, _ = select.select([twin.stdout], [], [], TWIN_START_S)
    line = twin.stdout.readline().strip() if ready else ""
    if not line.startswith("serial:"):
        raise RunError(f"the twin did not start within {TWIN_START_S:g} s", "demo")
    return line

"""Progress in a terminal and in a pipe."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys

import pytest
from rich.console import Console

from holdfast.policy import progress as module
from holdfast.policy.progress import progress

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
TRAIN = [
    *(sys.executable, "-m", "holdfast", "train"),
    *("--task", "PointCircle-v0", "--batch", "1040", "--critic-steps", "1"),
]


def test_a_pipe_gets_the_first_and_the_last_line(capsys):
    with progress(Console(soft_wrap=True), "work", 4, 1) as show:
        for count in (2, 3, 4):
            show(count, f"status {count}")
    assert capsys.readouterr().out == "work: 2/4  status 2\nwork: 4/4  status 4\n"


def test_a_pipe_gets_a_line_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(module, "LINE_S", 0.0)
    with progress(Console(soft_wrap=True), "work", 3) as show:
        for count in (1, 2, 3):
            show(count, "")
    assert capsys.readouterr().out == "work: 1/3\nwork: 2/3\nwork: 3/3\n"


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_terminal_gets_a_bar_unless_it_is_dumb(term, monkeypatch):
    monkeypatch.setenv("TERM", term)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, progress(Console(file=terminal), "work", 2) as show:
        show(2, "")
    said = b""
    with contextlib.suppress(OSError):  # the end of what a terminal that was closed has said
        while piece := os.read(ours, 4096):
            said += piece
    os.close(ours)
    assert (b"\x1b[" in said) == (term == "xterm")
    assert b"2/2" in said


def test_a_training_in_a_pipe_says_at_once_how_far_it_is(tmp_path):
    training = subprocess.Popen(
        [*TRAIN, "--iterations", "5000", "--out", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **ASCII, "COLUMNS": "40"},
    )
    first = training.stdout.readline()  # while it trains: nothing is kept back in a buffer
    assert training.poll() is None
    training.send_signal(signal.SIGINT)
    rest, err = training.communicate(timeout=60)
    assert training.returncode == 130
    assert re.fullmatch(rb"holdfast/PointCircle-v0 cpo: 1/5000  return .+\n", first), first
    assert (first + rest + err).isascii()
    assert b"\x1b" not in first + rest + err
    assert b"Traceback" not in err

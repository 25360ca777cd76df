"""Programs that others start end with them: real processes, killed so that no `finally` runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.data.bundles import write_bundle
from tests.helpers.robots import runs

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells on Linux alone")

PARENT = """
import signal, sys, time
from holdfast import child
process = child.start(*sys.argv[2:], at_end=signal.Signals(int(sys.argv[1])))
print(process.pid, flush=True)
time.sleep(600)
"""

TWIN = """
import time
from holdfast.policy.demo.robot import first_line, program
with program(["twin", "--realtime-factor", 0]) as twin:
    first_line(twin)
    print(twin.pid, flush=True)
    time.sleep(600)
"""

POLICY = """
import os, signal, sys, time
from holdfast.bundle.reader import load
from holdfast.robot.run.policy_process import PolicyProcess
policy = PolicyProcess(load(sys.argv[1]), explore=False, seed=0)
policy.wait_ready()
print(policy._process.pid, flush=True)
time.sleep(600)
"""


def started(code: str, *arguments: str) -> tuple[subprocess.Popen[str], int]:
    """Run a parent; return it and the process id of the child that it says it has."""
    parent = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def end(parent: subprocess.Popen[str], number: int) -> None:
    parent.send_signal(number)
    parent.communicate(timeout=runs.LIMIT_S)


def sleeper(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A program's module that sleeps whatever it is told politely."""
    (folder / "sleeper.py").write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")
    return "sleeper"


@LINUX
def test_a_child_that_hears_nothing_ends_with_its_parent(tmp_path, monkeypatch):
    module = sleeper(tmp_path, monkeypatch)
    parent, pid = started(PARENT, str(int(signal.SIGKILL)), module)
    assert not runs.gone(pid)
    end(parent, signal.SIGKILL)
    runs.until(lambda: runs.gone(pid))


@LINUX
def test_a_child_whose_parent_ended_first_does_not_begin():
    """Between its start and its being tied; process 1 is the parent of whom it left behind."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ended = subprocess.run(
        [sys.executable, "-m", "holdfast.child", str(dead.pid), "15", "this", "--help"],
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 128 + 15
    assert ended.stdout == b""


@LINUX
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_the_demo_s_twin_ends_with_it(number):
    parent, pid = started(TWIN)
    end(parent, number)
    runs.until(lambda: runs.gone(pid))


@pytest.mark.parametrize("hangs", [False, pytest.param(True, marks=LINUX)])
def test_the_policy_s_process_ends_with_the_monitor_s(tmp_path, hangs):
    """Which it sees at its pipe; one that hangs sees nothing."""
    parent, pid = started(POLICY, str(write_bundle(tmp_path / "policy.onnx")))
    if hangs:
        os.kill(pid, signal.SIGSTOP)
    end(parent, signal.SIGKILL)
    runs.until(lambda: runs.gone(pid))

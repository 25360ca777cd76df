"""What the robot's commands print into a pipe: in any locale, without colour, at any width."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.robots import runs

ENVIRONMENTS = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii", "COLUMNS": "40"},
    "no colour": {"NO_COLOR": "1", "COLUMNS": "40", "TERM": "xterm-256color"},
}


def said(environment, *arguments, cwd=None):
    """Return what a command prints, once nothing in it could trouble a plain terminal."""
    ended = subprocess.run(
        [sys.executable, "-m", "holdfast", *map(str, arguments)],
        env={**os.environ, **ENVIRONMENTS[environment]},
        capture_output=True,
        check=False,
        cwd=cwd,
    )
    printed = ended.stdout + ended.stderr
    assert ended.returncode == 0, printed
    assert b"\x1b" not in printed
    assert b"Traceback" not in printed
    if environment != "no colour":
        assert printed.isascii(), printed
    return ended.stdout.decode()


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A bundle, and the log of two short episodes."""
    folder = tmp_path_factory.mktemp("plain")
    contract = drive_contract(episode_steps=20)
    policy = write_bundle(folder / "policy.onnx", contract, action=(0.4, 1.0))
    with runs.twin(folder, lockstep=True) as twin:
        options = ("--robot", twin.address, "--policy", policy, "--episodes", 2)
        printed = said("C", "deploy", *options, "--out", folder / "run")
    return folder, printed


def test_a_run_prints_a_line_for_each_episode(logged):
    _, printed = logged
    assert sum(line.startswith("episode ") for line in printed.splitlines()) == 2


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("command", [["replay"], ["logs"], ["show"]], ids=str)
def test_a_log_is_told_plainly(logged, environment, command):
    folder, _ = logged
    assert said(environment, *command, folder / "run", cwd=folder)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("command", [["doctor"], ["--help"], ["deploy", "--help"]], ids=str)
def test_help_and_doctor_are_plain(environment, command):
    printed = said(environment, *command)
    width = int(ENVIRONMENTS[environment].get("COLUMNS", 80))
    if command[0] != "deploy":  # tyro's lines may be longer than a narrow terminal
        assert max(map(len, printed.splitlines())) <= width


def test_a_pipe_gets_each_line_at_once(logged, tmp_path):
    folder, _ = logged
    with (
        runs.twin(tmp_path, lockstep=False) as twin,
        runs.deployment(
            tmp_path / "run", twin.address, folder / "policy.onnx", "--episodes", "50"
        ) as run,
    ):
        run.process.stdout.readline()
        assert run.process.stdout.readline().startswith("episode 0: ")
        assert run.process.poll() is None, "it was printed at the end, not at once"

"""A full disk, a read-only folder, a file that is gone: one sentence, and nothing lost."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.bundle import reader as bundle
from holdfast.cli import main
from holdfast.errors import FileError
from holdfast.log.writer import Recorder
from tests.helpers.data.recordings import info, record_episode
from tests.helpers.robots.runs import until

SMALL = ["--task", "DriveCircle-v0", "--batch", "250", "--critic-steps", "1"]
LARGEST = 2000
"""Bytes that a file may have, where the disk is as if it were full: fewer than a checkpoint."""

CLI = [sys.executable, "-m", "holdfast"]
SMALL_STUDY = """
import sys
from holdfast.cli import main
from holdfast.policy import reproduce
small = reproduce.Study(iterations=1, batch=150, algorithms=("cpo",))
reproduce.STUDIES = {"holdfast/PointGather-v0": small}
sys.exit(main(sys.argv[1:]))
"""


def program(*arguments: str, full: bool = False, folder: Path) -> tuple[int, str]:
    """Run a command as a program, threads and all; return its exit status and complaints."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST))

    program = [sys.executable, "-c", SMALL_STUDY] if arguments[0] == "reproduce" else CLI
    ended = subprocess.run(
        [*program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        preexec_fn=limit if full else None,
    )
    assert "Traceback" not in ended.stderr + ended.stdout
    return ended.returncode, ended.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one iteration, its bundle, and a log that the bundle may learn from."""
    out = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", *SMALL, "--iterations", "1", "--out", str(out)]) == 0
    path, checkpoint = out / "policy.onnx", str(out / "checkpoint.safetensors")
    export = [
        "export",
        "--checkpoint",
        checkpoint,
        "--episodes",
        "8",
        "--out",
        str(path),
        "--anyway",
    ]
    assert main(export) == 0
    made_by = bundle.load(path)
    budgets = {cost.name: cost.episode_cap for cost in made_by.contract.costs}
    said = info(contract=made_by.contract, bundle_hash=made_by.hash, episode_cap=budgets)
    log = Recorder(out / "log", said)
    for episode in range(2):
        record_episode(log, episode, 20, made_by, code="interrupted")
    log.close()
    return out


@pytest.fixture
def run(trained, tmp_path):
    """That run, to do things to."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    """Return a folder's files, but for TensorBoard's, by name."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.name: path.read_bytes() for path in files if "tfevents" not in path.name}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["train", "--resume", "--iterations", "2", "--out", "run"], "File too large"),
        (["export", "--checkpoint", "run/checkpoint.safetensors", "--episodes", "8",
          "--anyway", "--out", "bundle/policy.onnx"], "File too large"),
        (["demo", "--out", "demo", "--iterations", "1"], "File too large"),
        (["finetune", "--policy", "run/policy.onnx", "--log", "run/log", "--steps", "1",
          "--out", "child.onnx"], "File too large"),
        (["reproduce", "--tasks", "holdfast/PointGather-v0", "--seeds", "1",
          "--out", "compared"], "File too large"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_full_disk(command, said, run, tmp_path):
    held = contents(run)
    status, complaint = program(*command, full=True, folder=tmp_path)
    assert (status, said in complaint) == (1, True), complaint
    assert all(line.startswith("holdfast: ") for line in complaint.splitlines())
    left = contents(run)
    assert left["checkpoint.safetensors"] == held["checkpoint.safetensors"]
    assert left["progress.jsonl"].startswith(held["progress.jsonl"])
    assert left["policy.onnx"] == held["policy.onnx"]
    assert not list(tmp_path.glob("child*"))
    assert not [name for name in contents(tmp_path) if name.endswith((".part", ".partial"))]
    if command[0] == "train":  # and it goes on when there is room again
        assert program(*command, folder=tmp_path)[0] == 0


def test_a_child_that_is_not_written_leaves_no_training_state(run, tmp_path, monkeypatch):
    """Alone it would refuse the next try."""

    def broken(*_, **__):
        raise FileError("child.onnx: cannot be written")

    monkeypatch.setattr("holdfast.policy.improve.finetune.export", broken)
    line = ["finetune", "--policy", run / "policy.onnx", "--log", run / "log", "--steps", "1"]
    assert main([*map(str, line), "--out", str(tmp_path / "child.onnx")]) == 1
    assert not list(tmp_path.glob("child*"))


BREAKS = """
import dataclasses
from pathlib import Path
import numpy as np
from holdfast.sim.registry import resolve

def task():
    made = resolve("PointCircle-v0").make()
    made.contract = dataclasses.replace(made.contract, task="mine/Task-v0")
    reward, once = made.reward, Path("out/progress.jsonl").exists
    made.reward = lambda signals: reward(signals) * (np.nan if once() else 1.0)
    return made
"""


def test_a_full_disk_does_not_hide_why_a_training_ended(tmp_path):
    """It ends in its second iteration, and the checkpoint of the first finds no room."""
    (tmp_path / "mine.py").write_text(BREAKS)
    given = ["train", "--task", "mine.py:task", *SMALL[2:], "--iterations", "2", "--out", "out"]
    status, complaint = program(*given, full=True, folder=tmp_path)
    assert status == 1
    assert "returned a non-finite reward; and what was learned is lost: " in complaint
    assert "File too large" in complaint


def test_a_folder_that_vanishes_under_a_training(tmp_path):
    """Whoever writes next says which file is missing: the training, or TensorBoard's thread."""
    running = subprocess.Popen(
        [*CLI, "train", *SMALL, "--iterations", "100000", "--checkpoint-every", "100000",
         "--out", "run"],  # a checkpoint would make the folder anew
        cwd=tmp_path, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        until((tmp_path / "run" / "progress.jsonl").exists, limit_s=120.0)
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        complaint = running.communicate(timeout=120.0)[1]
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 1
    assert "No such file or directory" in complaint
    assert all(line.startswith("holdfast: run/") for line in complaint.splitlines()), complaint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(run):
    run.chmod(0o500)
    held = contents(run)
    status, complaint = program(
        "train", "--resume", "--iterations", "2", "--out", "run", folder=run.parent
    )
    assert (status, "Permission denied" in complaint) == (1, True), complaint
    assert contents(run) == held


@pytest.mark.parametrize("out", ["/proc/holdfast", "/dev/null/run", "/sys"])
@pytest.mark.parametrize("command", ["train", "demo", "reproduce"])
def test_where_nothing_can_be_written(command, out, tmp_path, monkeypatch, capsys):
    """Read-only for root too."""
    monkeypatch.chdir(tmp_path)
    more = [*SMALL, "--iterations", "1"] if command == "train" else []
    assert main([command, *more, "--out", out]) == 1
    (complaint,) = set(capsys.readouterr().err.splitlines())  # TensorBoard's thread says it too
    assert complaint.startswith("holdfast: ")


def test_a_path_with_markup_in_it(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("[", "[/x]", "[red]", "[/]"):
        assert main(["train", *SMALL, "--iterations", "1", "--out", name]) == 0
        assert f"{name}/checkpoint.safetensors" in capsys.readouterr().out


def test_a_reader_that_goes_away(run):
    """`holdfast ... | head`"""
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [*CLI, "doctor"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert ended.returncode == 1
    assert ended.stderr == ""  # nobody needs to be told

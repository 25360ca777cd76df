"""What a file names is never run: a checkpoint, a bundle or a log is data, whoever made it."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
from pathlib import Path

import onnx
import pytest

from holdfast.bundle import reader as bundle
from holdfast.cli import main
from holdfast.contract import Contract
from holdfast.errors import ConfigError
from holdfast.log import reader as log
from holdfast.log.writer import Recorder
from holdfast.policy.demo import report
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.models import checkpoint
from holdfast.policy.ship.export import checkpoint_of, export
from holdfast.policy.train import CHECKPOINT
from holdfast.sim.registry import resolve
from tests.helpers.data.bundles import drive_contract
from tests.helpers.data.recordings import info, record_episode

ROOT = Path(__file__).parents[2]
EVIL = "from pathlib import Path\nPath({mark!r}).touch()\n"
NAMES = ["{folder}/evil.py:T", "gym:evil:T-v0", "gym:{folder}/evil.py:T-v0", "gym:evil.py:T-v0"]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shipped")
    learner = Learner(TrainSettings(task=resolve("PointCircle-v0"), batch=1040, critic_steps=5))
    learner.save(folder / "state.safetensors")
    learner.close()
    export(folder / "state.safetensors", folder / "policy.onnx", episodes=10)
    return folder / "policy.onnx"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a module that leaves a mark when it is run, wherever it is looked for."""
    (tmp_path / "evil.py").write_text(EVIL.format(mark=str(tmp_path / "mark")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    assert not (tmp_path / "mark").exists()


def forged(shipped: Path, folder: Path, name: str, contract: Contract | None = None) -> Path:
    """Return a bundle whose training state, and contract, are of another task by name."""
    tensors, data = checkpoint.load(checkpoint_of(shipped))
    data["settings"]["task"] = name
    if contract is not None:
        data["contract"] = contract.to_json()
    path = folder / "policy.onnx"
    checkpoint.save(checkpoint_of(path), tensors, data)
    model = onnx.load(shipped)
    entries = {entry.key: entry for entry in model.metadata_props}
    provenance = json.loads(entries["holdfast_provenance"].value)
    state = checkpoint_of(path).read_bytes()
    provenance["checkpoint"]["sha256"] = hashlib.sha256(state).hexdigest()
    entries["holdfast_provenance"].value = json.dumps(provenance)
    entries["holdfast_digest"].value = bundle.PLACEHOLDER
    if contract is not None:
        entries["holdfast_contract"].value = contract.to_json()
    path.write_bytes(bundle.seal(model.SerializeToString(deterministic=True)))
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", ["verify", "export", "finetune", "improve", "train"])
def test_a_task_that_a_training_state_names_is_not_run(shipped, folder, capsys, name, command):
    policy = forged(shipped, folder, name.format(folder=folder))
    (folder / "run").mkdir()
    (folder / "run" / CHECKPOINT).write_bytes(checkpoint_of(policy).read_bytes())
    (folder / "profile.yaml").write_text("gain: 0.9\n")
    line = {
        "verify": ["--policy", "policy.onnx"],
        "export": ["--checkpoint", f"run/{CHECKPOINT}", "--out", "out.onnx"],
        "finetune": ["--policy", "policy.onnx", "--log", "none", "--out", "child.onnx"],
        "improve": ["--policy", "policy.onnx", "--profile", "profile.yaml", "--out", "child.onnx"],
        "train": ["--resume", "--out", "run"],
    }[command]
    assert main([command, *line]) == 1
    said = "".join(capsys.readouterr())
    assert "give the task with --task FILE.py:NAME or gym:MODULE:ID" in said
    assert "Traceback" not in said
    if command == "verify":
        assert "refused reproducible: checkpoint policy.checkpoint.safetensors: was " in said


@pytest.mark.parametrize("name", NAMES)
def test_a_task_that_a_contract_names_is_not_run(shipped, folder, name):
    """Of a log that `report` reads, and of a bundle that `deploy`, `replay` and `verify` do."""
    task = name.format(folder=folder)
    contract = dataclasses.replace(bundle.load(shipped).contract, task=task)
    recorder = Recorder(folder / "log", info(contract=drive_contract(task=task)))
    record_episode(recorder, 0, 5)
    recorder.close()
    with pytest.raises(
        ConfigError, match="code that a file names is not run: give the task with --task"
    ):
        report.row(log.read(folder / "log"))
    assert main(["replay", "log"]) in (0, 1)
    forged(shipped, folder, task, contract)
    assert main(["deploy", "--robot", "serial:/nowhere", "--policy", "policy.onnx"]) == 1
    assert main(["verify", "--policy", "policy.onnx"]) == 1


def test_the_task_that_was_trained_on_may_be_named_but_no_other(shipped, capsys):
    for task in ("PointCircle-v0", "holdfast/PointCircle-v0"):
        held = Learner.load(checkpoint_of(shipped), resolve(task)).settings
        assert held.task.id == "PointCircle-v0"
    line = ["export", "--checkpoint", str(checkpoint_of(shipped)), "--out", "no/where.onnx"]
    assert main([*line, "--task", "AntCircle-v0"]) == 1
    assert "was trained with task = holdfast/PointCircle-v0, not AntCircle" in (
        capsys.readouterr().err
    )


def test_nothing_unpickles_and_nothing_evaluates_text():
    """By the names that would: none is used in what is installed, with one exception.

    `holdfast/expressions/generate.py` executes a function that it wrote from a checked tree, in
    which nothing but numbers, indices and names of its own stands.
    """
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
    calls = {"eval", "exec", "compile", "__import__"}
    methods = {("torch", "load"), ("np", "load"), ("numpy", "load"), ("yaml", "load"),
               ("yaml", "unsafe_load"), ("yaml", "full_load")}  # fmt: skip
    found = []
    for place in ("holdfast", "policy", "robot", "safety_monitor", "sim"):
        for file in (ROOT / place).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name.partition(".")[0] for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [(node.module or "").partition(".")[0]]
                found += [f"{file}: {name}" for name in names if name in forbidden]
                if isinstance(node, ast.Call):
                    function = node.func
                    if isinstance(function, ast.Name) and function.id in calls:
                        found.append(f"{file}: {function.id}")
                    if isinstance(function, ast.Attribute):
                        owner = getattr(function.value, "id", "")
                        if (owner, function.attr) in methods:
                            found.append(f"{file}: {owner}.{function.attr}")
    assert found == [f"{ROOT / 'holdfast' / 'expressions' / 'generate.py'}: exec"]

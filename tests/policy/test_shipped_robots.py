"""The skid-steered, the omnidirectional and the four-legged robot, from training to a bundle."""

import json

import pytest

from holdfast.bundle import reader as bundle
from holdfast.cli import main
from holdfast.policy.train import CHECKPOINT

ITERATIONS = 3


@pytest.mark.parametrize("name", ["SkidCircle-v0", "OmniGoal-v0", "QuadrupedFollow-v0"])
def test_it_trains_within_its_limits_and_is_exported(name, tmp_path, monkeypatch, capsys):
    """A start: what is learned so soon is little, and costs no more than the task allows."""
    monkeypatch.chdir(tmp_path)
    line = ["train", "--task", name, "--batch", "3000", "--seed", "1", "--out", "run"]
    assert main([*line, "--iterations", str(ITERATIONS)]) == 0
    records = [json.loads(line) for line in (tmp_path / "run" / "progress.jsonl").open()]
    export = ["export", "--checkpoint", f"run/{CHECKPOINT}", "--out", "policy.onnx"]
    assert main([*export, "--episodes", "10", "--anyway"]) == 0  # ten episodes tell little
    assert main(["verify", "--policy", "policy.onnx"]) == 0
    assert "ok      parity" in capsys.readouterr().out
    made = bundle.load(tmp_path / "policy.onnx")
    assert made.contract.task == f"holdfast/{name}"
    assert len(records) == ITERATIONS
    for cost in made.contract.costs:
        mean = sum(record["costs"][cost.name] for record in records) / ITERATIONS
        assert mean <= cost.limit, (cost.name, mean)

"""Training in other people's environments, and that what comes of it never moves a robot."""

import json
import subprocess
import sys

import numpy as np
import pytest

from holdfast.bundle import reader as bundle
from holdfast.cli import main
from holdfast.errors import TrainingError
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings, contract_of
from holdfast.policy.train import CHECKPOINT, PROGRESS
from holdfast.robot import config as configs
from holdfast.sim.registry import resolve

WALK = "gym:tests.helpers.gym.gym_envs:Walk-v0"
SMALL = TrainSettings(task=resolve(WALK), limit=(2.0,), batch=180, critic_steps=5)
LINE = f"train --task {WALK} --limit 2 --batch 180 --critic-steps 5".split()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")
    assert main([*LINE, "--iterations", "2", "--out", str(folder)]) == 0
    source, out = str(folder / CHECKPOINT), str(folder / "policy.onnx")
    assert (
        main(
            [
                "export",
                "--checkpoint",
                source,
                "--out",
                out,
                "--episodes",
                "10",
                "--anyway",
                "--task",
                WALK,
            ]
        )
        == 0
    )
    return folder


@pytest.mark.parametrize("limit", [0.0, 2.0])
def test_the_limit_is_the_user_s(limit):
    (cost,) = contract_of(TrainSettings(task=resolve(WALK), limit=(limit,))).costs
    assert (cost.limit, cost.run_budget) == (limit, limit)


def test_nobody_else_knows_the_limit():
    with pytest.raises(TrainingError, match=f"{WALK}: has no limit of its own; give one with"):
        Learner(TrainSettings(task=resolve(WALK)))
    Learner(TrainSettings(task=resolve(WALK), algorithm="trpo", batch=60))


def test_a_resumed_run_meets_the_same_episodes(tmp_path):
    whole = Learner(SMALL)
    whole.iterate()
    whole.save(tmp_path / "c.safetensors")
    resumed = Learner.load(tmp_path / "c.safetensors", resolve(WALK))
    pushes = np.random.default_rng(0).uniform(-1.0, 1.0, (40, 6, 1))
    np.testing.assert_array_equal(whole.batch.reset(), resumed.batch.reset())
    for push in pushes:  # and those after the first
        a, b = whole.batch.step(push), resumed.batch.step(push)
        np.testing.assert_array_equal(a.observation, b.observation)
    assert not np.array_equal(whole.batch.reset(), Learner(SMALL).batch.reset())


def test_what_was_trained_is_exported_and_verified(trained, capsys):
    records = [json.loads(line) for line in (trained / PROGRESS).read_text().splitlines()]
    assert [record["iteration"] for record in records] == [1, 2]
    held = bundle.load(trained / "policy.onnx")
    assert held.contract.costs[0].expression == "reported_cost[0]"
    assert held.provenance["settings"]["task"] == WALK
    line = ["verify", "--policy", str(trained / "policy.onnx"), "--task"]
    assert main([*line, WALK]) == 0
    assert main([*line, "gym:Walk-v0"]) == 1  # its name is right, but it could not be run
    said = capsys.readouterr().out
    assert "refused reproducible" in said
    assert "give the task with --task FILE.py:NAME or gym:MODULE:ID" in said


@pytest.mark.parametrize("config", [[], ["--config", "drive"]])
def test_no_robot_is_moved_by_it(trained, config):
    """Before anything is connected, whatever the configuration says."""
    if config:
        config = ["--config", str(configs.find("drive"))]
    line = ["deploy", "--robot", "serial:/nowhere", "--policy", str(trained / "policy.onnx")]
    ended = subprocess.run(
        [sys.executable, "-m", "holdfast", *line, *config],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == (
        "holdfast: contract of task 'gym:Walk-v0': needs observation and reported_cost, which a "
        "simulation alone can tell, so it runs on no robot\n"
    )


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ("WalkForgets", "step's info should have 'cost', a number or numbers by name; it has noth"),
        ("WalkNan", "step returned a non-finite observation"),
        ("WalkUnseeded", "reset(seed=0) should give the same start each time"),
    ],
)
def test_a_faulty_environment_is_refused_before_training(tmp_path, capsys, env, sentence):
    out = tmp_path / "run"
    line = [*LINE, "--out", str(out)]
    line[2] = f"gym:tests.helpers.gym.gym_envs:{env}-v0"
    assert main(line) == 1
    assert capsys.readouterr().err.startswith(f"holdfast: {line[2]}: {sentence}")
    assert not out.exists()


def test_a_model_that_nobody_sees_is_not_randomised(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text("mass: [0.5, 2.0]\n")
    line = [*LINE, "--randomise", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "run")]
    assert main(line) == 1
    assert capsys.readouterr().err == f"holdfast: {WALK}: has no model that could be randomised\n"

"""Robots beside the drive robot: twins behind the link and in a ROS graph, and deployments."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from holdfast.robot.run.replay import replay
from holdfast.sim.registry import resolve
from tests.helpers.data.bundles import write_bundle
from tests.helpers.robots import runs
from tests.helpers.robots.twins import running_twin
from tests.helpers.ros import graphs

TASKS = ["SkidCircle-v0", "OmniGoal-v0", "QuadrupedFollow-v0"]
STEPS, SEED = 60, 1
LATE = {"source_stale", "source_lost", "proposal_stale", "fallback_ended"}
"""What may stop a robot in real time where other programs have the computer."""

GAP = """
mass: 1.1
gain: {each: 0.97}
delay: {command: 1, position: 1}
noise: {position: 0.005, heading: 0.005, forward_speed: 0.01, yaw_rate: 0.01}
bias: {yaw_rate: 0.005}
"""


@pytest.fixture(autouse=True)
def one_domain(monkeypatch):
    for name, value in graphs.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def exploring_policy(name, folder):
    """Write a bundle whose actions are mostly noise."""
    contract = dataclasses.replace(resolve(name).contract, episode_steps=STEPS)
    return write_bundle(folder / "policy.onnx", contract, gain=0.02, log_std=-2.0)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("gap", ["", GAP], ids=["nominal", "gap"])
def test_a_robot_runs_in_lockstep_as_it_is_and_with_a_gap(name, gap, tmp_path):
    (tmp_path / "gap.yaml").write_text(gap)
    policy, truth = exploring_policy(name, tmp_path), tmp_path / "truth.jsonl"
    options = ("--task", name, "--seed", SEED, "--gap", tmp_path / "gap.yaml", "--truth", truth)
    with (
        running_twin("--realtime-factor", 0, *options) as served,
        runs.deployment(
            tmp_path / "run", served.address, policy, "--episodes", "2", "--explore"
        ) as run,
    ):
        status, _, err = run.end()
    assert (status, err) == (0, "")
    log = run.log()
    assert [episode.result.ended for episode in log.episodes] == ["completed"] * 2
    assert not replay(log).differs(log).any()
    books = [json.loads(line) for line in truth.read_text().splitlines()]
    assert [book["steps"] for book in books] == [STEPS, STEPS]
    said = log.episodes[0].signals["position"]
    true = np.array(books[0]["position"])
    off_m = np.linalg.norm(said[1:] - true, axis=1)
    assert (off_m.max() > 1e-3) == bool(gap)
    assert off_m.max() < 0.1


@pytest.mark.alone
@pytest.mark.parametrize("name", TASKS)
def test_a_robot_runs_in_a_ros_graph(name, tmp_path):
    """A stall of this computer may stop the robot, which is then tried again."""
    pytest.importorskip("cyclonedds")
    policy = exploring_policy(name, tmp_path)
    robot = resolve(name).contract.robot
    with running_twin("--dds", "--task", name, "--seed", SEED) as served:
        assert served.address == f"dds:{robot}"
        for attempt in range(5):
            out = tmp_path / f"run{attempt}"
            with runs.deployment(out, served.address, policy, "--explore", "--no-prompt") as run:
                status, _, err = run.end()
            (episode,) = run.log().episodes
            if episode.result.ended == "completed":
                break
            assert episode.result.code in LATE, err
        else:
            pytest.fail("this computer was too busy for an episode of three seconds")
    assert (status, err) == (0, "")
    assert episode.result.steps == STEPS
    speeds = np.abs(episode.signals["lateral_speed"])
    assert np.isfinite(speeds).all()
    assert speeds.max() > 1e-4
    assert not replay(run.log()).differs(run.log()).any()

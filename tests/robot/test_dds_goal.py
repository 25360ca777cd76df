"""From goal to goal in a ROS graph, without ROS.

A twin among posts, whose lidar and goals travel as a real robot's would, and a deployment that sees
in them what training saw.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="without Cyclone DDS: pip install 'holdfast-robot[dds]'")

from holdfast import share
from holdfast.robot.run.replay import replay
from holdfast.safety_monitor.messages import State
from holdfast.sim.registry import resolve
from tests.helpers.data.bundles import write_bundle
from tests.helpers.robots import runs
from tests.helpers.robots.twins import running_twin
from tests.helpers.ros import graphs

pytestmark = pytest.mark.alone

CONFIG = share.folder() / "config" / "drive_lidar.yaml"
SEED, STEPS = 7, 80


@pytest.fixture(autouse=True)
def one_domain(monkeypatch):
    for name, value in graphs.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def test_a_policy_goes_among_posts_to_a_goal(tmp_path):
    """It turns slowly and creeps ahead. Where the twin was, every sector and every goal of the log
    is what the task says of that place."""
    task = resolve("DriveGoal-v0").make()
    contract = dataclasses.replace(task.contract, episode_steps=STEPS)
    policy = write_bundle(tmp_path / "policy.onnx", contract, action=(0.05, 0.5))
    truth = tmp_path / "truth.jsonl"
    options = ["--dds", "--task", "DriveGoal-v0", "--config", CONFIG, "--seed", SEED]
    with running_twin(*options, "--truth", truth) as twin:
        assert twin.address == f"dds:{CONFIG}"
        with runs.deployment(tmp_path / "run", "dds:drive_lidar", policy, "--no-prompt") as run:
            status, out, err = run.end()
        assert (status, err) == (0, "")
        assert f"{STEPS} steps" in out
        log = run.log()
    assert not replay(log).differs(log).any()
    (episode,) = log.episodes
    assert State.ACTIVE in {State(int(state)) for state in episode.state}
    _, _, world = task.reset(np.random.default_rng([SEED, 0]), 1)
    check_what_was_seen(task, world, episode)
    # Paid and billed from the log alone; the twin has books of its own.
    reward = task.reward({name: values[1:] for name, values in episode.signals.items()} | {
        "goals_reached": np.zeros((STEPS, 1))
    })  # fmt: skip
    (line,) = truth.read_text().splitlines()
    assert json.loads(line)["reward_sum"] == pytest.approx(reward.sum(), abs=0.1)
    near = episode.signals["scan"].min(axis=1) < 0.35
    np.testing.assert_array_equal(episode.costs[1:, 0], near[1:])


def check_what_was_seen(task, world, episode):
    """A scan is up to a tenth of a second old, and the robot has turned by a few degrees since."""
    rows = episode.signals["position"], episode.signals["heading"]
    body = {"position": rows[0], "heading": rows[1]}
    around = {name: np.repeat(array, len(rows[0]), axis=0) for name, array in world.items()}
    true = task.surroundings(body, around)
    assert np.ptp(rows[1]) > 1.0
    np.testing.assert_allclose(episode.signals["goal"], true["goal"], atol=0.1)
    for k in range(5, len(rows[0])):
        alike = np.abs(episode.signals["scan"][k] - true["scan"][k - 4 : k + 1]) < 0.05
        assert alike.mean(axis=1).max() > 0.9

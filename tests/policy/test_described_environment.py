"""An environment that names its channels, from training to a run on a device that has them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import yaml

from holdfast.bundle import reader as bundles
from holdfast.cli import main
from holdfast.errors import ConfigError, HoldfastError, TrainingError
from holdfast.log.reader import read
from holdfast.policy.train import CHECKPOINT
from holdfast.safety_monitor.look import require_a_robot
from holdfast.sim.batch.gym_signals import SignalReader
from holdfast.sim.registry import resolve
from tests.helpers.gym.gym_unicycle import PERIOD_S
from tests.helpers.robots import runs
from tests.helpers.robots.unicycle import UnicycleBoard, served

MODULE = "gym:tests.helpers.gym.gym_unicycle"
TASK = f"{MODULE}:Unicycle-v0"
CONFIG = {
    "extends": "drive",
    "robot": "unicycle",
    "ros": None,
    "monitor": {"envelope": {"tilt_rad": None}},
}


def test_the_contract_is_what_the_environment_says():
    contract = resolve(TASK).contract
    assert (contract.robot, contract.period_s, contract.episode_steps) == ("unicycle", 0.05, 40)
    assert [channel.signal for channel in contract.observation] == [
        *("position", "heading", "forward_speed", "yaw_rate", "episode_left"),
    ]
    assert [channel.max_rate_per_s for channel in contract.action] == [4.0, 20.0]
    assert [(c.name, c.expression, c.at_most) for c in contract.costs] == [
        ("cost", "abs(position.x) > 0.3", 1.0)
    ]
    require_a_robot(contract)
    resolve(TASK).check()


def test_a_module_may_say_it_for_its_environments(tmp_path):
    """For some of them: where it returns None, the contract is the spaces'."""
    (tmp_path / "own.py").write_text(
        "from tests.helpers.gym import gym_envs, gym_unicycle\n"
        "def describe(env):\n"
        "    if env.spec.id == 'Unicycle-v0':\n"
        "        return {**env.unwrapped.describe(), 'robot': 'other'}\n"
    )
    assert resolve(f"gym:{tmp_path / 'own.py'}:Unicycle-v0").contract.robot == "other"
    assert resolve(f"gym:{tmp_path / 'own.py'}:Walk-v0").contract.robot == "simulation"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("Fails", "describe failed (ValueError: no idea)"),
        ("Text", "describe.observation should be a list, received 'position'"),
        ("Unknown", "describe: unknown period"),
        ("Short", "describe: observation channels should have 6 values in all, as the environment's"
                  " observation has, received 5"),
        ("Swapped", "observation channel 'heading': its value 0 should be 1, as signal"),
        ("Signal", "signal should be one of position"),
        ("Unit", "observation channel 'yaw_rate': unit should be 'rad/s', received 'deg/s'"),
        ("History", "should have no history and no clip, because the signal is read out of it"),
        ("Action", "describe: action should list 2 channels, as the action space has values, "
                   "received 1"),
        ("Limits", "action channel 'yaw_rate': limits [-2, 3] should be inside the action space's "
                   "[-2, 2]"),
        ("Named", "costs should be those that the environment reports, cost; received outside"),
        ("Cost", "cost 'cost': 'abs(position.y) > 0.3' should give what the environment reports; "
                 "it gives "),
    ],
)  # fmt: skip
def test_a_wrong_description_is_one_sentence(fault, sentence, capsys, tmp_path):
    task = f"{MODULE}:Unicycle{fault}-v0"
    with pytest.raises(HoldfastError) as raised:
        resolve(task).check()
    assert isinstance(raised.value, ConfigError | TrainingError)
    assert sentence in str(raised.value)
    line = ["train", "--task", task, "--limit", "5", "--out", str(tmp_path / "run")]
    assert main(line) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_copies_turn_no_faster_than_the_robot_may():
    """As the monitor lets the robot: the rates of change are the contract's in training too."""
    batch = resolve(TASK).batch(2, seed=0)
    batch.reset()
    speeds = [batch.step(np.array([[1.0, 0.0], [-1.0, 0.0]])).observation[:, 4] for _ in range(6)]
    np.testing.assert_allclose(np.array(speeds)[:, 0] / 2.0, [0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    np.testing.assert_allclose(np.array(speeds)[:, 1], -np.array(speeds)[:, 0])
    batch.close()


def test_signals_are_read_out_of_any_observation():
    """Any pose and speed comes back, whatever is scaled and transformed."""
    contract = resolve(TASK).contract
    moved = dataclasses.replace(contract.observation[0], scale=-3.0, offset=0.5)
    contract = dataclasses.replace(contract, observation=(moved, *contract.observation[1:]))
    rng = np.random.default_rng(2)
    position, yaw = rng.normal(size=(100, 2)), rng.uniform(-np.pi, np.pi, (100, 1))
    speeds = rng.normal(size=(100, 2))
    observation = np.concatenate(
        (0.5 - 3.0 * position, np.cos(yaw), np.sin(yaw), 2.0 * speeds[:, :1], speeds[:, 1:]), axis=1
    )
    signals = SignalReader("env", contract)(observation)
    np.testing.assert_allclose(signals["position"], position, atol=1e-12)
    np.testing.assert_allclose(signals["heading"], yaw, atol=1e-12)
    np.testing.assert_allclose(signals["forward_speed"], speeds[:, :1])
    np.testing.assert_allclose(signals["yaw_rate"], speeds[:, 1:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One iteration of training, exported, and run on a device that says these signals."""
    folder = tmp_path_factory.mktemp("described")
    (folder / "unicycle.yaml").write_text(yaml.safe_dump(CONFIG))
    train = ["train", "--task", TASK, "--limit", "5", "--iterations", "1", "--batch", "400"]
    assert main([*train, "--out", str(folder / "run")]) == 0
    policy = folder / "policy.onnx"
    export = ["export", "--checkpoint", str(folder / "run" / CHECKPOINT), "--episodes", "10"]
    assert main([*export, "--out", str(policy), "--anyway", "--task", TASK]) == 0
    options = ["--episodes", "2", "--explore", "--config", str(folder / "unicycle.yaml")]
    with (
        served(UnicycleBoard()) as address,
        runs.deployment(folder / "log", address, policy, *options) as deployed,
    ):
        status, out, err = deployed.end()
    assert (status, err) == (0, ""), out
    return folder


def test_its_policy_moves_a_robot(folder, capsys):
    """Which ran every step, was billed by the described cost, and replays."""
    log = read(folder / "log")
    assert [episode.result.steps for episode in log.episodes] == [40, 40]
    for episode in log.episodes:
        beyond = np.abs(episode.signals["position"][1:, 0]) > 0.3
        np.testing.assert_array_equal(episode.costs[1:, 0], beyond)
        assert np.ptp(episode.signals["heading"]) > 0.1
    assert main(["replay", str(folder / "log"), "--policy", str(folder / "policy.onnx")]) == 0
    assert "every verdict is as logged" in capsys.readouterr().out
    summary = json.loads((folder / "log" / "summary.json").read_text())
    assert summary["robot"] == "unicycle"


def test_simulation_and_robot_observe_alike(folder):
    """The logged actions, in a copy of the environment that starts as the robot did."""
    log = read(folder / "log")
    episode = log.episodes[0]
    env = resolve(TASK).maker()
    env.reset(seed=0)
    env.unwrapped._pose = (*episode.signals["position"][0], episode.signals["heading"][0, 0])
    for k, action in enumerate(episode.applied[:-1]):
        seen, *_ = env.step(action)
        np.testing.assert_allclose(seen, episode.observation[k + 1, :6], atol=1e-5)
    assert pytest.approx(log.info.contract.period_s * episode.result.steps) == PERIOD_S * 40


def test_verify_exports_it_again(folder, capsys):
    assert main(["verify", "--policy", str(folder / "policy.onnx"), "--task", TASK]) == 0
    assert "ok      reproducible" in capsys.readouterr().out
    assert bundles.load(folder / "policy.onnx").contract.robot == "unicycle"

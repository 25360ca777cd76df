"""`holdfast deploy` refuses what does not fit, in one sentence and before anything moves."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import yaml

from holdfast import share
from holdfast.bundle.reader import load
from holdfast.contract import ActionChannel, ObservationChannel
from holdfast.errors import BundleError, ConfigError, ContractError, LinkError, RunError
from holdfast.robot import config as configs
from holdfast.robot.base import Identity
from holdfast.robot.run import deploy
from holdfast.robot.run.assembly import knowledge, parse_budget, require_fit
from holdfast.robot.run.deploy import Settings
from holdfast.safety_monitor.monitor import Monitor
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.robots import runs

IDENTITY = Identity(
    robot="drive",
    hardware_id="unit-7",
    actions=("forward_speed", "yaw_rate"),
    action_low=(-1.0, -2.0),
    action_high=(1.0, 2.0),
    watchdog_s=0.2,
    sources={"robot": {"position": 2, "heading": 1, "forward_speed": 1, "yaw_rate": 1, "tilt": 2}},
    lockstep=False,
    self_placing=False,
)


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    with runs.twin(tmp_path_factory.mktemp("twin"), lockstep=True) as the_twin:
        yield the_twin


def bundle_of(tmp_path, **changes):
    return load(write_bundle(tmp_path / "policy.onnx", drive_contract(**changes)))


REQUIRED = frozenset(IDENTITY.signals)


def test_a_robot_that_fits():
    require_fit(drive_contract(), IDENTITY, REQUIRED, 0.15)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        (
            {"action_high": (1.0, 1.5)},
            RunError,
            r"unit-7 allows yaw_rate in \[-2.0, 1.5\] rad/s; the contract needs \[-2.0, 2.0\]",
        ),
        ({"action_low": (-0.5, -2.0)}, RunError, "allows forward_speed"),
        ({"action_low": (math.nan, -2.0)}, RunError, r"allows forward_speed in \[nan, 1.0\]"),
        ({"action_high": (1.0, math.nan)}, RunError, r"allows yaw_rate in \[-2.0, nan\]"),
        (
            {"actions": ("yaw_rate", "forward_speed")},
            RunError,
            "unit-7 takes the action channels yaw_rate, forward_speed, in this order; the contract "
            "has forward_speed, yaw_rate",
        ),
        (
            {"actions": ("forward_speed", "turn_rate")},
            RunError,
            "takes the action channels forward_speed, turn_rate, in this order",
        ),
        (
            {"actions": ("forward_speed",), "action_low": (-1.0,), "action_high": (1.0,)},
            RunError,
            "takes the action channels forward_speed, in this order",
        ),
        (
            {"sources": {"robot": ("position", "heading")}},
            RunError,
            "not measure forward_speed, tilt, yaw_rate; the contract or the monitor's limits need",
        ),
        ({"watchdog_s": 0.05}, RunError, "stops after 0.05 s without a command"),
        (
            {"watchdog_s": 0.1},
            RunError,
            "command_valid_for_s 0.15 should be at most the 0.1 s after which unit-7 stops",
        ),
    ],
)
def test_a_robot_that_does_not_fit(changes, error, sentence):
    with pytest.raises(error, match=sentence):
        require_fit(drive_contract(), dataclasses.replace(IDENTITY, **changes), REQUIRED, 0.15)


def test_the_period_of_measurements_fits():
    contract = drive_contract()

    def fit(lockstep, state_period_s):
        changes = {"lockstep": lockstep, "state_period_s": state_period_s}
        require_fit(contract, dataclasses.replace(IDENTITY, **changes), REQUIRED, 0.15)

    assert contract.period_s == 0.05
    for lockstep, state_period_s in ((True, 0.05), (False, 0.05), (False, 0.01), (False, None)):
        fit(lockstep, state_period_s)
    for state_period_s in (0.02, 0.1):
        with pytest.raises(RunError, match=f"advances by {state_period_s} s with each command"):
            fit(True, state_period_s)
    with pytest.raises(RunError, match=r"measures every 0\.051 s; that should be at most the"):
        fit(False, 0.051)


def test_a_signal_that_only_a_cost_needs():
    """Without its position in the observation, the corridor must still be billed."""
    speed = (ObservationChannel("forward_speed", 1, "m/s", "forward_speed"),)
    contract = drive_contract(observation=speed)
    drive = configs.load(configs.find("drive")).monitor
    bare = drive.without("geofence", "envelope", "tracking", "following")
    required = Monitor(contract, bare).required
    assert required == {"forward_speed", "heading", "position"}
    blind = dataclasses.replace(IDENTITY, sources={"robot": {"forward_speed": 1}})
    with pytest.raises(RunError, match="does not measure heading, position;"):
        require_fit(contract, blind, required, 0.15)


def test_episode_caps_are_read():
    assert parse_budget(["a=3", "b=0.5"]) == {"a": 3.0, "b": 0.5}
    for text in ("a", "=3", "a=", "a=x"):
        with pytest.raises(ConfigError, match=f"NAME=VALUE, once for each cost, received '{text}'"):
            parse_budget([text])
    with pytest.raises(ConfigError, match="received 'a=4'"):
        parse_budget(["a=3", "a=4"])


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"episode_cap": ("outside_corridor=31",)}, ContractError, "at most the contract's 30"),
        ({"episode_cap": ("bumps=1",)}, ContractError, "bumps"),
        ({"config": "nothing.yaml"}, ConfigError, "cannot be read"),
        ({"robot": "usb0"}, ConfigError, "robot should begin with serial: or dds:, rec"),
        ({"robot": "serial:/dev/nothing"}, LinkError, "/dev/nothing: there is no such port"),
        ({"policy": "nothing.onnx"}, BundleError, r"nothing\.onnx: cannot be read"),
    ],
)
def test_settings_that_cannot_be(tmp_path, changes, error, sentence):
    values = {"robot": "serial:/dev/nothing", "policy": "policy.onnx", **changes}
    for name in ("policy", "config"):
        if name in values:
            values[name] = tmp_path / values[name]
    write_bundle(tmp_path / "policy.onnx")
    with pytest.raises(error, match=sentence):
        deploy.command(Settings(out=tmp_path / "run", **values))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("familiarity", "sentence"),
    [
        ({"mean": [0.0]}, "familiarity: missing whitening"),
        (
            {
                "mean": [0.0],
                "whitening": [[1.0]],
                "reference": 1.0,
                "threshold": 1.0,
                "false_alarm_rate": 0.1,
                "episodes": 10,
                "logged": 0,
            },
            "should be of 9 observed values, received 1",
        ),
    ],
)
def test_a_familiarity_that_cannot_be(tmp_path, familiarity, sentence):
    entries = {"familiarity": json.dumps(familiarity)}
    policy = write_bundle(tmp_path / "policy.onnx", entries=entries)
    config = tmp_path / "robot.yaml"
    text = configs.find("drive").read_text()
    config.write_text(text.replace("familiarity: logged", "familiarity: always"))
    with pytest.raises(BundleError, match=sentence):
        deploy.command(Settings("serial:/dev/nothing", policy, config=config))


FAMILIARITY = {
    "mean": [0.0] * 9,
    "whitening": np.eye(9).tolist(),
    "reference": 1.0,
    "threshold": 1.0,
    "false_alarm_rate": 0.1,
    "episodes": 10,
    "logged": 0,
}


@pytest.mark.parametrize(
    ("setting", "logged", "used"),
    [
        ("never", 40, False),
        ("logged", 0, False),
        ("logged", 40, True),
        ("always", 0, True),
        ("always", 40, True),
    ],
)
def test_when_familiarity_is_used(tmp_path, setting, logged, used):
    entries = {"familiarity": json.dumps({**FAMILIARITY, "logged": logged})}
    bundle = load(write_bundle(tmp_path / "policy.onnx", entries=entries))
    config = dataclasses.replace(configs.load(configs.find("drive")), familiarity=setting)
    familiarity, prediction = knowledge(bundle, config)
    assert (familiarity is not None) is used
    assert prediction is None


def test_what_a_bundle_does_not_know_is_not_used(tmp_path):
    bundle = load(write_bundle(tmp_path / "policy.onnx"))
    config = dataclasses.replace(configs.load(configs.find("drive")), familiarity="always")
    assert knowledge(bundle, config) == (None, None)


@pytest.mark.parametrize(
    ("prediction", "sentence"),
    [
        ({}, "prediction: missing shortfalls"),
        ({"shortfalls": [[0.0] * 9] * 2}, "prediction: should be of 1 costs, received 2"),
        (
            {"shortfalls": [[]]},
            "a coverage of 0.5 takes at least 1 episodes; it was calibrated on 0",
        ),
    ],
)
def test_a_prediction_that_cannot_be(tmp_path, prediction, sentence):
    entries = {"prediction": json.dumps(prediction)}
    policy = write_bundle(tmp_path / "policy.onnx", entries=entries)
    with pytest.raises(BundleError, match=sentence):
        deploy.command(Settings("serial:/dev/nothing", policy))


def test_numbers_that_cannot_be():
    with pytest.raises(ConfigError, match="episodes should be at least 1, received 0"):
        Settings(robot="serial:x", policy="p", episodes=0)
    with pytest.raises(ConfigError, match=r"seed should be in \[0, .*\], received -1"):
        Settings(robot="serial:x", policy="p", seed=-1)


def test_a_policy_of_another_robot_never_gets_to_move_this_one(tmp_path, twin):
    wide = (
        ActionChannel("forward_speed", "m/s", -1.5, 1.5, 4.0),
        ActionChannel("yaw_rate", "rad/s", -2.0, 2.0, 20.0),
    )
    policy = write_bundle(tmp_path / "policy.onnx", drive_contract(action=wide), action=(0.4, 0.0))
    before = twin.episodes()
    with runs.deployment(tmp_path / "run", twin.address, policy) as run:
        status, out, err = run.end()
    assert (status, out) == (1, "")
    assert "twin-1 allows forward_speed in [-1.0, 1.0] m/s" in err
    assert err.count("\n") == 1
    assert twin.episodes() == before
    assert not run.out.exists()


def test_a_contract_with_its_channels_in_another_order_is_refused(tmp_path, twin):
    """It would turn where it should drive."""
    swapped = drive_contract(action=tuple(reversed(drive_contract().action)))
    policy = write_bundle(tmp_path / "policy.onnx", swapped, action=(0.0, 0.4))
    before = twin.episodes()
    with runs.deployment(tmp_path / "run", twin.address, policy) as run:
        status, out, err = run.end()
    assert (status, out) == (1, "")
    assert err.endswith(
        "twin-1 takes the action channels forward_speed, yaw_rate, in this order; the contract has "
        "yaw_rate, forward_speed\n"
    )
    assert err.count("\n") == 1
    assert twin.episodes() == before
    assert not run.out.exists()


BOW_TIE = {"keep_in_m": [[0.0, 0.0], [2.0, 2.0], [2.0, 0.0], [0.0, 2.0]], "keep_out_m": []}
DOCK = {"x_m": 0.0, "y_m": 0.0, "speed_m_s": -0.5, "yaw_rate_rad_s": 1.0, "arrived_m": 0.1}


@pytest.mark.parametrize(
    ("limits", "options", "sentence"),
    [
        (
            {"freshness": {"source_lost_s": 0.1}},
            [],
            "monitor limits.freshness: source_lost_s should be finite and at least "
            "source_max_age_s 0.25, received 0.1",
        ),
        (
            {"envelope": {"tilt_rad": {"limited": 0.6, "stopped": 0.3}}},
            [],
            "monitor limits.envelope: tilt_rad should be finite with 0 < limited <= stopped, "
            "received limited 0.6 and stopped 0.3",
        ),
        (
            {"freshness": {"max_step_gap_s": 0.05}},
            [],
            "monitor limits.freshness: max_step_gap_s 0.05 should be above the contract's period_s "
            "0.05",
        ),
        (
            {"motion": {"deceleration_m_s2": 4.5}},
            [],
            "monitor limits.motion: deceleration_m_s2 4.5 should be at most the rate at which the "
            "contract lets forward_speed change, 4.0",
        ),
        (
            {"envelope": {"joint_velocity_rad_s": [{"limited": 1.0, "stopped": 2.0}]}},
            [],
            "monitor limits.envelope: joint_velocity has bounds for 1 joints; the contract "
            "observes none",
        ),
        (
            {"recovery": {"name": "return_to_point", "parameters": DOCK}},
            [],
            "monitor limits.recovery 'return_to_point': speed_m_s should be above 0, received -0.5",
        ),
        (
            {"geofence": BOW_TIE},
            [],
            "monitor limits.geofence.keep_in_m: crosses or touches itself where the edge from "
            "(0.0, 0.0) to (2.0, 2.0) meets the one from (2.0, 0.0) to (0.0, 2.0)",
        ),
        (
            {},
            ["--episode-cap", "outside_corridor=0.5"],
            "cost 'outside_corridor': episode cap should be at least what one step can cost, 1.0, "
            "and at most the contract's 30.0, received 0.5",
        ),
        (
            {"budget": {"slowdown_budget": {"outside_corridor": 31.0}}},
            [],
            "cost 'outside_corridor': slowdown budget should be above 0 and at most the episode "
            "cap 30.0, received 31.0",
        ),
        (
            {"obstacles": {"footprint_radius_m": 0.25}},
            [],
            "twin-1 does not measure scan; the contract or the monitor's limits need it",
        ),
    ],
)
def test_what_contradicts_is_refused_at_the_start(tmp_path, twin, limits, options, sentence):
    """In one sentence and before anything moves; what saved evidence may be: test_deployment."""
    policy = write_bundle(tmp_path / "policy.onnx", action=(0.4, 0.0))
    config = tmp_path / "robot.yaml"
    config.write_text(yaml.safe_dump({"extends": "drive", "monitor": limits}))
    before = twin.episodes()
    arguments = ["--config", str(config), *options]
    with runs.deployment(tmp_path / "run", twin.address, policy, *arguments) as run:
        status, out, err = run.end()
    assert (status, out) == (1, "")
    assert err.endswith(f"{sentence}\n")
    assert err.count("\n") == 1
    assert not run.out.exists()
    assert twin.episodes() == before
    speed, faults = twin.inspect()
    assert speed < 1e-6
    assert faults == ()


def test_topics_that_lack_what_only_the_limits_need(tmp_path):
    pytest.importorskip("cyclonedds")
    policy = write_bundle(tmp_path / "policy.onnx")
    data = yaml.safe_load(configs.find("drive").read_text())
    del data["ros"]["sources"]["imu"]
    config = tmp_path / "robot.yaml"
    config.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=r"ros\.sources: nothing carries tilt, which is needed"):
        deploy.command(Settings(f"dds:{config}", policy))


def test_a_run_of_the_mean_that_no_other_overwrites(tmp_path, twin):
    contract = drive_contract(episode_steps=40)
    policy = write_bundle(tmp_path / "policy.onnx", contract, action=(0.3, 0.5), log_std=1.0)
    before = twin.episodes()
    with runs.deployment(tmp_path / "run", twin.address, policy) as run:
        assert run.end()[0] == 0
    log = run.log()
    (episode,) = log.episodes
    np.testing.assert_allclose(episode.proposed[:-1], [[0.3, 0.5]] * 40, atol=1e-6)
    assert np.isnan(episode.log_prob).all()
    assert not log.info.exploring
    data = log.path.read_bytes()
    with runs.deployment(tmp_path / "run", twin.address, policy) as run:
        status, _, err = run.end()
    assert status == 1
    assert "never overwritten" in err
    assert log.path.read_bytes() == data
    assert twin.episodes() == before + 1


UNABLE = """
import sys
from holdfast import cli
from holdfast.sim.twin.board import TwinBoard
TwinBoard.self_placing = False
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def unable_twin():
    """Its address: a robot that has to be placed by a person."""
    process = subprocess.Popen(
        [sys.executable, "-c", UNABLE, "twin", "--realtime-factor", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield process.stdout.readline().strip()
    process.kill()
    process.communicate()


def test_a_person_places_the_robot_before_each_episode(tmp_path, unable_twin):
    policy = write_bundle(tmp_path / "policy.onnx", drive_contract(episode_steps=10))
    with runs.deployment(tmp_path / "run", unable_twin, policy, "--episodes", "2") as run:
        stdout, stdin = run.process.stdout, run.process.stdin
        for number in (0, 1):
            while "Place the robot" not in (line := stdout.readline()):
                assert line
            assert line == f"Place the robot for episode {number}, then press Enter.\n"
            steps = len(run.log().steps)
            runs.until(lambda steps=steps: len(run.log().steps) > steps + 20)
            assert len(run.log().episodes) == number
            stdin.write("\n")
            stdin.flush()
        assert run.end()[0] == 0
    assert [episode.result.steps for episode in run.log().episodes] == [10, 10]


def test_nobody_there_to_place_it(tmp_path, unable_twin):
    policy = write_bundle(tmp_path / "policy.onnx", drive_contract(episode_steps=10))
    with runs.deployment(tmp_path / "run", unable_twin, policy) as run:
        run.process.stdin.close()
        run.process.stdin = None
        status, _, err = run.end()
    assert status == 1
    assert "nobody can press Enter" in err
    assert err.count("\n") == 1


def test_without_a_person_an_episode_starts_where_the_last_one_ended(tmp_path, unable_twin):
    """Also in the odometry: the box that the robot may not leave stays where it is."""
    contract = drive_contract(episode_steps=20)
    policy = write_bundle(tmp_path / "policy.onnx", contract, action=(0.5, 0.0))
    options = ["--no-prompt", "--episodes", "2"]
    with runs.deployment(tmp_path / "run", unable_twin, policy, *options) as run:
        status, out, err = run.end()
    assert (status, err) == (0, "")
    assert "Place" not in out
    first, second = (episode.signals["position"] for episode in run.log().episodes)
    assert np.hypot(*(first[-1] - first[0])) > 0.3
    assert np.hypot(*(second[0] - first[-1])) < 0.1


def test_a_dds_robot_names_its_configuration_once(tmp_path):
    path = write_bundle(tmp_path / "policy.onnx")
    config = tmp_path / "drive.yaml"
    config.write_text(configs.find("drive").read_text())
    with pytest.raises(ConfigError, match="'dds:drive' names its configuration; --config names"):
        deploy.command(Settings(robot="dds:drive", policy=path, config=config))


def test_a_contract_is_not_something_to_deploy(tmp_path):
    with pytest.raises(ConfigError, match="should be a bundle, an"):
        deploy.command(
            Settings(robot="serial:/dev/null", policy=share.folder() / "config/guard_drive.yaml")
        )

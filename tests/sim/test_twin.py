"""The twin's hardware, its gap and its books; and the process as a user starts it."""

from __future__ import annotations

import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from holdfast.errors import ConfigError
from holdfast.robot.serial import device, link
from holdfast.robot.serial.robot import SerialRobot
from holdfast.safety_monitor.costs import CostModel
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.batch.replay import Replay
from holdfast.sim.parameters.catalogue import Parameters, load_gap
from holdfast.sim.registry import resolve
from holdfast.sim.robots import drive
from holdfast.sim.twin import serve as twin
from holdfast.sim.twin.board import TwinBoard
from holdfast.sim.twin.truth import Truth
from tests.helpers.robots.parameters import parameters
from tests.helpers.robots.twins import GAP, running_twin

TASK = resolve("DriveCircle-v0").make()


def board_of(gap=None, *, seed=1, lockstep=True, file=None):
    return TwinBoard(TASK, gap or Parameters(), seed, lockstep, Truth(TASK, seed, file))


def go(board, action, periods):
    """Drive on; return the true signals after each period, signals stacked."""
    rows = []
    for _ in range(periods):
        board.actuate(action)
        board.advance()
        rows.append({name: values.copy() for name, values in board.true_signals().items()})
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


# The gap's file.


def test_the_demos_gap_is_the_one_it_tells_of():
    gap = load_gap(GAP)
    found = {name: dict(amounts.to_plain()) for name, _, amounts in gap.given()}
    assert found["size"] == {"left_tyre": 1.125, "right_tyre": 1.125, "caster": 4 / 3}
    assert found["friction"] == {"left_tyre": 0.5, "right_tyre": 0.5}
    assert (found["mass"], found["delay"]) == ({"all": 1.3}, {"command": 3})
    assert found["gain"] == {"left_motor": 0.95}


def test_no_gap_is_the_default(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_gap(tmp_path / "empty.yaml") == Parameters()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("wheel_radius_scale: 1.1", "line 1: wheel_radius_scale is of an older format; it is now"),
        ("mas: 1.1", "line 1: unknown mas; did you mean 'mass'?"),
        ("mass: heavy", "line 1: mass should be a number, received 'heavy'"),
        ("mass: -1", "mass should be in (0, 100], received -1"),
        ("mass: .nan", "mass should be a finite number, received nan"),
        ("delay: 1.5", "delay should be a whole number, received 1.5"),
        ("mass: [0.9, 1.1]", "mass: all should be one value, received [0.9, 1.1]; ranges are for"),
        ("- 1", "gap.yaml: should be a mapping, received [1]"),
        ("a: [", "should be YAML"),
    ],
)
def test_a_wrong_gap_is_told_in_a_sentence(tmp_path, text, sentence):
    path = tmp_path / "gap.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"^{path}: ") as caught:
        load_gap(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_gap_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        load_gap(tmp_path / "none.yaml")


# What the gap does to the robot.


def test_the_gap_changes_the_model_as_it_says():
    nominal = TASK.robot.load_model()
    wheels = ("left_tyre", "right_tyre")
    gap = parameters(
        size=dict.fromkeys(wheels, 1.25) | {"caster": 5 / 3},
        mass=1.5,
        friction=dict.fromkeys(wheels, 0.5),
    )
    board = board_of(gap)
    model, start = board.model, board_of().data.qpos[2]
    assert board.data.qpos[2] - start == pytest.approx(0.25 * 0.08)
    for name in ("left_tyre", "right_tyre"):
        assert model.geom(name).size == pytest.approx([0.1, 0.1, 0.025])
        assert model.geom(name).friction[0] == nominal.geom(name).friction[0] / 2.0
    assert model.geom("floor").friction[0] == nominal.geom("floor").friction[0]
    assert model.body_mass.sum() == pytest.approx(1.5 * nominal.body_mass.sum())
    assert model.body_subtreemass[1] == pytest.approx(1.5 * nominal.body_subtreemass[1])
    assert model.dof_M0[:3] == pytest.approx(1.5 * nominal.dof_M0[:3])


def larger_wheels(scale):
    caster = 1.0 + 0.08 * (scale - 1.0) / 0.03  # so that the base stays level
    return {"size": {"left_tyre": scale, "right_tyre": scale, "caster": caster}}


def test_training_sees_what_the_twins_sensors_say():
    """Worn wheels that slip: a batch tells speed and pose by its wheels, as the twin does."""
    gap = parameters(size={"left_tyre": 0.9, "right_tyre": 0.9}, friction=0.2, pose="reckoned")
    board, batch = board_of(gap, seed=3), MujocoBatch(TASK, 1, 0, 1, gap)
    batch.rng = np.random.default_rng([3, 0])  # of the twin's first start
    batch.reset()
    off = []
    for action in [(1.0, 0.5)] * 30 + [(-0.5, -1.0)] * 30:
        seen = batch.step(np.array([action])).observation[0]
        true = go(board, tuple(batch.applied[0]), 1)
        said = board.measured_signals()
        assert seen[:2] == pytest.approx(said["position"], abs=0.02)
        assert seen[4] == pytest.approx(said["forward_speed"][0], abs=1e-6)
        off.append(said["forward_speed"][0] - true["forward_speed"][-1, 0])
    assert np.abs(off).max() > 0.1  # it did slip


def test_a_replayed_pose_is_reckoned_as_the_twin_reckons_it():
    """The base's origin swings about the axle while the robot turns, of which its wheels tell."""
    gap = parameters(size={"left_tyre": 0.9, "right_tyre": 0.9}, friction=0.4, pose="reckoned")
    board = board_of(gap, seed=3)
    start, seen = board.measured_signals(), []
    actions = [(0.6, 1.5)] * 25 + [(0.2, -1.5)] * 25
    for action in actions:
        go(board, action, 1)
        seen.append(board.measured_signals()["position"] - start["position"])
    heading = np.full((1, len(actions) + 1), np.nan)
    heading[0, 0] = start["heading"][0]
    sizes = {"position": 2, "heading": 1, "forward_speed": 1, "yaw_rate": 1}
    replay = Replay(TASK, gap, np.array([actions]), heading, sizes, 1, 1)
    found = replay.run([gap])[0]["position"][0, 0]
    replay.close()
    np.testing.assert_allclose(found[1:] - found[0], seen, atol=0.015)
    assert np.ptp(seen, axis=0).max() > 0.2


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.125])
def test_larger_wheels_go_further_than_the_odometry_thinks(scale):
    board = board_of(parameters(**larger_wheels(scale), pose="reckoned"))
    start = np.array(board.measure()[:2])
    true_start = board.true_signals()["position"].copy()
    signals = go(board, (0.5, 0.0), 60)
    true_m = np.linalg.norm(signals["position"][-1] - true_start)
    told_m = np.linalg.norm(np.array(board.measure()[:2]) - start)
    assert true_m / told_m == pytest.approx(scale, rel=0.01)
    assert signals["forward_speed"][-1, 0] == pytest.approx(0.5 * scale, rel=0.03)
    assert np.abs(signals["tilt"]).max() < 0.02  # it stands level on its larger wheels


def test_odometry_without_a_gap_is_nearly_true():
    board = board_of(parameters(pose="reckoned"))
    signals = go(board, (0.6, 0.5), 200)
    measured = board.measure()
    np.testing.assert_allclose(measured[:2], signals["position"][-1], atol=0.01)
    turn = math.remainder(measured[2] - signals["heading"][-1, 0], math.tau)
    assert abs(turn) < 0.02
    assert measured[3] == pytest.approx(signals["forward_speed"][-1, 0], abs=0.02)
    assert measured[4] == pytest.approx(signals["yaw_rate"][-1, 0], abs=0.02)
    said = board.measured_signals()
    left, right = said["joint_position"]
    assert (left + right) / 2.0 == pytest.approx(0.6 * 10.0 / drive.WHEEL_RADIUS_M, rel=0.05)
    assert right > left  # turning left, the right wheel goes further
    assert said["linear_acceleration"][2] == pytest.approx(9.81, abs=0.2)


@pytest.mark.parametrize("delay_steps", [0, 1, 2, 5])
def test_a_delay_is_whole_control_periods(delay_steps):
    late = go(board_of(parameters(delay=delay_steps)), (0.5, 0.0), 10)["forward_speed"][:, 0]
    prompt = go(board_of(), (0.5, 0.0), 10)["forward_speed"][:, 0]
    assert np.abs(late[:delay_steps]).max(initial=0.0) < 0.01
    np.testing.assert_allclose(late[delay_steps:], prompt[: 10 - delay_steps], atol=0.01)


def test_a_weak_left_wheel_pulls_to_the_left():
    straight = go(board_of(), (0.5, 0.0), 40)["yaw_rate"][-1, 0]
    pulled = go(board_of(parameters(gain={"left_motor": 0.9})), (0.5, 0.0), 40)["yaw_rate"][-1, 0]
    assert abs(straight) < 0.01
    assert pulled == pytest.approx(0.1 * 0.5 / drive.TRACK_M, rel=0.2)


def test_odometry_noise_walks_with_the_way_made():
    """Standing still adds none; over many runs the error grows as the square root of the way."""
    walks = parameters(pose="reckoned", drift={"position": 0.1})
    quiet, errors = [], []
    for seed in range(30):
        true, noisy = board_of(parameters(pose="reckoned"), seed=seed), board_of(walks, seed=seed)
        for board in (true, noisy):
            board.advance()
        quiet.append(np.subtract(true.measure()[:2], noisy.measure()[:2]))
        for board in (true, noisy):
            go(board, (1.0, 0.0), 40)
        errors.append(np.subtract(true.measure()[:2], noisy.measure()[:2]))
    assert np.abs(quiet).max() < 1e-2
    way_m = 40 * TASK.contract.period_s - 0.1
    assert np.std(errors) == pytest.approx(0.1 * math.sqrt(way_m), rel=0.3)


def test_start_poses_are_the_tasks_and_seeded():
    def starts(seed):
        board = board_of(seed=seed)
        found = []
        for _ in range(3):
            found.append(board.measure()[:3])
            go(board, (0.3, 1.0), 7)
            board.replace()
        return found

    assert starts(1) == starts(1)
    assert starts(1) != starts(2)
    assert len(set(starts(1))) == 3
    start = TASK.reset(np.random.default_rng([1, 2]), 1)
    signals = TASK.signals(*start)
    expected = [*signals["position"][0], *signals["heading"][0]]
    assert starts(1)[2] == pytest.approx(expected)


def test_replacing_forgets_what_was_on_its_way_to_the_motors():
    board = board_of(parameters(delay=5))
    go(board, (1.0, 0.0), 3)
    board.replace()
    assert board.resting
    board.advance()
    assert abs(board.true_signals()["forward_speed"][0]) < 0.01


# The books.


def lockstep_device(file, gap=None, seed=1):
    board = board_of(gap, seed=seed, file=file)
    it = device.Device(board)
    sequence = 0

    def send(kind, payload=b""):
        nonlocal sequence
        sequence += 1
        armed = it.armed
        it.feed(link.encode(kind, sequence, board.now_us(), payload))
        if armed and not it.armed:
            board.end_episode()
        it.poll()

    send(device.HELLO)
    return board, send


def test_the_books_hold_what_was_true():
    file = io.StringIO()
    board, send = lockstep_device(file, load_gap(GAP))
    send(device.COMMAND, link.command_payload((1.0, 0.0), 100_000))  # not armed: no step
    seen = []
    for steps in (30, 12):
        send(device.RESET)
        send(device.ARM)
        rows = []
        for _ in range(steps):
            send(device.COMMAND, link.command_payload((1.0, 0.2), 100_000))
            rows.append({name: values.copy() for name, values in board.true_signals().items()})
        send(device.STATE)  # time passes, but no command: no step
        send(device.DISARM)
        send(device.COMMAND, link.command_payload((1.0, 0.0), 100_000))
        seen.append({name: np.stack([row[name] for row in rows]) for name in rows[0]})
    episodes = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [episode["episode"] for episode in episodes] == [0, 1]
    for episode, signals in zip(episodes, seen, strict=True):
        steps = len(signals["position"])
        assert (episode["steps"], episode["seed"]) == (steps, 1)
        np.testing.assert_allclose(episode["position"], signals["position"])
        np.testing.assert_allclose(episode["heading"], signals["heading"][:, 0])
        np.testing.assert_allclose(episode["reward"], TASK.reward(signals))
        costs = CostModel(TASK.contract)(signals)[:, 0]
        assert episode["costs"] == {"outside_corridor": costs.tolist()}
        assert episode["cost_sum"] == {"outside_corridor": costs.sum()}
        assert episode["reward_sum"] == pytest.approx(TASK.reward(signals).sum())
    assert episodes[0]["cost_sum"]["outside_corridor"] > 0.0
    assert episodes[0]["start"] != episodes[1]["start"]


def test_an_episode_ends_at_a_reset_too_and_an_empty_one_is_none():
    file = io.StringIO()
    _, send = lockstep_device(file)
    for _ in range(2):
        send(device.RESET)
        send(device.ARM)
    send(device.COMMAND, link.command_payload((0.5, 0.0), 100_000))
    send(device.RESET)
    assert [json.loads(line)["steps"] for line in file.getvalue().splitlines()] == [1]


def test_a_command_cut_short_is_billed_once():
    """In real time the next command, or the end, may come before the period is over."""
    file = io.StringIO()
    board = board_of(lockstep=False, file=file)
    for steps in (4, 7, 2):
        board.actuate((0.5, 0.0))
        for _ in range(steps):
            board.step()
    board.end_episode()
    board.end_episode()
    assert [json.loads(line)["steps"] for line in file.getvalue().splitlines()] == [3]


# The process.


def test_it_ends_cleanly_and_takes_its_link_with_it(tmp_path):
    path, truth = tmp_path / "port", tmp_path / "truth.jsonl"
    path.symlink_to("/dev/pts/99999")  # left by a killed twin
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with running_twin("--link", path, "--truth", truth, "--realtime-factor", 0) as served:
            assert served.address == f"serial:{path}"  # what the user asked for, and copies
            assert path.is_char_device()
            robot = SerialRobot.connect(served.address)
            robot.arm()
            robot.send(np.zeros(2), 0.1)
            robot.wait(0.05)
            served.process.send_signal(number)
            assert served.process.wait(10) == 0
            assert not path.is_symlink()
            assert json.loads(truth.read_text())["steps"] == 1
            robot.close()


def test_in_lockstep_a_silent_host_does_not_hold_time_still(tmp_path):
    truth = tmp_path / "truth.jsonl"
    with running_twin("--realtime-factor", 0, "--truth", truth) as served:
        robot = SerialRobot.connect(served.address)
        robot.arm()
        for _ in range(20):
            robot.send(np.array([0.8, 0.0]), 0.1)
        frozen_s = robot.now_s()
        time.sleep(0.4)
        robot._pump(0.0)
        assert robot.now_s() == frozen_s
        robot.send(np.array([0.8, 0.0]), 0.1)
        deadline_s = time.monotonic() + 20.0
        while not truth.read_text() and time.monotonic() < deadline_s:
            time.sleep(0.05)
        (said,) = robot.faults()
        assert said.startswith(
            "watchdog: no valid command arrived in time; this computer sent none"
        )
        assert robot.now_s() >= frozen_s + 0.2 - 1e-9
        assert json.loads(truth.read_text())["steps"] == 21
        robot.reset()
        robot.arm()
        robot.close()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("task", "Nothing-v0"), "task should be one of holdfast/"),
        (("realtime_factor", 2.0), "realtime-factor should be 1 (real time) or 0 (lockstep)"),
        (("seed", -1), "seed should be at least 0"),
        (("config", Path("drive.yaml")), "config names topics, which a twin has with --dds alone"),
        (("scan_rays", 5), "scan-rays should be at least 0, and not given without --dds"),
        (("gap", Path("/nowhere.yaml")), "/nowhere.yaml: cannot be read"),
        (
            ("truth", Path("/nowhere/truth.jsonl")),
            "truth file /nowhere/truth.jsonl: cannot be written",
        ),
        (("link", Path("/nowhere/port")), "link /nowhere/port: cannot be made"),
    ],
)
def test_a_wrong_option_is_told_in_a_sentence(options, sentence):
    name, value = options
    with pytest.raises(ConfigError, match="^" + re.escape(sentence)):
        twin.command(**{name: value})


def test_a_twin_that_is_refused_leaves_an_older_truth_alone(tmp_path):
    pytest.importorskip("cyclonedds")
    truth = tmp_path / "truth.jsonl"
    known = '{"episode": 0, "seed": 1}\n'
    truth.write_text(known)
    for also in ({"link": Path("/nowhere/port")}, {"dds": True, "task": "DriveGoal-v0"}):
        with pytest.raises(ConfigError):
            twin.command(truth=truth, **also)
        assert truth.read_text() == known


def test_a_truth_that_is_something_else_is_left_alone(tmp_path):
    notes = tmp_path / "notes.txt"
    for text in ("my notes\n", '{"episodes": 3}\n', "{"):
        notes.write_text(text)
        with pytest.raises(ConfigError, match="should be new, or one that a twin wrote"):
            twin.command(truth=notes)
        assert notes.read_text() == text


def test_a_link_that_is_something_else_is_left_alone(tmp_path):
    latest, folder = tmp_path / "latest", tmp_path / "run"
    folder.mkdir()
    for target in (folder, "/nowhere"):
        latest.symlink_to(target)
        with pytest.raises(ConfigError, match="should be new, or lead to a port, it leads to"):
            twin.command(link=latest)
        assert os.readlink(latest) == str(target)
        latest.unlink()
    latest.touch()
    for path, what in ((latest, "a file"), (folder, "a folder")):
        with pytest.raises(ConfigError, match=f"should be new, or lead to a port; it is {what}"):
            twin.command(link=path)


def test_a_twin_that_ends_leaves_the_link_of_the_next_one(tmp_path):
    path = tmp_path / "port"
    with running_twin("--link", path) as first, running_twin("--link", path) as second:
        assert first.address == second.address == f"serial:{path}"
        port = os.readlink(path)  # the second one's
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(10) == 0
        assert os.readlink(path) == port
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(10) == 0
    assert not path.is_symlink()


@pytest.mark.parametrize("also", [{"link": Path("port")}, {"realtime_factor": 0.0}], ids=str)
def test_a_robot_of_a_ros_graph_has_no_port(also):
    with pytest.raises(ConfigError, match="has no port to link, and runs in real time"):
        twin.command(dds=True, **also)


def test_help_tells_units_and_defaults():
    command = [sys.executable, "-m", "holdfast", "twin", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for word in ("--realtime-factor", "lockstep", "--gap", "--truth", "DriveCircle-v0"):
        assert word in text


def test_a_known_pose_is_true_and_one_that_wheels_tell_is_not():
    """With wheels an eighth larger: told, the pose is the true one; reckoned, it falls short."""
    knows = board_of(parameters(**larger_wheels(1.125)))
    reckons = board_of(parameters(**larger_wheels(1.125), pose="reckoned"))
    for board in (knows, reckons):
        start = np.array(board.measure()[:2])
        go(board, (0.8, 0.0), 40)
        moved = np.linalg.norm(board.measure()[:2] - start)
        true = np.linalg.norm(board.true_signals()["position"] - start)
        assert moved / true == pytest.approx(1.0 if board is knows else 1 / 1.125, abs=0.01)


def test_noise_is_of_each_reading():
    board = board_of(parameters(noise={"position": 0.05}))
    readings = []
    for _ in range(400):
        board.step()  # it stands; a reading belongs to its time
        assert board.measure() == board.measure()
        readings.append(board.measure()[:2])
    np.testing.assert_allclose(np.std(readings, axis=0), 0.05, rtol=0.15)
    true = board.true_signals()["position"]
    np.testing.assert_allclose(np.mean(readings, axis=0), true, atol=0.01)

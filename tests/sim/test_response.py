"""What the check says of each action: what moved, and what no robot should do."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from holdfast.cli import main
from holdfast.contract import DeclaredSignal, ObservationChannel
from holdfast.errors import ConfigError, TrainingError
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.check import check_task
from holdfast.sim.registry import TASKS, resolve
from holdfast.sim.response import Trial, implausible
from holdfast.sim.robots.skid import Skid
from tests.helpers.robots.carts import ACTUATORS, CRATE, RADIUS_M, SKID, TRACK_M, Cart, Laps, mjcf

MODELS = Path(__file__).parents[1] / "helpers" / "models"
CASTERS = SKID + SKID.replace("-0.13", "0.13")  # one before and one behind: it does not nod


@pytest.fixture
def task(tmp_path):
    """Return a task of a cart of some class, on some model."""

    def made(kind=Cart, text=None):
        return Laps(kind(tmp_path / "cart.xml", text or mjcf(CASTERS)))

    return made


def found(task):
    check_task(task)
    trial = Trial(task)
    responses = list(trial.responses())
    return responses, list(implausible(trial, responses))


def test_a_sound_cart_does_what_it_is_told(task):
    responses, wrong = found(task())
    assert wrong == []
    told = [(r.channel.name, r.value) for r in responses]
    names = ("forward_speed", "yaw_rate")
    assert told == [(names[0], -0.5), (names[0], 0.5), (names[1], -1.5), (names[1], 1.5)]
    for response in responses:
        first, by = next(iter(response.moved.items()))
        assert first == response.channel.name
        assert by == pytest.approx(response.value, rel=0.1)
        assert response.ended_s is None
    wheels = responses[1].moved
    for wheel in ("left_wheel", "right_wheel"):
        assert wheels[f"joint_velocity[{wheel}]"] == pytest.approx(0.5 / RADIUS_M, rel=0.1)
    assert "position.x" not in wheels  # it depends on which way the start was turned
    assert str(responses[1]).startswith("forward_speed = 0.5 m/s: forward_speed +0.")


class Measuring(Cart):
    """A cart with two signals of its own."""

    def signals(self, qpos, qvel):
        said = super().signals(qpos, qvel)
        speed = said["forward_speed"]
        return {**said, "rim_speed": 2.0 * speed, "drag": 1e3 * speed}


def test_a_signal_of_the_robot_s_own_is_told_in_the_unit_that_the_contract_declares(task):
    laps = task(Measuring)
    rim = DeclaredSignal("rim_speed", 1, "m/s", "base")
    laps.contract = dataclasses.replace(laps.contract, signals=(rim,))
    responses, wrong = found(laps)
    assert wrong == []
    assert re.search(r"rim_speed \+0\.9\d+ m/s,", str(responses[1]))
    assert re.search(r"drag \+49\d,", str(responses[1]))  # declared nowhere: without a unit


def told(wheels):
    """Return a cart whose `control` is this function of speed and turn, as a user gets it wrong."""

    class Wrong(Cart):
        def control(self, action):
            left, right = wheels(action[..., 0], action[..., 1] * TRACK_M / 2.0)
            return np.stack((left, right), axis=-1) / RADIUS_M

    return Wrong


class SmallWheels(Cart):
    def control(self, action):
        return 2.0 * super().control(action)


class Clipped(Cart):
    """A cart whose actuators take less than `control` tells them."""


class Stuck(Cart):
    def signals(self, qpos, qvel):
        said = super().signals(qpos, qvel)
        return {**said, "forward_speed": np.zeros_like(said["forward_speed"])}


class Tilting(Cart):
    def signals(self, qpos, qvel):
        said = super().signals(qpos, qvel)
        return {**said, "tilt": said["tilt"] + 2.0 * said["forward_speed"]}


class Sideways(Cart):
    """A cart whose wheels stand crosswise: what it calls forward is to its side."""

    def signals(self, qpos, qvel):
        said = super().signals(qpos, qvel)
        ahead, left = said["forward_speed"], said["lateral_speed"]
        return {**said, "forward_speed": left, "lateral_speed": ahead}


BACKWARDS = "under forward_speed = 0.5 m/s, forward_speed changes the other way, by -0.4"
DRAGGED = CASTERS.replace('condim="1" priority="1"', 'friction="0 0 0"')  # the floor's counts
SLOW = "under forward_speed = 0.5 m/s, forward_speed changes by no more than +0.0"
BEYOND = "control tells actuator number 1 -14.5, beyond its ctrlrange [-2, 2], where MuJoCo clips"
RANGE = ACTUATORS.replace("kv", 'ctrlrange="-2 2" ctrllimited="true" kv')
LOOSE = ACTUATORS.replace('kv="1"', 'kv="0.0001"')


WRONG = {
    "backwards": (told(lambda v, w: (w - v, -v - w)), "", BACKWARDS),
    "left for right": (
        told(lambda v, w: (v + w, v - w)),
        "",
        "under yaw_rate = 1.5 rad/s, yaw_rate changes the o",
    ),
    "one wheel": (
        told(lambda v, w: (0 * v, v + w)),
        "",
        "forward_speed = 0.5 m/s also turns the base, at +",
    ),
    "turn drives": (
        told(lambda v, w: (v + 2 * w, v + 3 * w)),
        "",
        "yaw_rate = 1.5 rad/s also moves the base, at",
    ),
    "no forward": (
        told(lambda v, w: (0 * v - w, 0 * v + w)),
        "",
        "nothing moves under forward_speed = -0.5 m/s",
    ),
    "drifts": (
        told(lambda v, w: (v - w + 0.3, v + w + 0.3)),
        "",
        "under the action 0, forward_speed is +0.2",
    ),
    "slow": (told(lambda v, w: (0.1 * v - w, 0.1 * v + w)), "", SLOW),
    "fast": (SmallWheels, "", "forward_speed reaches 0.9"),
    "clipped": (Clipped, mjcf(CASTERS, actuators=RANGE), BEYOND),
    "constant": (Stuck, "", "forward_speed is observed or billed, and is 0 whatever is done"),
    "tilts": (Tilting, "", "under forward_speed = 0.5 m/s, the base tilts by "),
    "sideways": (Sideways, "", "forward_speed = 0.5 m/s also moves the base sideways, at "),
    "drags": (Cart, mjcf(DRAGGED), "under yaw_rate = 1.5 rad/s, yaw_rate changes by no more than"),
    "weak": (
        Cart,
        mjcf(CASTERS, actuators=LOOSE),
        "under yaw_rate = 1.5 rad/s, yaw_rate changes by no more than +0.0",
    ),
}


@pytest.mark.parametrize(("kind", "text", "sentence"), WRONG.values(), ids=WRONG)
def test_what_is_implausible_is_said(task, kind, text, sentence):
    _, wrong = found(task(kind, text))
    assert any(said.startswith(sentence) for said in wrong), wrong


def test_casters_that_grip_are_named(task):
    """The contacts of a motor that is too weak have no friction, so they are not blamed."""
    _, wrong = found(task(Cart, mjcf(DRAGGED.replace("<geom", '<geom name="skid"', 1))))
    (said,) = [each for each in wrong if "is held by" in each]
    assert "the base is held by the friction of skid, a geom of body 'base', " in said
    assert " on a geom of body 'world' (friction 1): a caster should have little of it" in said
    _, wrong = found(task(Cart, mjcf(CASTERS, actuators=LOOSE)))
    assert "is held by" not in " ".join(wrong)


TYRE = 'type="ellipsoid" size="0.12 0.12 0.03"'
TREAD = 'type="capsule" size="0.12 0.01" contype="0" conaffinity="0"'
PAIR = '<pair geom1="floor" geom2="{}_tyre" condim="3" friction="0.4 0.8 0.005 0.0001 0.0001"/>'
CORNERS = ("front_left", "front_right", "rear_left", "rear_right")


def test_a_rover_s_tyres_are_named_and_what_is_advised_helps(tmp_path, capsys, monkeypatch):
    """docs/guides/OWN_TASKS.md advises it: capsules, pairs of contacts, and a wider turn."""
    monkeypatch.chdir(tmp_path)
    model = (MODELS / "four_wheels.xml").read_text()
    (tmp_path / "rover.xml").write_text(model)
    assert main(["init", "rover", "--model", "rover.xml"]) == 0
    assert main(["check", "--task", "rover.py:RoverTask"]) == 1
    tyres = ", ".join(f"{corner}_tyre" for corner in CORNERS)
    said = f"the base is held by the friction of {tyres} on floor (friction 1): a caster should"
    assert said in capsys.readouterr().out

    pairs = "".join(map(PAIR.format, CORNERS))
    model = model.replace(TYRE, TREAD).replace(
        "<actuator>", f"<contact>{pairs}</contact><actuator>"
    )
    (tmp_path / "rover.xml").write_text(model)
    task = (tmp_path / "rover.py").read_text()
    assert "turn * SIDE_M" in task
    (tmp_path / "rover.py").write_text(task.replace("turn * SIDE_M", "2.4 * turn * SIDE_M"))
    assert main(["check", "--task", "rover.py:RoverTask"]) == 0


def test_a_robot_that_goes_on_after_the_command_is_told_so(task):
    """Without friction and with a motor that only pushes, it never stops."""

    class Gliding(Cart):
        def control(self, action):
            return action[..., :1]

    site = '<site name="middle"/>'
    push = '<motor site="middle" gear="2 0 0 0 0 0"/>'
    text = mjcf(CASTERS + site, actuators=push).replace(
        'type="ellipsoid"', 'condim="1" priority="1" type="ellipsoid"'
    )
    _, wrong = found(task(Gliding, text))
    assert any("is back at 0, forward_speed is still +" in said for said in wrong), wrong


def test_a_signal_that_becomes_nan_is_named_with_its_action(task):
    """Also one that nothing observes: it is what a cost or a log may need tomorrow."""

    class Lost(Cart):
        def signals(self, qpos, qvel):
            said = super().signals(qpos, qvel)
            fast = np.abs(said["yaw_rate"]) > 1.0
            return {**said, "height": np.where(fast, np.nan, said["height"])}

    laps = task(Lost)
    check_task(laps)
    with pytest.raises(ConfigError, match=r"'height' should be finite; after 0\.\d+ s of yaw_"):
        Trial(laps)


# control() itself.


def controls(change):
    class Wrong(Cart):
        def control(self, action):
            return change(super().control(action), action)

    return Wrong


def added_to(told, action):
    action[...] += 1.0
    return told


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda told, action: told * np.nan, "control should be finite, received [nan"),
        (lambda told, action: np.where(action > 0.4, np.inf, told), "control should be finite"),
        (lambda told, action: np.where(action < -0.4, np.nan, told), "control should be finite"),
        (lambda told, action: told[..., :1], "control should have shape (5, 2), received (5, 1)"),
        (lambda told, action: told.T, "control should have shape (5, 2), received (2, 5)"),
        (lambda told, action: told.reshape(-1, 2), "control of one action should have shape (2,)"),
        (lambda told, action: told.tolist(), "control should return an array, received [["),
        (lambda told, action: told - told.mean(), "control of a copy should not depend"),
        (lambda told, action: told.astype(str), "control should be numbers, received <U"),
        (added_to, "control should not change the action it is given"),
    ],
)
def test_what_control_returns_is_looked_at(task, change, sentence):
    with pytest.raises(ConfigError) as caught:
        check_task(task(controls(change)))
    assert str(caught.value).startswith(f"mine/Laps-v0: {sentence}")


# The command.


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_robot_of_ours_is_plausible(name):
    trial = Trial(resolve(name).make())
    assert list(implausible(trial, list(trial.responses()))) == []


def test_the_command_prints_it(capsys):
    assert main(["check", "--task", "OmniGoal-v0"]) == 0
    said = capsys.readouterr().out
    assert "  lateral_speed = -0.8 m/s: lateral_speed -0.8 m/s\n" in said
    assert said.endswith("Nothing of that is implausible.\n")


FILE = """from tests.helpers.robots.carts import Cart, Laps
from pathlib import Path
class Backwards(Cart):
    def control(self, action):
        return -super().control(action)
def Mine():
    return Laps(Backwards(Path(__file__).with_name("cart.xml"), None))
"""


def test_the_command_fails_where_something_is_implausible(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "cart.xml").write_text(mjcf(CASTERS, after=CRATE))
    assert main(["check", "--task", "mine.py:Mine"]) == 1
    said = capsys.readouterr().out
    assert "\nImplausible:\n" in said
    assert BACKWARDS in said


def test_a_limit_that_no_episode_can_reach_is_implausible(task):
    made = task()
    (cost,) = made.contract.costs
    cost = dataclasses.replace(cost, limit=100.0, episode_cap=100.0)
    made.contract = dataclasses.replace(made.contract, costs=(cost,))
    sentences = found(made)[1]
    assert sentences[0].startswith("cost 'outside': limit 100 should be below 100, the most that ")


def test_an_environment_of_others_is_checked_as_far_as_it_can_be(capsys):
    assert main(["check", "--task", "gym:tests.helpers.gym.gym_envs:Walk-v0"]) == 0
    assert capsys.readouterr().out.endswith("saved states are as they should be\n")


def test_a_signal_s_parts_have_names(task):
    labels = Trial(task()).labels
    assert {"tilt.roll", "position.y", "orientation.w", "joint_position[left_wheel]"} <= {*labels}


def test_a_signal_that_only_some_motion_changes_is_no_constant():
    """A skid-steered base slides to the side only while it drives and turns."""
    laps = resolve("SkidCircle-v0").make()
    assert isinstance(laps.robot, Skid)
    assert ObservationChannel("lateral_speed", 1, "m/s", "lateral_speed") in laps.robot.motion
    assert found(laps)[1] == []


def test_a_control_that_fails_in_a_corner_ends_the_training_there(task):
    """One of so few actions that the check met none."""
    wrong = controls(lambda told, action: np.where(action[..., :1] == 0.0625, np.nan, told))
    check_task(task(wrong))
    batch = MujocoBatch(task(wrong), 2, seed=0)
    with pytest.raises(TrainingError, match="control should return finite numbers, received"):
        batch.step(np.array([[0.0, 0.0], [0.0625, 0.0]]))

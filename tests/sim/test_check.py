"""Every task passes the checker; a task with any one fault is told so in a sentence."""

import dataclasses

import numpy as np
import pytest

from holdfast.errors import ConfigError, TrainingError
from holdfast.sim.check import check_task
from holdfast.sim.registry import TASKS, resolve
from holdfast.sim.robots.point import Point
from holdfast.sim.tasks.circle import Circle


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_passes(name):
    check_task(resolve(name).make())


class Good(Circle):
    """PointCircle with something in its world; those below have one fault each."""

    def __init__(self, robot=None):
        super().__init__(
            "Good-v0", robot or Point(), radius_m=15.0, x_limit_m=2.5, episode_steps=20,
            limit=5.0, gamma=0.99, lam=1.0,
        )  # fmt: skip

    def reset(self, rng, n):
        qpos, qvel, _ = super().reset(rng, n)
        return qpos, qvel, {"steps": np.zeros(n)}

    def advance(self, body, world):
        world["steps"] += 1.0

    def surroundings(self, body, world):
        return {"apples_taken": world["steps"][:, None].copy()}


def test_a_task_of_a_user_s_own_passes():
    check_task(Good())


class OffBeat(Good):
    def __init__(self):
        super().__init__()
        self.contract = dataclasses.replace(self.contract, period_s=0.03)


class OtherName(Good):
    def __init__(self):
        super().__init__()
        self.contract = dataclasses.replace(self.contract, robot="drive")


class ShortStart(Good):
    def reset(self, rng, n):
        qpos, qvel, world = super().reset(rng, n)
        return qpos[:, :1], qvel, world


class OneWorld(Good):
    def reset(self, rng, n):
        return *super().reset(rng, n)[:2], {"steps": np.zeros(1)}


class TextWorld(Good):
    def reset(self, rng, n):
        return *super().reset(rng, n)[:2], {"steps": np.array(["none"] * n)}


class ThirdMotor(Point):
    def control(self, action):
        return np.concatenate((action, action[..., :1]), axis=-1)


class Blind(Point):
    def signals(self, qpos, qvel):
        return {"position": qpos}


class Wide(Point):
    def signals(self, qpos, qvel):
        return {"position": qpos, "linear_velocity": np.concatenate((qvel, qvel), axis=-1)}


class Lost(Point):
    def signals(self, qpos, qvel):
        return {"position": qpos, "linear_velocity": np.full_like(qvel, np.nan)}


class Crowd(Point):
    def signals(self, qpos, qvel):
        return {"position": qpos - qpos.mean(axis=0), "linear_velocity": qvel}


class Silent(Point):
    def measured(self, signals):
        return None


class Writes(Point):
    def measured(self, signals):
        return {name: values.astype(str) for name, values in signals.items()}


class Forgets(Point):
    def measured(self, signals):
        return {"position": signals["position"]}


class Rounds(Point):
    def measured(self, signals):
        signals["position"] += 0.01
        return signals


class Compares(Point):
    def measured(self, signals):
        return {**signals, "position": signals["position"] - signals["position"].mean(axis=0)}


class OnePayForAll(Good):
    def reward(self, signals):
        return super().reward(signals).sum()


class SumsEnd(Good):
    def terminated(self, signals):
        return super().terminated(signals).astype(float)


class Unseeded(Good):
    def reset(self, rng, n):
        return super().reset(np.random.default_rng(), n)


class KeepsBooks(Good):
    """Its reward depends on something that no snapshot holds."""

    calls = 0

    def reward(self, signals):
        self.calls += 1
        return super().reward(signals) + self.calls


class SecretBooks(Good):
    """It counts a batch's steps beside the world, so a restored batch goes on counting."""

    def __init__(self):
        super().__init__()
        self.books = {}

    def advance(self, body, world):
        key = id(world["steps"])
        self.books[key] = self.books.get(key, 0) + 1

    def surroundings(self, body, world):
        count = self.books.get(id(world["steps"]), 0)
        return {"apples_taken": np.full((len(world["steps"]), 1), float(count))}

    def reward(self, signals):
        return super().reward(signals) + signals["apples_taken"][..., 0]


class PaysNothingFinite(Good):
    def reward(self, signals):
        far = np.abs(signals["position"][..., 0]) > 1.0
        return np.where(far, np.nan, super().reward(signals))


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (OffBeat, "the control period should be a whole number of the model's time steps of 0.02"),
        (OtherName, "its contract should have the robot's name and action, 'point'"),
        (ShortStart, r"reset: qpos should have shape \(5, 2\), received \(5, 1\)"),
        (OneWorld, r"world\['steps'\] should be numbers or bools with the 5 copies"),
        (TextWorld, r"world\['steps'\] should be numbers or bools"),
        (lambda: Good(ThirdMotor()), r"control should have shape \(5, 2\), received \(5, 3\)"),
        (lambda: Good(Blind()), "signals should include linear_velocity"),
        (lambda: Good(Wide()), r"signal 'linear_velocity' should have shape \(5, 2\)"),
        (lambda: Good(Lost()), "signal 'linear_velocity' should be finite"),
        (lambda: Good(Crowd()), "signal 'position' of a copy should not depend on the other"),
        (lambda: Good(Silent()), "measured should return a mapping, received None"),
        (lambda: Good(Writes()), "measured: signal 'position' should be an array of real numbers"),
        (lambda: Good(Forgets()), "measured should include signal 'linear_velocity'"),
        (lambda: Good(Rounds()), "measured should not change the true signal 'position'"),
        (lambda: Good(Compares()), "measured: signal 'position' of a copy should not depend"),
        (OnePayForAll, r"reward of signals \(5,\) should have shape \(5,\), received \(\)"),
        (SumsEnd, "terminated should be bools, received float64"),
        (Unseeded, "a seed should give one start"),
        (KeepsBooks, "a seed and actions should give one batch"),
        (SecretBooks, "a state restored should go on the same"),
    ],
)
def test_a_fault_is_told_in_a_sentence(task, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        check_task(task())
    assert "\n" not in str(caught.value)


def test_nan_on_the_way_is_told_by_the_batch_itself():
    with pytest.raises(TrainingError, match="Good-v0: the simulation returned a non-finite reward"):
        check_task(PaysNothingFinite())

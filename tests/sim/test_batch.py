"""The batch against plain MuJoCo, its copies, and what can be saved of them."""

import dataclasses

import mujoco
import numpy as np
import pytest

from holdfast.errors import ConfigError, TrainingError
from holdfast.safety_monitor.costs import CostModel
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.registry import TASKS, resolve
from holdfast.sim.robots.robot import physics_steps


@pytest.fixture(params=sorted(TASKS))
def task(request):
    return resolve(request.param).make()


def drawn(task, steps, copies, seed=0):
    """Return actions (steps, copies, actions) within limits."""
    contract = task.contract
    shape = (steps, copies, contract.action_size)
    return np.random.default_rng(seed).uniform(contract.action_low, contract.action_high, shape)


def test_a_copy_is_what_plain_mujoco_does(task):
    """The batch's fourth copy, step by step through mj_step in one MjData."""
    batch = MujocoBatch(task, 5, seed=1, threads=2)
    model = task.robot.load_model()
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = batch.qpos[3], batch.qvel[3]
    for k, action in enumerate(drawn(task, 10, 5), start=1):
        batch.step(action)
        if batch.elapsed[3] != k:  # fell
            break
        data.ctrl[:] = task.robot.control(batch.applied)[3]
        data.qacc_warmstart[:] = 0.0  # as rollout starts each call
        for _ in range(physics_steps(model, task.contract.period_s)):
            mujoco.mj_step(model, data)
        np.testing.assert_allclose(batch.qpos[3], data.qpos, rtol=0, atol=1e-9)
        np.testing.assert_allclose(batch.qvel[3], data.qvel, rtol=0, atol=1e-9)
    assert k > 3


def test_same_seed_same_batch_whatever_the_threads(task):
    actions = drawn(task, 100, 6, seed=2)

    def everything(threads):
        batch = MujocoBatch(task, 6, seed=3, threads=threads)
        steps = [batch.step(action) for action in actions]
        batch.close()
        return [
            np.concatenate([getattr(step, field.name) for step in steps])
            for field in dataclasses.fields(steps[0])
        ]

    for one, two, three in zip(everything(1), everything(2), everything(3), strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


def test_copies_are_reset_when_their_episode_ends(task):
    """Whether they ran their length or fell, and each by itself."""
    batch = MujocoBatch(task, 4, seed=0)
    contract = task.contract
    batch.elapsed[:] = contract.episode_steps - np.array([9, 6, 6, 3])
    start = batch.elapsed.copy()
    left = -1  # the observation's last value is the share of the episode that is left
    done = np.zeros(4, dtype=bool)
    for k in range(1, 10):
        step = batch.step(np.zeros((4, contract.action_size)))
        assert not step.terminated.any()  # nobody falls so soon
        np.testing.assert_array_equal(step.truncated, start + k == contract.episode_steps)
        over = step.truncated
        np.testing.assert_allclose(step.final_observation[over, left], 0.0, atol=1e-12)
        np.testing.assert_array_equal(step.observation[over, left], 1.0)
        np.testing.assert_array_equal(step.observation[~over], step.final_observation[~over])
        assert not batch.applied[over].any()
        done |= over
    assert done.all()


def test_one_generator_draws_what_resets_need(task):
    batch, again = MujocoBatch(task, 3, seed=5), MujocoBatch(task, 3, seed=6)
    again.rng.bit_generator.state = batch.rng.bit_generator.state
    np.testing.assert_array_equal(batch.reset(), again.reset())
    assert not np.array_equal(batch.reset(), batch.reset())


def test_any_rows_of_a_snapshot_are_loaded_exactly(task):
    """Copies of a copy go on as it did, in a batch of another size and in any order."""
    batch = MujocoBatch(task, 3, seed=5)
    actions = drawn(task, 12, 3, seed=1)
    for action in actions[:8]:
        seen = batch.step(action).observation
    snapshot = batch.snapshot()
    after = [batch.step(action) for action in actions[8:]]
    rows = np.array([2, 0, 0, 1, 2])
    other = MujocoBatch(task, 5, seed=9)
    np.testing.assert_array_equal(other.load(snapshot, rows), seen[rows])
    going = np.ones(3, dtype=bool)  # what a reset draws is not the snapshot's
    for action, step in zip(actions[8:], after, strict=True):
        again = other.step(action[rows])
        for name in ("final_observation", "reward", "costs", "terminated", "truncated"):
            np.testing.assert_array_equal(
                getattr(again, name)[going[rows]], getattr(step, name)[rows][going[rows]]
            )
        going &= ~(step.terminated | step.truncated)
    assert going.any()


def test_actions_are_limited_as_the_contract_says(task):
    batch, contract = MujocoBatch(task, 2, seed=0), task.contract
    batch.step(np.full((2, contract.action_size), 1e9))
    most = np.minimum(contract.action_high, contract.action_max_step)
    np.testing.assert_allclose(batch.applied, np.stack((most, most)))


def test_bad_actions_and_a_diverged_simulation_are_refused(task):
    batch = MujocoBatch(task, 2, seed=0)
    nothing = np.zeros((2, task.contract.action_size))
    wrong = nothing.copy()
    wrong[1, 0] = np.nan
    with pytest.raises(TrainingError, match=r"finite, received \[nan(, 0.0)+\] in copy 1$"):
        batch.step(wrong)
    batch.step(nothing)
    batch.qvel[1] = 1e12
    with pytest.raises(TrainingError, match="diverged"):
        batch.step(nothing)


@pytest.mark.parametrize("part", ["reward", "cost", "observation"])
def test_a_task_that_returns_nan_is_refused(part, monkeypatch):
    task = resolve("PointCircle-v0").make()
    batch = MujocoBatch(task, 2, seed=0)
    if part == "reward":
        monkeypatch.setattr(task, "reward", lambda signals: np.array([0.0, np.nan]))
    elif part == "cost":
        monkeypatch.setattr(
            CostModel, "__call__", lambda self, signals: np.array([[np.inf], [0.0]])
        )
    else:
        monkeypatch.setattr(batch, "observe", lambda signals: np.full((2, 5), np.nan))
    with pytest.raises(TrainingError, match=f"PointCircle-v0: .* non-finite {part}"):
        batch.step(np.zeros((2, 2)))


def test_a_batch_is_made_by_a_task_s_id_and_bills_under_the_contract_given():
    contract = resolve("PointCircle-v0").make().contract
    tighter = dataclasses.replace(contract, episode_steps=7)
    assert resolve("PointCircle-v0").batch(2, seed=0).contract == contract
    batch = resolve("PointCircle-v0").batch(2, seed=0, contract=tighter)
    for _ in range(7):
        step = batch.step(np.zeros((2, 2)))
    assert step.truncated.all()


def test_unknown_task_is_refused():
    with pytest.raises(
        ConfigError, match=r"task should be one of .*PointCircle-v0.*; received 'x'"
    ):
        resolve("x").make()


def test_a_history_is_refused():
    task = resolve("DriveCircle-v0").make()
    first, *others = task.contract.observation
    longer = dataclasses.replace(first, size=4 * first.size, history=4)
    task.contract = dataclasses.replace(task.contract, observation=(longer, *others))
    with pytest.raises(ConfigError, match="history of an observation channel should be 1 in train"):
        MujocoBatch(task, 2, seed=0)


def test_a_cost_that_no_robot_could_be_billed_is_refused():
    """A robot is stopped by such a cost, so training says so first."""
    task = resolve("DriveCircle-v0").make()
    dear = dataclasses.replace(task.contract.costs[0], expression="4 * (abs(position.x) >= 0)")
    task.contract = dataclasses.replace(task.contract, costs=(dear,))
    batch = MujocoBatch(task, 2, 0)
    with pytest.raises(TrainingError, match=r"cost 'outside_corridor' should be in \[0, 1\] .* 4;"):
        batch.step(np.zeros((2, 2)))
    fair = dataclasses.replace(dear, at_most=4.0)
    task.contract = dataclasses.replace(task.contract, costs=(fair,))
    assert (MujocoBatch(task, 2, 0).step(np.zeros((2, 2))).costs == 4.0).all()

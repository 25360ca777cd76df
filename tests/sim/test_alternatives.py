"""What randomised robots disagree about: against plain MuJoCo, and where they are alike."""

import dataclasses

import mujoco
import numpy as np
import pytest

from holdfast.errors import ConfigError
from holdfast.sim.batch.alternatives import usual_change
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.check import check_batch
from holdfast.sim.registry import resolve
from holdfast.sim.robots.robot import physics_steps
from tests.helpers.robots.parameters import parameters

MOVING = {"mass": [0.5, 2.0], "gain": {"each": [0.8, 1.2]}, "delay": [0, 3]}


def batch_of(name="DriveCircle-v0", copies=40, each=2, seed=1, **ranges):
    return MujocoBatch(resolve(name).make(), copies, seed, 1, parameters(**ranges), "", each)


def drawn(batch, steps, seed=0):
    contract = batch.contract
    shape = (steps, batch.copies, contract.action_size)
    return np.random.default_rng(seed).uniform(contract.action_low, contract.action_high, shape)


def mean_disagreement(steps=30, **ranges):
    batch = batch_of(**ranges)
    batch.reset()
    found = [batch.step(action).disagreement for action in drawn(batch, steps)]
    batch.close()
    return float(np.mean(found))


def test_the_disagreement_is_what_plain_mujoco_says_of_each_robot():
    """Point robots: what is observed first is their position and velocity."""
    batch = batch_of("PointCircle-v0", copies=3, each=2, **MOVING)
    task, batch_rows = batch.task, batch._alternatives.rows
    usual = usual_change(MujocoBatch(task, 16, 0, 1))
    assert (usual[:4] > 0.0).all()
    assert not usual[4:].any()  # the share of the episode that is left
    batch.reset()
    sent = []
    for k, action in enumerate(drawn(batch, 8)):
        before = batch._state.copy()
        step = batch.step(action)
        sent.append(task.robot.control(batch.applied).copy())
        for i in range(3):
            ends = [np.concatenate((batch.qpos[i], batch.qvel[i]))]
            for j in range(2):
                model = task.robot.load_model()
                model.body_mass[:] *= batch_rows["mass"][i, j]
                model.body_inertia[:] *= batch_rows["mass"][i, j][:, None]
                mujoco.mj_setConst(model, mujoco.MjData(model))
                data = mujoco.MjData(model)
                data.qpos[:] = before[i, 1 : 1 + model.nq]
                data.qvel[:] = before[i, 1 + model.nq : 1 + model.nq + model.nv]
                late = k - batch._robots.rows["delay"][i]  # the copy's own
                told = sent[late][i] if late >= 0 else 0.0
                data.ctrl[:] = batch_rows["gain"][i, j] * told
                for _ in range(physics_steps(model, task.contract.period_s)):
                    mujoco.mj_step(model, data)
                ends.append(np.concatenate((data.qpos, data.qvel)))
            apart = (np.std(ends, axis=0, ddof=1) / usual[:4]).mean()
            assert step.disagreement[i] == pytest.approx(apart, rel=1e-6)
    assert step.disagreement.min() > 0.01


@pytest.mark.parametrize("name", ["DriveCircle-v0", "QuadrupedFollow-v0"])
def test_alike_robots_agree(name):
    batch = batch_of(name, copies=4, **MOVING)
    batch.reset()
    assert batch.step(np.zeros_like(drawn(batch, 1)[0])).disagreement.shape == (4,)
    rows = batch._alternatives.rows
    for key, array in rows.items():
        array[:] = batch._robots.rows[key][:, None]
    batch._alternatives.build()
    for action in drawn(batch, 20):
        assert batch.step(action).disagreement.max() < 1e-9


def test_wider_ranges_disagree_more():
    one, two, ten = (mean_disagreement(gain=[1 - width, 1 + width]) for width in (0.02, 0.04, 0.2))
    assert two == pytest.approx(2.0 * one, rel=0.2)
    assert ten == pytest.approx(10.0 * one, rel=0.3)


def test_the_copy_s_own_delay_makes_no_difference():
    """Alternatives are told what reached the copy: robots with one gain agree at any delay."""
    batch = batch_of(copies=8, gain=[0.999999, 1.000001], delay=[0, 4])
    batch.reset()
    assert np.ptp(batch._robots.rows["delay"]) > 0
    assert np.max([batch.step(action).disagreement for action in drawn(batch, 10)]) < 1e-3


def test_sensors_and_what_is_certain_are_left_out():
    noisy = {"noise": {"position": 0.1}, "bias": {"heading": [-0.5, 0.5]}}
    batch = batch_of(copies=8, mass=[0.999999, 1.000001], **noisy, scale={"yaw_rate": [0.5, 2.0]})
    batch.reset()
    assert np.max([batch.step(action).disagreement for action in drawn(batch, 10)]) < 1e-3


def test_robots_of_the_same_physics_are_refused():
    for ranges in ({"noise": {"position": 0.1}}, {"mass": 1.3}, {"delay": [0, 2]}):
        with pytest.raises(
            ConfigError, match="pessimism needs randomised robots whose physics diff"
        ):
            batch_of(**ranges)
    with pytest.raises(ConfigError, match="pessimism needs randomised robots"):
        MujocoBatch(resolve("DriveCircle-v0").make(), 2, 0, alternatives=2)


def test_the_simulated_robots_are_the_same_with_and_without_alternatives():
    batch = batch_of(**MOVING, friction=[0.5, 1.2], noise={"position": 0.01})
    plain = batch_of(each=0, **MOVING, friction=[0.5, 1.2], noise={"position": 0.01})
    plain.load(batch.snapshot(), np.arange(40))
    for action in drawn(batch, 30):
        with_, without = batch.step(action), plain.step(action)
        assert with_.disagreement.min() > 0.0
        assert not without.disagreement.any()
        same = dataclasses.replace(with_, disagreement=without.disagreement)
        for field in dataclasses.fields(same):
            np.testing.assert_array_equal(getattr(same, field.name), getattr(without, field.name))


@pytest.mark.parametrize("name", ["DriveGather-v0", "QuadrupedFollow-v0", "PointCircle-v0"])
def test_seeds_states_and_snapshots_go_on_exactly(name):
    ranges = parameters(**MOVING)
    task = resolve(name).make()
    check_batch(lambda copies, seed: MujocoBatch(task, copies, seed, 0, ranges, "", 2))


def test_alternatives_are_drawn_anew_with_each_episode():
    batch = batch_of(**MOVING)
    first = {name: array.copy() for name, array in batch._alternatives.rows.items()}
    batch.elapsed[7] = batch.contract.episode_steps - 1
    batch.step(np.zeros((40, 2)))
    for name in ("mass", "gain"):
        changed = (batch._alternatives.rows[name] != first[name]).any(axis=(1, 2))
        assert np.flatnonzero(changed).tolist() == [7]


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"has no model .*; leave --pessimism out"):
        resolve("gym:tests.helpers.gym.gym_envs:Walk-v0").batch(1, seed=0, alternatives=2)
    task, ranges = resolve("DriveCircle-v0").make(), parameters(mass=[0.9, 1.1])
    pytest.importorskip("mujoco_warp")
    with pytest.raises(
        ConfigError, match="pessimism is computed by MuJoCo on this machine's cores"
    ):
        MujocoBatch(task, 2, 0, 1, ranges, "cpu", 2)

"""The batch against plain MuJoCo, and what its tasks pay and bill."""

import mujoco
import numpy as np
import pytest

from holdfast.errors import ConfigError, TrainingError
from holdfast.sim.circle import circle_reward
from holdfast.sim.drive import roll_pitch_yaw
from holdfast.sim.mujoco_batch import MujocoBatch
from holdfast.sim.robot import physics_steps
from holdfast.sim.tasks import TASKS, make


@pytest.fixture(params=sorted(TASKS))
def task(request):
    return make(request.param)


def test_a_copy_is_what_plain_mujoco_does(task):
    """The batch's third copy, step by step through mj_step in one MjData."""
    batch = MujocoBatch(task, 5, seed=1, threads=2)
    rng = np.random.default_rng(0)
    model = task.robot.load_model()
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = batch.qpos[3], batch.qvel[3]
    for _ in range(20):
        action = rng.uniform(task.contract.action_low, task.contract.action_high, (5, 2))
        batch.step(action)
        data.ctrl[:] = task.robot.control(batch.applied)[3]
        data.qacc_warmstart[:] = 0.0  # as rollout starts each call
        for _ in range(physics_steps(model, task.contract.period_s)):
            mujoco.mj_step(model, data)
        np.testing.assert_allclose(batch.qpos[3], data.qpos, rtol=0, atol=1e-9)
        np.testing.assert_allclose(batch.qvel[3], data.qvel, rtol=0, atol=1e-9)


def test_same_seed_same_batch_whatever_the_threads(task):
    rng = np.random.default_rng(2)
    actions = rng.normal(size=(300, 6, 2)) * task.contract.action_half_range

    def everything(threads):
        batch = MujocoBatch(task, 6, seed=3, threads=threads)
        steps = [batch.step(action) for action in actions]
        batch.close()
        return np.concatenate([s.observation for s in steps]), [s.costs.sum() for s in steps]

    one, two = everything(1), everything(2)
    np.testing.assert_array_equal(one[0], two[0])
    assert one[1] == two[1]


def test_copies_are_reset_when_their_episode_ends(task):
    batch = MujocoBatch(task, 4, seed=0)
    length = task.contract.episode_steps
    for k in range(length):
        step = batch.step(np.tile(task.contract.action_high, (4, 1)))
        assert step.truncated.all() == (k == length - 1)
        if k < length - 1:
            np.testing.assert_array_equal(step.observation, step.final_observation)
    left = -1  # the observation's last value is the share of the episode that is left
    np.testing.assert_allclose(step.final_observation[:, left], 0.0, atol=1e-12)
    np.testing.assert_array_equal(step.observation[:, left], 1.0)
    assert not batch.applied.any()


def test_a_state_restored_goes_on_the_same(task):
    batch = MujocoBatch(task, 3, seed=5)
    actions = np.random.default_rng(0).normal(size=(90, 3, 2))
    for action in actions[:40]:
        batch.step(action)
    saved = batch.state()
    first = [batch.step(action).observation for action in actions[40:]]
    batch.restore(saved)
    second = [batch.step(action).observation for action in actions[40:]]
    np.testing.assert_array_equal(first, second)


def test_any_rows_of_a_snapshot_are_loaded_exactly(task):
    """Copies of a copy go on as it did, in a batch of another size and in any order."""
    batch = MujocoBatch(task, 3, seed=5)
    actions = np.random.default_rng(1).normal(size=(40, 3, task.contract.action_size))
    for action in actions[:20]:
        seen = batch.step(action).observation
    snapshot = batch.snapshot()
    after = [batch.step(action) for action in actions[20:]]
    rows = np.array([2, 0, 0, 1, 2])
    other = MujocoBatch(task, 5, seed=9)
    np.testing.assert_array_equal(other.load(snapshot, rows), seen[rows])
    for action, step in zip(actions[20:], after, strict=True):
        again = other.step(action[rows])
        for name in ("final_observation", "reward", "costs", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(again, name), getattr(step, name)[rows])


def test_actions_are_limited_as_the_contract_says(task):
    batch = MujocoBatch(task, 2, seed=0)
    batch.step(np.full((2, 2), 1e9))
    np.testing.assert_allclose(
        batch.applied,
        np.minimum(task.contract.action_high, task.contract.action_max_step)[None]
        + np.zeros((2, 2)),
    )


def test_bad_actions_and_a_diverged_simulation_are_refused(task):
    batch = MujocoBatch(task, 2, seed=0)
    with pytest.raises(TrainingError, match="actions should be finite"):
        batch.step(np.full((2, 2), np.nan))
    batch.step(np.zeros((2, 2)))
    batch.qvel[1] = 1e12
    with pytest.raises(TrainingError, match="diverged"):
        batch.step(np.zeros((2, 2)))


def test_circle_reward_by_hand():
    """At (0, 2), moving along −x at 1: v·(−y, x) = 2, |‖p‖ − r| = 1 for r = 1: reward 1."""
    reward = circle_reward(np.array([0.0, 2.0]), np.array([-1.0, 0.0]), radius_m=1.0)
    assert reward == pytest.approx(1.0)
    clockwise = circle_reward(np.array([0.0, 2.0]), np.array([1.0, 0.0]), radius_m=1.0)
    assert clockwise == pytest.approx(-1.0)


def test_point_circle_is_the_paper_s():
    task = make("PointCircle-v0")
    (cost,) = task.contract.costs
    assert (task.radius_m, cost.parameters["x_limit_m"], cost.limit) == (15.0, 2.5, 5.0)
    assert task.contract.episode_steps == 65
    assert task.contract.period_s == 0.1


def test_drive_drives_as_it_is_told():
    """A second of 0.8 m/s, then of 1 rad/s on the spot, on its own wheels and contacts."""
    task = make("DriveCircle-v0")
    batch = MujocoBatch(task, 1, seed=0)
    start = task.signals(batch.qpos.copy(), batch.qvel.copy(), batch.world)
    forward = np.array([[0.8, 0.0]])
    for _ in range(40):
        batch.step(forward)
    signals = task.signals(batch.qpos, batch.qvel, batch.world)
    assert signals["forward_speed"][0, 0] == pytest.approx(0.8, rel=0.05)
    moved = signals["position"][0] - start["position"][0]
    heading = start["heading"][0, 0]
    assert moved @ [np.cos(heading), np.sin(heading)] == pytest.approx(1.5, rel=0.1)
    assert moved @ [-np.sin(heading), np.cos(heading)] == pytest.approx(0.0, abs=0.02)
    for _ in range(40):
        batch.step(np.array([[0.0, 1.0]]))
    signals = task.signals(batch.qpos, batch.qvel, batch.world)
    assert signals["yaw_rate"][0, 0] == pytest.approx(1.0, rel=0.1)
    assert abs(signals["tilt"]).max() < 0.02
    assert task.contract.period_s == 0.05


def test_roll_pitch_yaw_of_known_turns():
    half = np.pi / 6
    for axis in range(3):
        quaternion = np.zeros(4)
        quaternion[0], quaternion[1 + axis] = np.cos(half), np.sin(half)
        angles = [float(a) for a in roll_pitch_yaw(quaternion)]
        expected = [0.0, 0.0, 0.0]
        expected[axis] = 2 * half
        assert angles == pytest.approx(expected, abs=1e-12)


def test_unknown_task_is_refused():
    with pytest.raises(ConfigError, match=r"task should be one of .*PointCircle-v0, received 'x'"):
        make("x")


def test_unconstrained_driving_costs_far_more_than_the_limit():
    """Round the circle at full speed, as an unconstrained policy would: many times d."""
    task = make("DriveCircle-v0")
    batch = MujocoBatch(task, 8, seed=0)
    total = np.zeros(8)
    for _ in range(task.contract.episode_steps):
        signals = task.signals(batch.qpos, batch.qvel, batch.world)
        x, y = signals["position"].T
        bearing = np.arctan2(y, x)
        outward = np.clip(task.radius_m - np.hypot(x, y), -0.6, 0.6)
        wanted = bearing + np.pi / 2 - outward
        error = np.angle(np.exp(1j * (wanted - signals["heading"][:, 0])))
        action = np.stack((np.cos(error).clip(0.2), 2.0 * error), axis=-1)
        total += batch.step(action).costs[:, 0]
    assert total.mean() > 5 * task.contract.costs[0].limit

"""What the tasks pay and bill, by hand and by independent accounts."""

import numpy as np
import pytest

from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.registry import TASKS, resolve
from holdfast.sim.tasks.circle import circle_reward
from holdfast.sim.tasks.places import Grid


def signals_of(batch):
    return batch.task.signals(batch.qpos.copy(), batch.qvel.copy(), batch.world)


def heading_for(signals, goal_bearing, speed=1.0):
    """Return drive actions that turn towards a bearing in the odom frame and go there."""
    error = np.angle(np.exp(1j * (goal_bearing - signals["heading"][:, 0])))
    return np.stack((speed * np.cos(error).clip(0.0), 2.0 * error), axis=-1)


# Versions.


def test_a_published_task_keeps_its_contract():
    """Bundles and logs hold its hash: what changes it needs a new version of the id."""
    hashes = {name: resolve(name).make().contract.hash[:16] for name in TASKS if "Drive" in name}
    assert hashes["holdfast/DriveCircle-v0"] == "39bcf14bfcafd4b1"
    assert resolve("PointCircle-v0").make().contract.hash.startswith("af3902dc813d07b1")


@pytest.mark.parametrize(
    ("name", "steps", "limit", "lam"),
    [
        ("PointCircle-v0", 65, 5.0, 1.0),
        ("AntCircle-v0", 500, 10.0, 0.5),
        ("HumanoidCircle-v0", 1000, 10.0, 0.5),
        ("PointGather-v0", 15, 0.1, 1.0),
        ("AntGather-v0", 500, 0.2, 0.5),
    ],
)
def test_episodes_and_limits_are_the_paper_s(name, steps, limit, lam):
    contract = resolve(name).make().contract
    (cost,) = contract.costs
    assert (contract.episode_steps, cost.limit, cost.lam) == (steps, limit, lam)


# Rewards as expressions.


UNSAID = {"holdfast/AntGather-v0", "holdfast/QuadrupedFollow-v0"}
"""Tasks whose reward the expression language cannot say: docs/reference/TASKS.md names them."""


@pytest.mark.parametrize("name", TASKS)
def test_the_contract_pays_what_the_task_pays(name):
    """On 500 random states and surroundings, and for one robot as for many."""
    task, rng = resolve(name).make(), np.random.default_rng(5)
    expression = task.contract.reward_expression
    assert (expression is None) == (name in UNSAID)
    if expression is None:
        return
    qpos, qvel, _ = task.reset(rng, 500)
    qpos[:, :2] += rng.normal(0.0, 3.0, (500, 2))
    qvel += rng.normal(0.0, 1.0, qvel.shape)
    signals = task.robot.signals(qpos, qvel) | {
        "goal": rng.normal(0.0, 2.0, (500, 2)) * (rng.random((500, 1)) > 0.1),
        **{key: rng.integers(0, 3, (500, 1)).astype(float) for key in (
            "goals_reached", "apples_taken", "bombs_taken")},
    }  # fmt: skip
    paid = expression(signals)
    np.testing.assert_allclose(paid, task.reward(signals), rtol=1e-12, atol=1e-12)
    assert np.unique(paid).size > 2
    one = {key: values[7].tolist() for key, values in signals.items()}
    assert expression.step(one) == paid[7]


# Circle.


@pytest.mark.parametrize(
    ("name", "radius_m", "x_limit_m"),
    [("PointCircle-v0", 15.0, 2.5), ("AntCircle-v0", 10.0, 3.0), ("HumanoidCircle-v0", 10.0, 2.5)],
)
def test_circles_are_the_paper_s(name, radius_m, x_limit_m):
    task = resolve(name).make()
    assert task.radius_m == radius_m
    assert task.contract.costs[0].expression == f"abs(position.x) > {x_limit_m}"


def test_circle_reward_by_hand():
    """At (0, 2), moving along −x at 1: v·(−y, x) = 2, |‖p‖ − r| = 1 for r = 1: reward 1."""
    reward = circle_reward(np.array([0.0, 2.0]), np.array([-1.0, 0.0]), radius_m=1.0)
    assert reward == pytest.approx(1.0)
    clockwise = circle_reward(np.array([0.0, 2.0]), np.array([1.0, 0.0]), radius_m=1.0)
    assert clockwise == pytest.approx(-1.0)


def test_each_robot_is_paid_for_its_velocity_on_the_circle():
    """On the circle, along it at 1 m/s, each is paid the radius (times its task's scale)."""
    at, along = np.array([0.0, 1.0]), np.array([-1.0, 0.0])
    for name, extra in (
        ("PointCircle-v0", {"linear_velocity": along}),
        ("DriveCircle-v0", {"heading": np.array([np.pi]), "forward_speed": np.array([1.0])}),
        ("AntCircle-v0", {"linear_velocity": along}),
    ):
        task = resolve(name).make()
        reward = task.reward({"position": task.radius_m * at, **extra})
        scale = 1.0 if name == "DriveCircle-v0" else 0.1
        assert reward == pytest.approx(scale * task.radius_m)
    standing = {"position": np.zeros(2), "linear_velocity": np.zeros(2)}
    assert resolve("HumanoidCircle-v0").make().reward(standing) == pytest.approx(0.02)


def test_unconstrained_driving_costs_far_more_than_the_limit():
    """Round the circle at full speed, as an unconstrained policy would: many times d."""
    task = resolve("DriveCircle-v0").make()
    batch = MujocoBatch(task, 8, seed=0)
    total = np.zeros(8)
    for _ in range(task.contract.episode_steps):
        signals = signals_of(batch)
        x, y = signals["position"].T
        outward = np.clip(task.radius_m - np.hypot(x, y), -0.6, 0.6)
        wanted = np.arctan2(y, x) + np.pi / 2 - outward
        total += batch.step(heading_for(signals, wanted)).costs[:, 0]
    assert total.mean() > 5 * task.contract.costs[0].limit


# Where things lie.


@pytest.mark.parametrize("columns", [6, 7])
def test_things_lie_in_cells_of_their_own_and_none_in_the_middle(columns):
    grid = Grid(columns, spacing_m=2.0, jitter_m=0.25)
    places = grid.scatter(np.random.default_rng(0), 400, 10)
    assert places.shape == (400, 10, 2)
    cells = np.rint(places / 2.0)
    np.testing.assert_array_less(np.abs(places - 2.0 * cells), 0.25 + 1e-12)
    assert (cells != 0).any(axis=-1).all()
    assert all(len(np.unique(copy, axis=0)) == 10 for copy in cells)
    low, high = -(columns // 2), (columns - 1) // 2
    assert (cells.min(), cells.max()) == (low, high)
    # Each of the cells is as likely as another: 4,000 draws over 35 or 48 of them.
    _, counts = np.unique(cells.reshape(-1, 2), axis=0, return_counts=True)
    free = columns * columns - 1
    assert len(counts) == free
    np.testing.assert_allclose(counts, 4000 / free, rtol=0.4)


# Gather.


@pytest.mark.parametrize(
    ("name", "taken_within_m"),
    [("PointGather-v0", 1.0), ("AntGather-v0", 1.0), ("DriveGather-v0", 0.3)],
)
def test_things_are_taken_once_by_an_independent_account(name, taken_within_m):
    task = resolve(name).make()
    contract = task.contract
    batch, rng = MujocoBatch(task, 40, seed=1), np.random.default_rng(0)
    left = [[{tuple(p) for p in batch.world[kind][i]} for i in range(40)]
            for kind in ("apples", "bombs")]  # fmt: skip
    paid = billed = 0.0
    action = rng.uniform(contract.action_low, contract.action_high, (40, contract.action_size))
    going = np.ones(40, dtype=bool)
    for _ in range(min(contract.episode_steps - 1, 120)):
        step = batch.step(action)
        going &= ~step.terminated
        for i in np.flatnonzero(going):
            taken = [
                {p for p in things[i] if np.hypot(*(batch.qpos[i, :2] - p)) < taken_within_m}
                for things in left
            ]
            for things, gone in zip(left, taken, strict=True):
                things[i] -= gone
            assert step.reward[i] == 10.0 * len(taken[0])
            assert step.costs[i, 0] == bool(taken[1])
            paid, billed = paid + step.reward[i], billed + step.costs[i, 0]
    if name != "AntGather-v0":  # an ant that jerks goes nowhere
        assert paid > 0.0
        assert billed > 0.0


def test_a_taken_apple_is_seen_no_more():
    task = resolve("PointGather-v0").make()
    batch = MujocoBatch(task, 1, seed=0)
    batch.world["apples"][0] = [[4.0, 0.0], [0.0, 4.0]]
    batch.world["bombs"][0] = [[-2.0, 0.0]] * 8
    seen = signals_of(batch)
    assert seen["apple_proximity"][0, 0] == pytest.approx(1.0 - 4.0 / 6.0, abs=1e-9)
    assert seen["apple_proximity"][0, 5] == pytest.approx(1.0 - 4.0 / 6.0, abs=1e-9)
    assert seen["bomb_proximity"][0, 10] == pytest.approx(1.0 - 2.0 / 6.0, abs=1e-9)
    rewards = [batch.step(np.array([[10.0, 0.0]])).reward[0] for _ in range(4)]
    assert rewards == [0.0, 0.0, 0.0, 10.0]
    after = signals_of(batch)["apple_proximity"][0]
    assert np.count_nonzero(after) == 1  # the other one


def test_a_bomb_that_is_a_post_is_scanned_until_it_is_taken():
    batch = MujocoBatch(resolve("DriveGather-v0").make(), 1, seed=0)
    batch.world["bombs"][0] = [[9.0, 9.0]] * 7 + [[1.0, 0.0]]
    signals = signals_of(batch)
    assert signals["scan"].min() == pytest.approx(0.9, abs=1e-6)
    costs = []
    for _ in range(60):
        toward = -np.arctan2(batch.qpos[:, 1], 1.0 - batch.qpos[:, 0])
        costs.append(batch.step(heading_for(signals_of(batch), toward)).costs[0, 0])
    assert sum(costs) == 1.0
    assert (signals_of(batch)["scan"] == 3.0).all()


# Goal.


def test_who_goes_straight_for_goals_is_paid_the_way_and_the_goals_and_costs_many_limits():
    task = resolve("DriveGoal-v0").make()
    contract = task.contract
    batch = MujocoBatch(task, 20, seed=0)
    paid, cost, reached, way = np.zeros((4, 20))
    before = signals_of(batch)
    for _ in range(contract.episode_steps - 1):
        goal = before["goal"]
        bearing = before["heading"][:, 0] + np.arctan2(goal[:, 1], goal[:, 0])
        step = batch.step(heading_for(before, bearing))
        after = signals_of(batch)
        same = after["goals_reached"][:, 0] == 0.0
        way += np.where(same, np.hypot(*goal.T) - np.hypot(*after["goal"].T), 0.0)
        reached += ~same
        paid, cost = paid + step.reward, cost + step.costs[:, 0]
        before = after
    assert reached.mean() > 4.0
    np.testing.assert_allclose(paid - reached, way, atol=1.5)  # the rate times the period
    assert cost.mean() > 2 * contract.costs[0].limit


def test_a_goal_reached_gives_way_to_the_next_and_the_last_to_the_first():
    task = resolve("DriveGoal-v0").make()
    batch = MujocoBatch(task, 1, seed=3)
    goals = batch.world["goals"][0].copy()
    for k in range(len(goals) + 2):
        batch.qpos[0, :2] = goals[k % len(goals)]
        batch.step(np.zeros((1, 2)))
        assert batch.world["next"][0] == (k + 1) % len(goals)
        assert signals_of(batch)["goals_reached"][0, 0] == 1.0
    batch.step(np.zeros((1, 2)))
    assert signals_of(batch)["goals_reached"][0, 0] == 0.0


def test_what_is_too_near_is_billed_by_its_scan():
    task = resolve("DriveGoal-v0").make()
    batch = MujocoBatch(task, 2, seed=0)
    batch.world["posts"][:] = 50.0
    batch.world["posts"][0, 0] = batch.qpos[0, :2] + [0.44, 0.0]  # 0.34 m to its surface
    batch.world["posts"][1, 0] = batch.qpos[1, :2] + [0.46, 0.0]
    np.testing.assert_array_equal(batch.step(np.zeros((2, 2))).costs[:, 0], [1.0, 0.0])


# Follow.


def test_who_moves_as_told_is_paid_in_full_and_billed_where_it_leads():
    task = resolve("QuadrupedFollow-v0").make()
    told = np.array([[0.3, -0.1, 0.4]])
    signals = {
        "commanded_velocity": told,
        "forward_speed": told[:, 0:1],
        "lateral_speed": told[:, 1:2],
        "angular_velocity": np.array([[0.0, 0.0, 0.4]]),
    }
    assert task.reward(signals) == pytest.approx(1.5)
    slow = {**signals, "forward_speed": told[:, 0:1] - 0.5}
    assert task.reward(slow) == pytest.approx(np.exp(-1.0) + 0.5)
    straight = {**signals, "angular_velocity": np.zeros((1, 3))}
    assert task.reward(straight) == pytest.approx(1.0 + 0.5 * np.exp(-0.16 / 0.25))
    batch = MujocoBatch(task, 4, seed=0)
    billed = batch.cost_model(
        {
            "position": np.array([[0.5, 9.0], [-0.7, 0.0], [0.0, 0.0], [0.7, 0.0]]),
            "tilt": np.array([[0.0, 0.3], [0.0, 0.0], [0.0, -0.5], [0.5, 0.0]]),
        }
    )
    np.testing.assert_array_equal(billed, [[0, 0], [1, 0], [0, 1], [1, 1]])


def test_an_operator_asks_for_one_velocity_throughout_an_episode():
    batch = MujocoBatch(resolve("QuadrupedFollow-v0").make(), 200, seed=0)
    told = batch.signals()["commanded_velocity"].copy()
    assert (np.abs(told) <= [0.4, 0.2, 0.5]).all()
    np.testing.assert_allclose(np.abs(told).max(axis=0), [0.4, 0.2, 0.5], rtol=0.05)
    batch.step(np.zeros((200, 12)))
    np.testing.assert_array_equal(batch.signals()["commanded_velocity"], told)

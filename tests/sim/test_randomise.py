"""What copies have of their own: drawn, applied as MuJoCo would have it, put back exactly."""

import copy
import dataclasses
import json
from pathlib import Path

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from holdfast.errors import ConfigError
from holdfast.schema import read, to_plain
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.check import check_batch
from holdfast.sim.parameters.catalogue import Parameters, load
from holdfast.sim.parameters.senses import gaussian
from holdfast.sim.registry import TASKS, resolve
from holdfast.sim.robots.robot import physics_steps
from tests.helpers.robots.carts import Cart, Laps, mjcf
from tests.helpers.robots.meshes import CASTER
from tests.helpers.robots.parameters import parameters

DRIVE_FILE = Path(__file__).parents[2] / "config" / "randomise_drive.yaml"
DRIVE = load(DRIVE_FILE)
BODY = parameters(mass=[0.7, 1.4], friction=[0.5, 1.2])


def all_that_exists(task):
    """Return every parameter that the task's robot has."""
    observed = task.contract.observed_signals
    everything = {
        "mass": [0.8, 1.2],
        "gain": {"all": [0.9, 1.1], "each": [0.95, 1.05]},
        "delay": {"command": [0, 3], observed[0]: [0, 2]},
        "scale": {name: [0.98, 1.02] for name in observed},
        "noise": dict.fromkeys(observed, 0.01),
        "bias": {name: [-0.02, 0.02] for name in observed},
    }
    if task.robot.name != "point":
        everything |= {"friction": [0.5, 1.5], "slope": {"x": [-0.02, 0.02]}}
    if {"heading", "yaw_rate", "forward_speed"} <= {*observed}:
        everything |= {"pose": "reckoned", "drift": {"position": 0.01}}
    return parameters(**everything)


def drawn(task, steps, copies, seed=0):
    """Return actions (steps, copies, actions), a third of their range: little falls."""
    contract = task.contract
    u = np.random.default_rng(seed).uniform(-1 / 3, 1 / 3, (steps, copies, contract.action_size))
    return contract.action_center + contract.action_half_range * u


def observations(batch, actions):
    return np.stack([batch.reset(), *(batch.step(action).observation for action in actions)])


# The file.


def test_the_drive_robot_s_file_holds_what_the_demo_s_gap_is_made_of():
    for name, value in (("mass", 1.3), ("friction", 0.5), ("gain", 1.125)):
        amount = getattr(DRIVE, name).by_target["all"]
        assert amount.low < value < amount.high
    assert DRIVE.delay.by_target["command"].low <= 3 <= DRIVE.delay.by_target["command"].high


def test_it_goes_through_json_as_settings_do():
    again = read(
        Parameters, json.loads(json.dumps(to_plain(DRIVE))), "r", ConfigError, complete=True
    )
    assert again == DRIVE
    assert again != Parameters()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mas: [1, 2]", r"line 1: unknown mas; did you mean 'mass'\?"),
        ("mass: [1.2, 0.8]", r"mass should be \[low, high\], with low at most high"),
        ("mass: [0.8, 1.0, 1.2]", r"mass should be \[low, high\], received"),
        ("mass: {mean: 1}", "mass: missing spread"),
        ("mass: {mean: 1, spread: -1}", r"mass.* should be at least 0, received -1"),
        ("mass: {mean: 1, spread: 0.6}", "mass should have a mean of more than 2 spreads"),
        ("mass: {base: {mean: 1}}", r"mass\.base: missing spread"),
        ("gain_each: [0.9, 1]", r"gain_each is of an older format; .* gain: \{each: "),
        ("pose: known?", "pose should be known or reckoned, received 'known"),
        ("mass: [0.8, heavy]", r"mass\[1\] should be a number, received 'heavy'"),
        ("mass: [0.0, 1.0]", r"mass\[0\] should be in \(0, 100\], received 0"),
        ("gain: [.nan, .nan]", r"gain\[0\] should be a finite number"),
        ("delay: [0, 1.5]", r"delay\[1\] should be a whole number"),
        ("delay: [-1, 1]", r"delay\[0\] should be in \[0, 100\], received -1"),
        ("delay_steps: [0, 1]", "delay_steps is of an older format; .* delay: PERIODS"),
        ("noise: 0.1", "noise should be a mapping from names of signals, received 0"),
        ("noise: {position: -0.1}", r"noise\.position should be in \[0, 1e\+06\], received -0\.1"),
        ("noise: {all: 0.1}", "noise should name signals, received 'all'"),
        ("delay: {each: 3}", "delay should name signals or command, received 'each'"),
        ("bias: {position: 1.0e+308}", r"bias\.position should be in \[-1e\+06, 1e\+06\]"),
        ("delay: {mean: 0, spread: 1.0e+300}", r"delay\.spread should keep mean and 2 spreads in"),
        (
            "mass: {mean: 0, spread: 1.0e+308}",
            r"mass\.spread should be smaller beside a mean of 0,",
        ),
        (
            "mass: {mean: 1.3, spread: 1.0e+300}",
            r"mass\.spread should be smaller beside a mean of 1\.3, received 1e\+300",
        ),
        ("bias: {position: .inf}", "bias.position should be a finite number, received inf"),
        ("- mass", "should be a mapping"),
        ("mass: [", "should be YAML"),
    ],
)
def test_a_wrong_file_is_told_in_a_sentence(tmp_path, text, sentence):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"^{path}: (line 1: )?{sentence}") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read \(No such file"):
        load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("task", "settings", "sentence"),
    [
        ("PointCircle-v0", {"friction": 1.0}, "friction: the robot touches nothing"),
        ("DriveGoal-v0", {"noise": {"position": 0.1}}, "noise: there is no signal 'position'; it"),
        ("DriveCircle-v0", {"bias": {"episode_left": 0.1}}, "bias: .* no signal 'episode_left'"),
        (
            "DriveCircle-v0",
            {"gain": {"left": 0.9}},
            "gain: there is no actuator 'left'; it has",
        ),
        ("DriveCircle-v0", {"size": {"floor": 0.9}}, "size: 'floor' is a plane"),
        ("DriveCircle-v0", {"size": {"all": 0.9}}, "size: should name geoms"),
        ("DriveCircle-v0", {"friction_loss": {"base": 1}}, "friction_loss: there is no joint 'b"),
        ("PointCircle-v0", {"armature": 2}, "armature: the robot has none in its model"),
        ("DriveCircle-v0", {"drift": {"position": 0.1}}, "drift: .* with pose: reckoned; rec"),
        ("PointCircle-v0", {"pose": "reckoned"}, "pose: reckoned needs position, heading"),
    ],
)
def test_what_does_not_exist_is_refused(task, settings, sentence):
    with pytest.raises(ConfigError, match=f"^randomisation: {sentence}"):
        resolve(task).batch(2, seed=0, randomise=parameters(**settings))


# The batch.


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_stays_what_a_batch_should_be(name):
    """Seeds, states and snapshots go on exactly, with everything drawn that there is."""
    task = resolve(name).make()
    check_batch(lambda copies, seed: MujocoBatch(task, copies, seed, 0, all_that_exists(task)))


@pytest.mark.parametrize("name", sorted(TASKS))
def test_factors_of_1_change_nothing(name):
    task = resolve(name).make()
    ones = dict.fromkeys(("mass", "friction", "gain"), 1.0)
    if task.robot.name == "point":
        del ones["friction"]
    first = task.contract.observed_signals[0]
    same = parameters(**ones, delay=0, noise={first: 0.0}, scale={first: 1.0})
    actions = drawn(task, 12, 3)
    plain = MujocoBatch(task, 3, seed=4)
    plain.reset()  # whose generator has drawn nothing else
    found = MujocoBatch(task, 3, seed=4, randomise=same)
    found.load(dataclasses.replace(plain.snapshot(), rows=rows_of(plain, found)), np.arange(3))
    for action in actions:
        np.testing.assert_array_equal(found.step(action).reward, plain.step(action).reward)
        np.testing.assert_array_equal(found.qpos, plain.qpos)


def rows_of(batch, other):
    """Return a batch's rows with those that only another has."""
    return {**other.snapshot().rows, **batch.snapshot().rows}


@pytest.mark.parametrize("name", ["PointCircle-v0", "DriveCircle-v0", "AntCircle-v0"])
def test_a_copy_is_what_plain_mujoco_does_with_its_parameters(name):
    """Masses and friction in its model, and what its actuators were told late and more."""
    task = resolve(name).make()
    friction = {} if name == "PointCircle-v0" else {"friction": [0.3, 2.0]}
    settings = parameters(mass=[0.5, 2.0], gain={"each": [0.8, 1.2]}, delay=[0, 3], **friction)
    batch = MujocoBatch(task, 6, seed=1, threads=2, randomise=settings)
    rows = {key: value.copy() for key, value in batch._robots.rows.items()}
    assert len(set(rows["mass"][:, 1])) == 6
    model, sent = task.robot.load_model(), []
    copy_ = int(rows["delay"].argmax())
    assert rows["delay"][copy_] > 1
    model.body_mass[:] *= rows["mass"][copy_]
    model.body_inertia[:] *= rows["mass"][copy_][:, None]
    if friction:
        model.geom_friction[:] *= rows["friction"][copy_][:, None]
    mujoco.mj_setConst(model, mujoco.MjData(model))
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = batch.qpos[copy_], batch.qvel[copy_]
    for k, action in enumerate(drawn(task, 10, 6), start=1):
        batch.step(action)
        assert batch.elapsed[copy_] == k  # it did not fall
        sent.append(task.robot.control(batch.applied)[copy_].copy())
        late = k - 1 - rows["delay"][copy_]
        data.ctrl[:] = rows["gain"][copy_] * (sent[late] if late >= 0 else 0.0)
        data.qacc_warmstart[:] = 0.0  # as rollout starts each call
        for _ in range(physics_steps(model, task.contract.period_s)):
            mujoco.mj_step(model, data)
        np.testing.assert_allclose(batch.qpos[copy_], data.qpos, rtol=0, atol=1e-9)


def test_each_parameter_is_drawn_uniformly_and_anew_for_each_episode():
    task = resolve("DriveCircle-v0").make()
    batch = MujocoBatch(task, 400, seed=0, randomise=DRIVE)
    rows = batch._robots.rows
    first = {name: array.copy() for name, array in rows.items()}
    for name in ("mass", "friction"):
        amount = getattr(DRIVE, name).by_target["all"]
        uniform = stats.uniform(amount.low, amount.high - amount.low)
        assert (rows[name][:, 1:] == rows[name][:, 1:2]).all()  # one for all
        assert stats.kstest(rows[name][:, 1], uniform.cdf).pvalue > 0.01
    assert set(rows["delay"]) == {0, 1, 2, 3, 4}
    left, right = np.log(rows["gain"]).T
    assert (left != right).all()
    assert np.corrcoef(left, right)[0, 1] > 0.8  # most of it is common
    assert np.abs(rows["bias"]).max(axis=0) == pytest.approx(
        [0.02, 0.02, 0.02, 0.1, 0.02], rel=0.02
    )
    batch.reset()
    for name, array in rows.items():
        if name not in ("sent", "deviation"):
            assert (array != first[name]).any(axis=tuple(range(1, array.ndim))).mean() > 0.7
    ended = np.zeros(400, bool)
    ended[[3, 7]] = True
    batch.elapsed[ended] = task.contract.episode_steps - 1
    before = rows["mass"].copy()
    batch.step(np.zeros((400, 2)))
    np.testing.assert_array_equal((rows["mass"] != before).any(axis=1), ended)


def test_models_follow_the_rows_and_share_nothing():
    task = resolve("DriveCircle-v0").make()
    batch = MujocoBatch(task, 3, seed=0, randomise=DRIVE)
    variants, rows = batch._robots.variants, batch._robots.rows
    nominal = task.robot.load_model()
    for i, model in enumerate(map(variants.model, range(3))):
        assert model.body_mass.sum() == pytest.approx(rows["mass"][i, 1] * nominal.body_mass.sum())
        assert model.geom("left_tyre").friction[0] == pytest.approx(0.9 * rows["friction"][i, 1])
        moved = rows["mass"][i, 1] * nominal.body_subtreemass[1]
        assert model.body_subtreemass[1] == pytest.approx(moved)
    one = MujocoBatch(task, 3, seed=0, randomise=parameters(gain=[0.9, 1.1]))
    assert one._robots.variants.fields == {}


@pytest.mark.parametrize("kinds", [{}, {"mass": 1.1}])
def test_a_larger_geom_of_a_body_with_several_touches_sooner(tmp_path, kinds):
    robot = Cart(tmp_path / "cart.xml", mjcf(CASTER))
    larger = parameters(size={"caster": 1.5}, **kinds)
    model = MujocoBatch(Laps(robot), 2, 0, 1, larger)._robots.variants.model(1)
    data = mujoco.MjData(model)
    data.qpos[2] = 0.055  # the caster's nominal lowest point is 5 mm above the floor
    mujoco.mj_forward(model, data)
    caster = model.geom("caster").id
    depths = [-contact.dist for contact in data.contact if caster in contact.geom]
    assert depths == pytest.approx([0.005])


def test_the_same_seed_draws_the_same_whatever_the_threads():
    task = resolve("DriveGoal-v0").make()
    settings = all_that_exists(task)
    actions = drawn(task, 40, 5)
    one, two = (MujocoBatch(task, 5, 3, threads, settings) for threads in (1, 3))
    np.testing.assert_array_equal(observations(one, actions), observations(two, actions))
    other = MujocoBatch(task, 5, 4, 1, settings)
    assert not np.array_equal(observations(one, actions), observations(other, actions))


def test_rewards_are_of_what_is_true_and_costs_of_what_is_billed_too():
    """A robot outside the corridor pays, whatever its sensors say, and one whose sensors say so."""
    task = resolve("DriveCircle-v0").make()
    wild = parameters(noise={"position": 5.0, "forward_speed": 5.0}, bias={"position": [-5.0, 5.0]})
    batch, plain = (MujocoBatch(task, 50, 0, 0, r) for r in (wild, None))
    plain.load(dataclasses.replace(batch.snapshot(), rows=rows_of(batch, plain)), np.arange(50))
    for action in drawn(task, 30, 50):
        noisy, true = batch.step(action), plain.step(action)
        np.testing.assert_array_equal(noisy.reward, true.reward)
        said = np.abs(noisy.observation[:, :1]) > 0.9
        np.testing.assert_array_equal(noisy.costs, np.maximum(true.costs, said))
        np.testing.assert_array_equal(plain.cost_model(plain.signals()), true.costs)
        assert np.abs(noisy.observation[:, :2] - true.observation[:, :2]).max() > 5.0
        np.testing.assert_array_equal(noisy.observation[:, 2:4], true.observation[:, 2:4])
        np.testing.assert_array_equal(noisy.observation[:, 6:], true.observation[:, 6:])


@pytest.mark.parametrize(
    ("expression", "most"), [("abs(position.x)", 3.0), ("sqrt(3.0 - abs(position.x))", 1.8)]
)
def test_a_reading_that_cannot_be_billed_ends_no_training(expression, most):
    task = resolve("DriveCircle-v0").make()
    (cost,) = task.contract.costs
    cost = dataclasses.replace(cost, expression=expression, at_most=most)
    task.contract = dataclasses.replace(task.contract, costs=(cost,))
    batch = MujocoBatch(task, 50, 0, 1, parameters(noise={"position": 5.0}))
    with np.errstate(invalid="ignore"):
        steps = [batch.step(action) for action in drawn(task, 10, 50)]
    costs = np.stack([step.costs for step in steps])
    assert ((costs >= 0.0) & (costs <= most)).all()


def test_noise_is_of_each_reading_and_bias_of_a_whole_episode():
    task = resolve("PointCircle-v0").make()
    settings = parameters(noise={"position": 0.3}, bias={"linear_velocity": [-0.5, 0.5]})
    batch = MujocoBatch(task, 300, 0, 0, settings)
    off = []
    for _ in range(40):
        seen = batch.step(np.zeros((300, 2))).observation
        off.append(seen[:, :4] - np.concatenate((batch.qpos, batch.qvel), axis=1))
    position, velocity = np.array(off)[..., :2], np.array(off)[..., 2:]
    assert stats.kstest(position.ravel() / 0.3, stats.norm.cdf).pvalue > 0.01
    flat = position.reshape(40, -1)
    assert abs(np.mean(flat[1:] * flat[:-1])) < 0.01 * 0.3**2 * 3  # no reading knows the last
    assert abs(np.mean(position[..., 0] * position[..., 1])) < 0.03 * 0.3**2
    np.testing.assert_allclose(velocity, np.broadcast_to(velocity[0], velocity.shape), atol=1e-12)
    assert 0.48 < np.abs(velocity).max() < 0.5


def test_a_delay_is_whole_control_periods_and_starts_at_rest():
    task = resolve("PointCircle-v0").make()
    batch = MujocoBatch(task, 4, seed=0, randomise=parameters(delay=[0, 3]))
    delay = batch._robots.rows["delay"]
    delay[:] = [0, 1, 2, 3]
    speeds = []
    for _ in range(6):
        batch.step(np.full((4, 2), 4.0))
        speeds.append(batch.qvel[:, 0].copy())
    speeds = np.array(speeds)
    for i in range(1, 4):
        assert (speeds[:i, i] == 0.0).all()
        np.testing.assert_allclose(speeds[i:, i], speeds[: 6 - i, 0], atol=1e-9)


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**6), st.integers(1, 40))
def test_normal_numbers_follow_from_key_and_step_alone(key, step, count):
    def of(keys, steps):
        return gaussian(np.array(keys, dtype=np.int64), np.array(steps, dtype=np.int64), count)

    together = of([key, 5, key], [step, 6, step + 1])
    assert together.shape == (3, count)
    assert np.isfinite(together).all()
    np.testing.assert_array_equal(together[0], of([key], [step])[0])
    np.testing.assert_array_equal(together[2], of([key], [step + 1])[0])
    assert (together[0] != together[2]).all()


def test_normal_numbers_are_normal_and_independent():
    keys = np.random.default_rng(0).integers(2**63, size=200)
    numbers = np.stack([gaussian(keys, np.full(200, k), 5) for k in range(100)])
    assert stats.kstest(numbers.ravel(), stats.norm.cdf).statistic < 0.008  # 1 in 10⁵ exceeds it
    by_column = np.corrcoef(numbers.reshape(-1, 5).T)
    assert np.abs(by_column - np.eye(5)).max() < 0.03
    over_time = np.corrcoef(numbers[:-1].ravel(), numbers[1:].ravel())[0, 1]
    assert abs(over_time) < 0.02
    consecutive = gaussian(np.arange(20_000), np.zeros(20_000, dtype=np.int64), 1)[:, 0]
    assert abs(np.corrcoef(consecutive[1:], consecutive[:-1])[0, 1]) < 0.03


def test_a_robot_s_own_model_is_never_touched():
    task = resolve("AntCircle-v0").make()
    before = copy.copy(task.robot.load_model())
    MujocoBatch(task, 2, 0, 0, all_that_exists(task)).reset()
    np.testing.assert_array_equal(task.robot.load_model().body_mass, before.body_mass)


def test_a_robot_that_stands_on_a_slope_rolls_down():
    """The drive robot's motors hold a speed, not a place: it creeps downhill along its heading."""
    task = resolve("DriveCircle-v0").make()
    batch = MujocoBatch(task, 100, seed=0, randomise=parameters(slope={"x": 0.1, "y": -0.2}))
    start = batch.reset()[:, :4]  # position, and cosine and sine of the heading
    for _ in range(20):
        after = batch.step(np.zeros((100, 2))).observation[:, :4]
    batch.close()
    downhill = start[:, 2] * np.sin(0.1) - start[:, 3] * np.sin(0.2)
    made = ((after - start)[:, :2] * start[:, 2:]).sum(axis=1)
    assert np.corrcoef(downhill, made)[0, 1] > 0.99
    assert np.polyfit(downhill, made, 1)[0] > 0.1  # m in 1 s, on a floor that stood upright

"""Model parameters by name: what they change, what is measured of it, and what is refused."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from scipy import stats

from holdfast.errors import ConfigError
from holdfast.schema import to_plain
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.parameters.catalogue import KINDS, Parameters, load, load_gap
from holdfast.sim.parameters.robots import Robots
from holdfast.sim.registry import resolve
from tests.helpers.robots.parameters import parameters

SLIDER = """
<mujoco>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 0.1" friction="1.5"/>
    <body name="sledge" pos="0 0 0.1">
      <freejoint/>
      <geom name="runner" type="capsule" size="0.05 0.2" euler="0 90 0" pos="0 0 -0.05"
            friction="0.4" mass="2"/>
      <geom name="block" type="box" size="0.1 0.1 0.02" mass="1"/>
      <geom name="drum" type="cylinder" size="0.03 0.1" euler="90 0 0" mass="0.1"/>
      <geom name="ball" type="sphere" size="0.03" mass="0.1"/>
      <body name="arm" pos="0 0.2 0">
        <joint name="elbow" axis="0 1 0" damping="0.2" armature="0.01"/>
        <geom name="bob" type="ellipsoid" size="0.02 0.03 0.04" pos="0.1 0 0.1" mass="0.5"/>
      </body>
    </body>
  </worldbody>
  <contact><pair geom1="runner" geom2="block" friction="0.7 0.7 0.005 0.0001 0.0001"/></contact>
  <actuator>
    <motor name="elbow" joint="elbow" gear="1" ctrlrange="-1 1" forcelimited="true"
           forcerange="-2 3"/>
  </actuator>
</mujoco>
"""
NOMINAL = mujoco.MjModel.from_xml_string(SLIDER)
SIZES = {"position": 2, "heading": 1, "forward_speed": 1, "yaw_rate": 1}


def robots(copies=1, **data):
    made = Robots(parameters(**data), NOMINAL, np.zeros(1), SIZES, copies, 0.05, where="gap")
    made.draw(np.arange(copies), np.random.default_rng(0))
    return made


def model_of(**data):
    return robots(**data).variants.model(0)


def test_a_silent_profile_is_completed_with_what_training_had():
    prior = parameters(
        mass=[0.8, 1.2], gain={"each": [0.9, 1.1]}, delay=[0, 2], pose="reckoned",
        noise={"scan": 0.01, "goal": 0.02}, drift={"position": 0.1},
    )  # fmt: skip
    profile = parameters(gain={"elbow": 0.95}, delay={"goal": 1}, noise={"goal": 0.05})
    expected = parameters(
        mass=[0.8, 1.2], gain={"elbow": 0.95}, delay={"command": [0, 2], "goal": 1},
        noise={"scan": 0.01, "goal": 0.05}, drift={"position": 0.1}, pose="reckoned",
    )  # fmt: skip
    assert profile.completed(prior) == expected
    assert profile.completed(Parameters()) == profile


# What is in the model.


@pytest.mark.parametrize(
    ("data", "field", "at", "factor"),
    [
        ({"mass": {"arm": 2.0}}, "body_mass", 2, 2.0),
        ({"mass": {"all": 2.0, "arm": 1.5}}, "body_mass", 2, 3.0),
        ({"mass": {"all": 2.0, "arm": 1.5}}, "body_mass", 1, 2.0),
        ({"mass": {"arm": 2.0}}, "body_inertia", 2, 2.0),
        ({"friction": {"floor": 2}}, "geom_friction", 0, 2.0),
        ({"friction": 0.5}, "pair_friction", 0, 0.5),
        ({"friction": {"floor": 2, "block": 3}}, "pair_friction", 0, 3.0),
        ({"friction": {"runner": 4, "block": 9}}, "pair_friction", 0, 6.0),
        ({"size": {"runner": 1.5}}, "geom_size", 1, 1.5),
        ({"size": {"runner": 1.5}}, "geom_rbound", 1, 1.5),
        ({"size": {"runner": 1.5}}, "geom_aabb", 1, 1.5),
        ({"track": {"arm": 1.5}}, "body_pos", (2, 1), 1.5),
        ({"damping": 3}, "dof_damping", 6, 3.0),
        ({"armature": {"elbow": 3}}, "dof_armature", 6, 3.0),
        ({"force": 0.5}, "actuator_forcerange", 0, 0.5),
    ],
)
def test_a_factor_is_of_what_it_names_and_of_nothing_else(data, field, at, factor):
    changed, nominal = getattr(model_of(**data), field), getattr(NOMINAL, field)
    np.testing.assert_allclose(changed[at], factor * nominal[at], rtol=1e-12)
    rest = np.ones(nominal.shape, dtype=bool)
    rest[at] = False
    if len(data[next(iter(data))] if isinstance(data[next(iter(data))], dict) else [1, 2]) == 1:
        np.testing.assert_array_equal(changed[rest], nominal[rest])


def test_friction_loss_is_added_to_the_joints_that_turn():
    loss = model_of(friction_loss=0.1).dof_frictionloss
    np.testing.assert_allclose(loss, [0, 0, 0, 0, 0, 0, 0.1])


def test_a_slope_turns_gravity():
    g = np.linalg.norm(NOMINAL.opt.gravity)
    np.testing.assert_allclose(
        model_of(slope={"x": 0.1, "y": -0.2}).opt.gravity,
        g
        * np.array([np.sin(0.1), -np.sin(0.2), -np.sqrt(1 - np.sin(0.1) ** 2 - np.sin(0.2) ** 2)]),
    )
    level = model_of(mass=2.0).opt.gravity
    np.testing.assert_array_equal(level, NOMINAL.opt.gravity)


def test_a_slope_is_drawn_to_both_sides_and_each_copy_has_its_own():
    made = robots(copies=64, slope={"x": {"mean": 0.0, "spread": 0.05}})
    falls = [made.variants.model(i).opt.gravity[0] for i in range(64)]
    assert min(falls) < 0.0 < max(falls)
    assert len({*falls}) == 64


def test_what_follows_from_the_masses_follows():
    model = model_of(mass=2.0)
    assert model.body_subtreemass[1] == pytest.approx(2.0 * NOMINAL.body_subtreemass[1])


@pytest.mark.parametrize(
    ("geom", "factor", "rise_m"),
    [("runner", 2.0, 0.05), ("runner", 0.8, -0.01), ("ball", 5.0, 0.05), ("drum", 5.0, 0.05),
     ("block", 5.0, 0.0), ("bob", 2.0, 0.0)],
)  # fmt: skip
def test_a_robot_starts_as_much_higher_as_its_lowest_geom_reaches_lower(geom, factor, rise_m):
    made = robots(size={geom: factor})
    raised = made.place(np.array([0]), NOMINAL.qpos0[None])
    assert raised[0, 2] - NOMINAL.qpos0[2] == pytest.approx(rise_m, abs=1e-9)
    np.testing.assert_array_equal(np.delete(raised[0], 2), np.delete(NOMINAL.qpos0, 2))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"friction": {"runner": 0.5}}, "friction: 'runner' with 0.2 would slip no more than now "),
        ({"mass": {"sledg": 2}}, "mass: there is no body 'sledg'; did you mean 'sledge'"),
        ({"mass": {"world": 2}}, "mass: there is no body 'world'"),
        ({"damping": {"free": 2}}, "damping: there is no joint 'free'; it has elbow"),
        ({"size": {"floor": 2}}, "size: 'floor' is a plane, mesh or height field"),
        ({"size": {"each": 2}}, "size: should name geoms"),
        ({"track": {"sledge": 2}}, "track: 'sledge' has none in its model"),
        ({"slope": {"z": 0.1}}, "slope: there is no axis 'z'; it has x, y"),
        ({"delay": {"positoin": 2}}, "delay: there is no signal 'positoin'; did you mean 'posit"),
        ({"drift": {"yaw_rate": 2}, "pose": "reckoned"}, "drift: should be of position and head"),
    ],
)
def test_what_is_not_there_or_would_change_nothing_is_refused(data, sentence):
    with pytest.raises(ConfigError, match=f"^gap: {sentence}"):
        robots(**data)


# Amounts.


def test_a_spread_is_widened_where_that_is_possible():
    data = {
        "mass": {"all": {"mean": 1.3, "spread": 0.05}, "arm": {"mean": 1.0, "spread": 0.4}},
        "gain": {"all": [0.9, 1.1]},
        "delay": 3,
    }
    wider = parameters(**data).wider(3.0).to_plain()
    assert wider["mass"]["all"] == {"mean": pytest.approx(1.3), "spread": pytest.approx(0.15)}
    assert wider["mass"]["arm"]["spread"] == pytest.approx(0.4)  # a mass would not be positive
    assert wider["gain"] == {"all": [0.9, 1.1]}
    assert wider["delay"] == {"command": 3.0}


def test_a_mean_with_a_spread_is_drawn_about_the_mean_and_not_far_from_it(tmp_path):
    made = robots(4000, mass={"arm": {"mean": 1.3, "spread": 0.05}})
    mass = made.rows["mass"][:, 2]
    assert (
        stats.kstest((mass - 1.3) / 0.05, lambda z: np.clip(stats.norm.cdf(z), 0.0228, 1)).statistic
        < 0.03
    )
    assert abs(mass - 1.3).max() <= 0.1 + 1e-12
    assert (made.rows["mass"][:, 1] == 1.0).all()
    late = robots(2000, delay={"mean": 1, "spread": 1.0}).rows["delay"]
    assert set(late) == {0, 1, 2, 3}
    file = tmp_path / "profile.yaml"
    file.write_text("mass: {mean: 1.3, spread: 0.05}\ndelay: {mean: 2.6, spread: 0.5}\n")
    assert to_plain(load_gap(file)) == {"mass": {"all": 1.3}, "delay": {"command": 3.0}}
    assert to_plain(load(file)) != to_plain(load_gap(file))


def test_each_draws_for_every_part_and_all_for_none_by_itself():
    made = robots(50, mass={"all": [0.5, 2.0]}, friction={"each": [0.5, 2.0]})
    assert (made.rows["mass"][:, 1] == made.rows["mass"][:, 2]).all()
    assert len(np.unique(made.rows["friction"][0])) == NOMINAL.ngeom


def test_every_kind_is_on_the_page():
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "reference" / "PARAMETERS.md").read_text()
    for name in KINDS:
        assert f"`{name}`" in page


# What is measured.


def moving(copies, ticks, **data):
    """Measure a robot that goes ahead at 1 m/s and turns by 0.5 rad/s; return what is said."""
    made = robots(copies, **data)
    everyone, said, x = np.arange(copies), [], 0.0
    for tick in range(ticks):
        x = 0.05 * tick
        signals = {
            "position": np.full((copies, 2), [x, 0.0]),
            "heading": np.full((copies, 1), 0.025 * tick),
            "forward_speed": np.full((copies, 1), 1.0),
            "yaw_rate": np.full((copies, 1), 0.5),
        }
        elapsed = np.full(copies, tick)
        if made.remembers:
            made.notice(signals, elapsed, everyone)
        said.append(made.perceived(signals, elapsed, everyone))
        again = made.perceived(signals, elapsed, everyone)
        for name in signals:
            np.testing.assert_array_equal(again[name], said[-1][name])
    return {name: np.stack([row[name] for row in said]) for name in said[0]}


def test_a_late_signal_is_the_one_of_then_and_at_first_the_first():
    said = moving(3, 20, delay={"position": 4})
    expected = 0.05 * np.maximum(np.arange(20) - 4, 0)
    np.testing.assert_allclose(said["position"][:, 1, 0], expected)
    np.testing.assert_allclose(said["heading"][:, 1, 0], 0.025 * np.arange(20))


def test_scale_and_bias_are_of_the_signal_that_they_name():
    said = moving(2, 3, scale={"forward_speed": 1.1}, bias={"forward_speed": 0.2, "heading": -0.1})
    np.testing.assert_allclose(said["forward_speed"], 1.3)
    np.testing.assert_allclose(said["heading"][2], 0.05 - 0.1)
    np.testing.assert_allclose(said["yaw_rate"], 0.5)


def test_a_reckoned_pose_adds_up_what_the_speeds_say():
    said = moving(2, 41, pose="reckoned", scale={"forward_speed": 0.8}, bias={"yaw_rate": 0.1})
    turned = 0.6 * 0.05 * np.arange(41)
    np.testing.assert_allclose(said["heading"][:, 0, 0], turned, atol=1e-12)
    radius = 0.8 / 0.6
    np.testing.assert_allclose(said["position"][:, 0, 0], radius * np.sin(turned), atol=1e-3)
    np.testing.assert_allclose(said["position"][:, 0, 1], radius * (1 - np.cos(turned)), atol=1e-3)


def test_a_late_reckoned_pose_is_the_reckoned_one_of_then():
    made = {"pose": "reckoned", "scale": {"forward_speed": 0.8}, "bias": {"yaw_rate": 0.1}}
    late = moving(2, 41, delay={"position": 3, "heading": 3}, **made)
    plain = moving(2, 41, **made)
    for name in ("position", "heading"):
        np.testing.assert_array_equal(late[name][3:], plain[name][:-3])


def test_drift_grows_as_the_square_root_of_the_way():
    said = moving(3000, 81, pose="reckoned", drift={"position": 0.1, "heading": 0.0})
    plain = moving(1, 81, pose="reckoned")
    off = said["position"] - plain["position"]
    for tick in (20, 80):
        assert off[tick].std() == pytest.approx(0.1 * np.sqrt(0.05 * tick), rel=0.05)
    np.testing.assert_array_equal(off[0], 0.0)
    np.testing.assert_array_equal(said["heading"], np.broadcast_to(plain["heading"], (81, 3000, 1)))


def test_training_may_have_late_and_reckoned_signals():
    """In a batch, a reckoned pose without errors is nearly the true one, and a late one is late."""
    task = resolve("DriveCircle-v0").make()
    plain, late, reckoned = (
        MujocoBatch(task, 5, 0, 1, parameters(**data))
        for data in ({}, {"delay": {"position": 2}}, {"pose": "reckoned"})
    )
    action, seen = np.full((5, 2), [0.6, 0.3]), []
    for batch in (plain, late, reckoned):
        seen.append(np.stack([batch.reset()] + [batch.step(action).observation for _ in range(60)]))
    true, delayed, added = seen
    np.testing.assert_array_equal(delayed[2:, :, :2], true[:-2, :, :2])
    np.testing.assert_array_equal(delayed[:, :, 2:], true[:, :, 2:])
    assert 0.0 < np.abs(added[:, :, :2] - true[:, :, :2]).max() < 0.08

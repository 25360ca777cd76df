"""The robots' signals and commands against MuJoCo's own account of the same state."""

import os

import gymnasium
import mujoco
import numpy as np
import pytest

from holdfast.errors import ConfigError
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.registry import resolve
from holdfast.sim.robots.drive import Drive
from holdfast.sim.robots.legged import Ant, Humanoid
from holdfast.sim.robots.omni import Omni
from holdfast.sim.robots.point import Point
from holdfast.sim.robots.quadruped import Quadruped
from holdfast.sim.robots.robot import physics_steps, projected_gravity, roll_pitch_yaw
from holdfast.sim.robots.skid import Skid

ROBOTS = {robot.name: robot for robot in (Point, Drive, Skid, Omni, Quadruped, Ant, Humanoid)}


@pytest.fixture(params=sorted(ROBOTS))
def robot(request):
    return ROBOTS[request.param]()


def moved(robot, seed=0):
    """Return model and data of the robot thrown about for a while."""
    model = robot.load_model()
    data, rng = mujoco.MjData(model), np.random.default_rng(seed)
    qpos, qvel = robot.start(rng, 1, 0.5)
    data.qpos[:], data.qvel[:] = qpos[0], qvel[0]
    low = np.array([channel.low for channel in robot.action])
    high = np.array([channel.high for channel in robot.action])
    for _ in range(10):
        data.ctrl[:] = robot.control(rng.uniform(low, high))
        mujoco.mj_step(model, data, physics_steps(model, robot.period_s))
    mujoco.mj_forward(model, data)
    return model, data


def test_signals_are_what_mujoco_says_of_the_base(robot):
    model, data = moved(robot)
    signals = robot.signals(data.qpos, data.qvel)
    np.testing.assert_allclose(signals["position"], data.xpos[1, :2], atol=1e-9)
    turning, going = np.zeros(6), np.zeros(6)  # angular, then linear velocity
    body = mujoco.mjtObj.mjOBJ_XBODY
    mujoco.mj_objectVelocity(model, data, body, 1, going, 0)
    mujoco.mj_objectVelocity(model, data, body, 1, turning, 1)
    rotation = data.xmat[1].reshape(3, 3)
    np.testing.assert_allclose(signals["linear_velocity"], going[3:5], atol=1e-9)
    if robot.name != "drive":  # which takes itself to move along its heading alone
        np.testing.assert_array_equal(robot.velocity(signals), signals["linear_velocity"])
    if robot.name != "point":
        assert signals["vertical_speed"][0] == pytest.approx(going[5], abs=1e-9)
        assert signals["height"][0] == pytest.approx(data.xpos[1, 2], abs=1e-9)
        np.testing.assert_allclose(signals["angular_velocity"], turning[:3], atol=1e-9)
        np.testing.assert_allclose(signals["orientation"], data.xquat[1], atol=1e-9)
        assert signals["yaw_rate"][0] == pytest.approx(turning[2], abs=1e-9)
        along = rotation[:2, 0] / np.linalg.norm(rotation[:2, 0])
        assert signals["forward_speed"][0] == pytest.approx(along @ going[3:5], abs=1e-9)
        left = np.array([-along[1], along[0]])
        assert signals["lateral_speed"][0] == pytest.approx(left @ going[3:5], abs=1e-9)
        np.testing.assert_allclose(signals["projected_gravity"], -rotation[2], atol=1e-9)
    heading = float(robot.heading(signals))
    assert heading == pytest.approx(np.arctan2(rotation[1, 0], rotation[0, 0]), abs=1e-9)


def test_roll_pitch_yaw_of_known_turns():
    half = np.pi / 6
    for axis in range(3):
        quaternion = np.zeros(4)
        quaternion[0], quaternion[1 + axis] = np.cos(half), np.sin(half)
        angles = [float(a) for a in roll_pitch_yaw(quaternion)]
        expected = [0.0, 0.0, 0.0]
        expected[axis] = 2 * half
        assert angles == pytest.approx(expected, abs=1e-12)


def test_gravity_is_seen_from_the_base():
    half = np.pi / 4
    to_its_left = np.array([np.cos(half), np.sin(half), 0.0, 0.0])  # rolled to its right
    np.testing.assert_allclose(projected_gravity(to_its_left), [0.0, -1.0, 0.0], atol=1e-12)
    nose_down = np.array([np.cos(half), 0.0, np.sin(half), 0.0])
    np.testing.assert_allclose(projected_gravity(nose_down), [1.0, 0.0, 0.0], atol=1e-12)


def test_a_period_is_a_whole_number_of_physics_steps(robot):
    model = robot.load_model()
    steps = physics_steps(model, robot.period_s)
    assert steps * model.opt.timestep == pytest.approx(robot.period_s, abs=1e-12)
    for wrong in (1.5 * model.opt.timestep, 0.1 * model.opt.timestep):
        with pytest.raises(ConfigError, match="a whole number of the model's time steps"):
            physics_steps(model, wrong)


def test_drive_drives_as_it_is_told():
    """Two seconds of 0.8 m/s, then of 1 rad/s on the spot, on its own wheels and contacts."""
    robot = Drive()
    batch = MujocoBatch(resolve("DriveCircle-v0").make(), 1, seed=0)
    start = robot.signals(batch.qpos.copy(), batch.qvel.copy())
    for _ in range(40):
        batch.step(np.array([[0.8, 0.0]]))
    signals = robot.signals(batch.qpos, batch.qvel)
    assert signals["forward_speed"][0, 0] == pytest.approx(0.8, rel=0.05)
    along = robot.velocity(signals)[0]
    np.testing.assert_allclose(along, batch.qvel[0, :2], atol=0.01)
    moved_by = signals["position"][0] - start["position"][0]
    heading = start["heading"][0, 0]
    assert moved_by @ [np.cos(heading), np.sin(heading)] == pytest.approx(1.5, rel=0.1)
    assert moved_by @ [-np.sin(heading), np.cos(heading)] == pytest.approx(0.0, abs=0.02)
    for _ in range(40):
        batch.step(np.array([[0.0, 1.0]]))
    signals = robot.signals(batch.qpos, batch.qvel)
    assert signals["yaw_rate"][0, 0] == pytest.approx(1.0, rel=0.1)
    assert abs(signals["tilt"]).max() < 0.02


def driven(name, action, periods, copies=1):
    """Return a batch's signals before and after so many periods under one action."""
    batch = MujocoBatch(resolve(name).make(), copies, seed=0)
    before = {key: value.copy() for key, value in batch.signals().items()}
    for _ in range(periods):
        batch.step(np.tile(action, (copies, 1)))
    return before, batch.signals()


def moved_in_base_frame(before, after):
    """Return the way (N, 2) made, forwards and to the left of the heading at the start."""
    way, heading = after["position"] - before["position"], before["heading"][:, 0]
    cos, sin = np.cos(heading), np.sin(heading)
    return np.stack((cos * way[:, 0] + sin * way[:, 1], cos * way[:, 1] - sin * way[:, 0]), axis=-1)


def test_a_skid_steered_base_turns_as_told_whatever_its_heading():
    """The tyres slip, so a turn is nearly as told, and the same towards every side."""
    for told in ([1.0, 0.0], [0.0, 1.0], [0.5, 0.5]):
        before, after = driven("SkidCircle-v0", told, 40, copies=8)
        np.testing.assert_allclose(after["forward_speed"], told[0], atol=0.02)
        np.testing.assert_allclose(after["yaw_rate"], told[1], atol=0.15)
        assert np.ptp(after["yaw_rate"]) < 0.05
        assert abs(after["tilt"]).max() < 0.02
        np.testing.assert_allclose(after["height"], 0.165, atol=3e-3)
    assert np.ptp(before["heading"]) > 3.0


def test_an_omnidirectional_base_goes_to_its_side_without_turning():
    before, after = driven("OmniGoal-v0", [0.0, 0.8, 0.0], 40)
    np.testing.assert_allclose(moved_in_base_frame(before, after), [[0.0, 1.4]], atol=0.1)
    np.testing.assert_allclose(after["heading"], before["heading"], atol=0.01)
    assert abs(after["tilt"]).max() < 0.01
    _, after = driven("OmniGoal-v0", [0.8, 0.8, 1.5], 40)  # more than its wheels can
    ratio = after["lateral_speed"] / after["forward_speed"]
    np.testing.assert_allclose(ratio, 1.0, atol=0.1)
    assert 0.2 < after["forward_speed"][0, 0] < 0.4


def test_an_omnidirectional_base_pushes_no_harder_than_its_tyres_hold():
    """From standing to full speed in no time: 4 wheels of 29 N, 45 degrees off, move 20 kg."""
    robot = Omni()
    model = robot.load_model()
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    data.ctrl[:] = robot.control(np.array([0.8, 0.0, 0.0]))
    mujoco.mj_forward(model, data)
    assert data.qacc[0] == pytest.approx(4 * 29 * np.sqrt(0.5) / 20, rel=0.05)


def test_a_quadruped_stands_on_four_feet_and_says_what_that_takes():
    before, after = driven("QuadrupedFollow-v0", np.zeros(12), 100, copies=3)
    for signals in (before, after):
        np.testing.assert_array_equal(signals["contact"], np.ones((3, 4)))
        np.testing.assert_allclose(signals["tilt"], 0.0, atol=0.05)
        assert signals["joint_effort"].shape == (3, 12)
        assert 1.0 < np.abs(signals["joint_effort"]).max() < 10.0
    np.testing.assert_allclose(after["position"], before["position"], atol=0.01)
    assert not resolve("QuadrupedFollow-v0").make().terminated(after).any()


def test_what_its_sensors_say_is_what_mujoco_computes():
    """Torques and contacts of a copy, against MuJoCo's own forces in the same physics steps."""
    robot = Quadruped()
    batch = MujocoBatch(resolve("QuadrupedFollow-v0").make(), 2, seed=0)
    model = robot.load_model()
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    feet = [model.geom(f"{leg}_foot").id for leg in ("front_left", "front_right")]
    feet += [model.geom(f"{leg}_foot").id for leg in ("rear_left", "rear_right")]
    lifted = 0
    for _ in range(30):
        data.qpos[:], data.qvel[:] = batch.qpos[1], batch.qvel[1]
        batch.step(rng.uniform(batch.contract.action_low, batch.contract.action_high, (2, 12)))
        data.ctrl[:] = robot.control(batch.applied)[1]
        data.qacc_warmstart[:] = 0.0
        for _ in range(physics_steps(model, robot.period_s)):
            mujoco.mj_step(model, data)
        signals = batch.signals()
        np.testing.assert_allclose(signals["joint_effort"][1], data.qfrc_actuator[6:], atol=1e-9)
        touching = {geom for contact in data.contact for geom in contact.geom}
        expected = [float(foot in touching) for foot in feet]
        np.testing.assert_array_equal(signals["contact"][1], expected)
        lifted += 4 - int(sum(expected))
    assert lifted > 0


def test_a_quadruped_on_its_side_has_fallen():
    robot = Quadruped()
    upright, leaning, fallen = (
        np.array([[np.cos(a / 2), np.sin(a / 2), 0.0, 0.0]]) for a in (0.0, 0.9, 1.2)
    )
    states = [{"projected_gravity": projected_gravity(q)} for q in (upright, leaning, fallen)]
    assert [bool(robot.fallen(state)[0]) for state in states] == [False, False, True]


# Gymnasium's models.


@pytest.fixture(params=[Ant, Humanoid], ids=["ant", "humanoid"])
def legged(request):
    return request.param()


def gymnasium_s(robot):
    folder = os.path.join(os.path.dirname(gymnasium.__file__), "envs", "mujoco", "assets")
    return mujoco.MjModel.from_xml_path(os.path.join(folder, f"{robot.name}.xml"))


def test_a_torque_is_what_the_joint_feels(legged):
    model = legged.load_model()
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    limit = np.array([channel.high for channel in legged.action])
    torque = rng.uniform(-limit, limit)
    data.ctrl[:] = legged.control(torque)
    mujoco.mj_forward(model, data)
    for channel, value in zip(legged.action, torque, strict=True):
        assert channel.low == -channel.high
        assert data.joint(channel.name).qfrc_actuator[0] == pytest.approx(value)


def test_the_cheaper_integrator_moves_as_gymnasium_s_own(legged):
    """Under the same torques from the same start, for half a second: torsos that go decimetres
    stay within centimetres of each other."""
    ours, theirs = legged.load_model(), gymnasium_s(legged)
    np.testing.assert_array_equal(ours.body_mass, theirs.body_mass)
    rng = np.random.default_rng(3)
    qpos, qvel = legged.start(rng, 1, 0.0)
    limit = np.array([channel.high for channel in legged.action])
    torques = [0.3 * rng.uniform(-limit, limit) for _ in range(round(0.5 / legged.period_s))]
    paths = []
    for model in (ours, theirs):
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:] = qpos[0], qvel[0]
        path = []
        for torque in torques:
            data.ctrl[:] = legged.control(torque)
            mujoco.mj_step(model, data, physics_steps(model, legged.period_s))
            path.append(data.qpos[:3].copy())
        paths.append(np.array(path))
    way = np.abs(paths[1] - paths[1][0]).max()
    assert way > 0.1
    np.testing.assert_allclose(paths[0], paths[1], atol=0.03)


def test_who_falls_ends_the_episode(legged):
    low, high = legged.upright_m
    for height, fallen in ((low - 0.01, True), (low + 0.01, False), (high + 0.01, True)):
        signals = {"height": np.array([[height]]), "position": np.zeros((1, 2))}
        assert legged.fallen(signals)[0] == fallen


def test_an_ant_that_falls_while_gathering_is_fined():
    task = resolve("AntGather-v0").make()
    batch = MujocoBatch(task, 3, seed=0)
    batch.qpos[1, 2] = 1.5  # thrown into the air
    step = batch.step(np.zeros((3, 8)))
    np.testing.assert_array_equal(step.terminated, [False, True, False])
    assert step.reward[1] == -10.0
    assert batch.elapsed.tolist() == [1, 0, 1]

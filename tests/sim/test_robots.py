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
from holdfast.sim.robots.point import Point
from holdfast.sim.robots.robot import physics_steps, roll_pitch_yaw

ROBOTS = {robot.name: robot for robot in (Point, Drive, Ant, Humanoid)}


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

"""MuJoCo Warp's physics against MuJoCo's, on Warp's own CPU device and on a GPU where there is
one; and in one sentence, where it cannot be had.

Warp compiles kernels for each kind of robot at its first use, and keeps them in ~/.cache/warp:
for all robots of this file that takes five minutes on two busy cores. So `make test` tries the
point and the drive robot; HOLDFAST_LONG=1 in the environment adds the ant and the humanoid.
"""

import dataclasses
import functools
import importlib.util
import os
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from holdfast.cli import main
from holdfast.errors import ConfigError, TrainingError
from holdfast.policy.models import checkpoint
from holdfast.policy.train import CHECKPOINT
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.check import check_batch
from holdfast.sim.registry import resolve
from holdfast.sim.robots.drive import Drive
from holdfast.sim.robots.legged import Ant
from tests.helpers.robots.parameters import parameters

OPTIONS = ["--task", "PointCircle-v0", "--batch", "65", "--critic-steps", "2"]
HAS_WARP = importlib.util.find_spec("mujoco_warp") is not None

# In the dev extra, but not everywhere. What must hold without it is tested without this mark.
needs_warp = pytest.mark.skipif(
    not HAS_WARP, reason="without MuJoCo Warp: pip install 'holdfast-robot[warp]'"
)
long = pytest.mark.skipif(
    "HOLDFAST_LONG" not in os.environ, reason="compiles for minutes: HOLDFAST_LONG=1"
)


@functools.cache
def why_no_gpu():
    """Return what keeps Warp's GPU from being used, or nothing."""
    from holdfast.sim.batch.warp_physics import device_of

    try:
        device_of("cuda")
    except ConfigError as error:
        return str(error)
    return ""


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """Each of Warp's devices."""
    if request.param == "cuda" and why_no_gpu():
        pytest.skip(why_no_gpu())
    return request.param


# Where it cannot be had.

WITHOUT_WARP = """
import sys
sys.modules["mujoco_warp"] = None
from holdfast.cli import main
sys.exit(main(sys.argv[1:]))
"""


def refused(program, *options):
    """Return what a process of `holdfast train` says that must not succeed."""
    ended = subprocess.run(
        [sys.executable, *program, "train", *options], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    return ended.stderr


def test_without_the_package_it_says_what_brings_it(tmp_path):
    out = tmp_path / "run"
    said = refused(["-c", WITHOUT_WARP], "--physics", "warp", "--out", str(out), *OPTIONS)
    assert said == (
        "holdfast: train needs the Python package 'mujoco_warp', which is not installed: "
        "pip install 'holdfast-robot[warp]', or '.[warp]' from a checkout\n"
    )
    assert not out.exists()


@needs_warp
def test_without_a_gpu_the_command_line_refuses_it(tmp_path):
    if not why_no_gpu():
        pytest.skip("here is a GPU")
    out = tmp_path / "run"
    said = refused(["-m", "holdfast"], "--physics", "warp", "--out", str(out), *OPTIONS)
    assert said == (
        "holdfast: physics warp needs a GPU with CUDA, and there is none here; "
        "physics mujoco runs on any machine\n"
    )
    assert not out.exists()


def test_it_is_not_spread_over_a_cluster(tmp_path, capsys):
    out = tmp_path / "run"
    options = ["--physics", "warp", "--ray", "local", "--out", str(out)]
    assert main(["train", *options, *OPTIONS]) == 1
    assert capsys.readouterr().err == (
        "holdfast: physics warp runs one batch on a GPU, and shards are for cores; "
        "leave --physics or --ray and --shards out\n"
    )
    assert not out.exists()


def test_another_s_environment_keeps_its_own_physics():
    with pytest.raises(ConfigError, match="Walk-v0: brings its own physics; leave --physics out"):
        resolve("gym:tests.helpers.gym.gym_envs:Walk-v0").batch(1, seed=0, physics="warp")


def test_a_run_goes_on_with_the_physics_that_it_began_with(tmp_path, capsys):
    """What a checkpoint says counts."""
    path, more = tmp_path / CHECKPOINT, ["--out", str(tmp_path), "--resume"]
    assert main(["train", "--out", str(tmp_path), *OPTIONS, "--iterations", "1"]) == 0
    capsys.readouterr()
    assert main(["train", *more, "--physics", "warp"]) == 1
    assert "was trained with physics = mujoco, not warp" in capsys.readouterr().err
    tensors, data = checkpoint.load(path)
    data["settings"]["physics"] = "warp"
    checkpoint.save(path, tensors, data)
    assert "'holdfast-robot[warp]'" in refused(["-c", WITHOUT_WARP], *more, "--iterations", "2")


# How near it is.


class RoundCones(Ant):
    """An ant whose friction is the same in all directions.

    In a pyramid it is not, and how the pyramids of a steep capsule on a plane are turned is
    Warp's own choice (docs/reference/TASKS.md).
    """

    def load_model(self):
        model = super().load_model()
        model.opt.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        return model


def with_robot(name, robot):
    task = resolve(name).make()
    task.robot = robot
    return task


def gentle(task, steps, copies, seed=0):
    """Return actions (steps, copies, actions), a third of their range: little falls."""
    contract = task.contract
    u = np.random.default_rng(seed).uniform(-1 / 3, 1 / 3, (steps, copies, contract.action_size))
    return contract.action_center + contract.action_half_range * u


def furthest(task, device, periods, copies=8, randomise=None):
    """Return the most that coordinates, and speeds, of two batches differ on their way: MuJoCo's
    and Warp's, from the same start states under the same actions."""
    ours = MujocoBatch(task, copies, 1, 1, randomise)
    warp = MujocoBatch(task, copies, 1, 1, randomise, device)
    for batch in (ours, warp):
        batch.elapsed[-1] = task.contract.episode_steps - periods // 2  # it is started over
    apart = []
    for action in gentle(task, periods, copies):
        for a, b in zip(
            *(vars(batch.step(action)).values() for batch in (ours, warp)), strict=True
        ):
            if a.dtype == bool:
                np.testing.assert_array_equal(a, b)
        apart.append([np.abs(ours.qpos - warp.qpos).max(), np.abs(ours.qvel - warp.qvel).max()])
    assert ours.elapsed[-1] < periods < ours.contract.episode_steps
    return np.max(apart, axis=0)


@needs_warp
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "periods", "position", "speed"),
    [
        ("PointCircle-v0", 40, 1e-5, 1e-5),
        ("DriveCircle-v0", 40, 1e-4, 1e-3),
        pytest.param("SkidCircle-v0", 6, 0.05, 0.5, marks=long),
        pytest.param("QuadrupedFollow-v0", 12, 1e-4, 1e-2, marks=long),
        pytest.param("OmniGoal-v0", 12, 1e-2, 0.1, marks=long),
        pytest.param("HumanoidCircle-v0", 12, 1e-4, 1e-2, marks=long),
        pytest.param("AntCircle-v0", 2, 0.05, 3.0, marks=long),
    ],
)
def test_it_goes_where_mujoco_goes(name, periods, position, speed, device):
    """Metres and radians, and their rates, over some control periods and a new start."""
    apart = furthest(resolve(name).make(), device, periods)
    assert (apart < (position, speed)).all(), apart
    assert apart.min() > 0.0  # it is another's arithmetic


@needs_warp
@long
@pytest.mark.slow
def test_a_skid_steered_base_turns_as_fast_as_mujoco_s(device):
    """The tyres lift at other moments, but the robot slips as much, whatever its heading."""
    task, rates = resolve("SkidCircle-v0").make(), []
    for where in ("", device):
        batch, seen = MujocoBatch(task, 4, 1, 1, None, where), []
        for _ in range(40):
            batch.step(np.tile([0.0, 1.0], (4, 1)))
            seen.append(batch.signals()["yaw_rate"][:, 0].copy())
        rates.append(np.mean(seen[20:], axis=0))
    np.testing.assert_allclose(rates[0], rates[1], atol=0.02)
    assert np.ptp(rates[1]) < 0.02


@needs_warp
@long
@pytest.mark.slow
def test_an_ant_goes_where_mujoco_s_goes_but_for_the_turn_of_its_pyramids(device):
    apart = furthest(with_robot("AntCircle-v0", RoundCones()), device, 8)
    assert (apart < (1e-4, 1e-2)).all(), apart


@needs_warp
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "copies"),
    [
        ("PointCircle-v0", 1),
        ("DriveCircle-v0", 8),
        pytest.param("HumanoidCircle-v0", 8, marks=long),
    ],
)
def test_randomised_copies_have_bodies_of_their_own_in_it_too(name, copies, device):
    task = resolve(name).make()
    friction = {} if name == "PointCircle-v0" else {"friction": [0.3, 1.5]}
    settings = parameters(mass=[0.5, 2.0], gain=[0.9, 1.1], delay=[0, 2], **friction)
    apart = furthest(task, device, 8, copies, settings)
    assert (apart < (1e-4, 1e-2)).all(), apart


@needs_warp
@pytest.mark.parametrize("name", ["AntCircle-v0", "HumanoidCircle-v0"])
def test_all_that_a_randomised_model_differs_in_is_handed_over(name):
    import mujoco_warp

    from holdfast.sim.batch.warp_physics import OWN

    settings = parameters(mass=0.5, friction=2.0)
    batch = MujocoBatch(resolve(name).make(), 1, 0, 1, settings)
    drawn, nominal = batch._robots.variants.model(0), batch.task.robot.load_model()
    differ = {
        field.name
        for field in dataclasses.fields(mujoco_warp.Model)
        if isinstance(value := getattr(nominal, field.name, None), np.ndarray)
        and not np.array_equal(value, getattr(drawn, field.name))
    }
    assert {"body_mass", "geom_friction", "dof_invweight0"} < differ <= set(OWN)


# It is a batch like any other.


@needs_warp
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["PointCircle-v0", "DriveCircle-v0", pytest.param("AntGather-v0", marks=long)]
)
def test_it_is_what_a_batch_should_be(name, device):
    """A seed gives one batch; copies end and start over by themselves; and states and rows of
    snapshots go on exactly, in any copies and beside any others."""
    task, mass = resolve(name).make(), parameters(mass=[0.8, 1.2])
    check_batch(lambda copies, seed: MujocoBatch(task, copies, seed, 1, mass, device))


@needs_warp
def test_a_copy_does_not_depend_on_its_neighbours(device):
    task = resolve("DriveCircle-v0").make()
    calm, wild = (MujocoBatch(task, 4, seed=2, warp=device) for _ in range(2))
    for action in gentle(task, 10, 4):
        calm.step(action)
        others = np.where(np.arange(4) == 1, 1.0, 3.0)[:, None]
        wild.step(others * action)
    np.testing.assert_array_equal(wild.qpos[1], calm.qpos[1])
    assert (wild.qpos[[0, 2, 3]] != calm.qpos[[0, 2, 3]]).any(axis=1).all()


@needs_warp
@pytest.mark.parametrize("speed", [1e12, np.nan])
def test_a_diverged_simulation_is_refused(device, speed):
    batch = MujocoBatch(resolve("DriveCircle-v0").make(), 2, seed=0, warp=device)
    batch.step(np.zeros((2, 2)))
    batch.qvel[1] = speed
    with pytest.raises(TrainingError, match=r"^holdfast/DriveCircle-v0: the simulation diverged$"):
        batch.step(np.zeros((2, 2)))


@needs_warp
@pytest.mark.parametrize(("room", "size"), [("CONTACTS", 2), ("ROWS", 8)])
def test_contacts_that_find_no_room_are_an_error(device, monkeypatch, room, size):
    """A drive robot at rest has 3, and 9 rows."""
    monkeypatch.setattr(f"holdfast.sim.batch.warp_physics.{room}", size)
    batch = MujocoBatch(resolve("DriveCircle-v0").make(), 2, seed=0, warp=device)
    with pytest.raises(TrainingError, match="contacts are more than MuJoCo Warp has room for"):
        batch.step(np.zeros((2, 2)))


@needs_warp
def test_a_robot_that_it_cannot_simulate_is_refused_with_its_reason(device):
    class Unsupported(Drive):
        def load_model(self):
            model = super().load_model()
            model.opt.solver = mujoco.mjtSolver.mjSOL_PGS
            return model

    with pytest.raises(
        ConfigError,
        match=r"^holdfast/DriveCircle-v0: .* robot 'drive' \(mjSOL_PGS is unsupported.*MuJoCo can$",
    ):
        MujocoBatch(with_robot("DriveCircle-v0", Unsupported()), 1, seed=0, warp=device)


@needs_warp
@pytest.mark.slow
def test_a_run_on_a_gpu_goes_on_bit_for_bit(tmp_path):
    if why_no_gpu():
        pytest.skip(why_no_gpu())
    halves, whole = tmp_path / "halves", tmp_path / "whole"
    warp = ["--physics", "warp", *OPTIONS]
    assert main(["train", "--out", str(halves), *warp, "--iterations", "1"]) == 0
    assert main(["train", "--out", str(halves), "--resume", "--iterations", "2"]) == 0
    assert main(["train", "--out", str(whole), *warp, "--iterations", "2"]) == 0
    tensors, others = (checkpoint.load(path / CHECKPOINT)[0] for path in (halves, whole))
    assert all((tensors[name] == others[name]).all() for name in others)

"""How copies are held, by one shared model or by models of their own, changes nothing."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

from holdfast.errors import TrainingError
from holdfast.sim.batch import physics
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.registry import resolve
from holdfast.sim.robots.robot import physics_steps
from tests.helpers.robots.carts import CRATE, OTHER, SKID, Cart, Laps, mjcf
from tests.helpers.robots.meshes import write_cart
from tests.helpers.robots.parameters import parameters

BODY = parameters(mass=[0.7, 1.4], friction=[0.5, 1.2])
SLEEP = '<option><flag sleep="enable"/></option>'
IPC = '<option solver="CG" integrator="discrete"><flag ipc="enable"/></option>'
PAIR = 'body1="crate" body2="other"'
DOOR = (
    '<body name="door" mocap="true" pos="0.4 0.1 0.1"><geom type="box" size="0.05 0.2 0.1"/></body>'
)
HAS_BATCH = physics.Batch is not None
"""Whether MuJoCo can share a model between copies: since 3.17."""


def drawn(task, steps, copies, seed=0):
    """Return actions (steps, copies, actions), a third of their range: little falls."""
    contract = task.contract
    u = np.random.default_rng(seed).uniform(-1 / 3, 1 / 3, (steps, copies, contract.action_size))
    return contract.action_center + contract.action_half_range * u


def three_ways(task, copies, threads, randomise, monkeypatch):
    """Return equal batches: of one model that the copies share, where MuJoCo can; of a model of its
    own for each copy; and of a few models that become all copies in turn."""
    makes = lambda: MujocoBatch(task, copies, 3, threads, randomise)  # noqa: E731
    shared = makes()
    monkeypatch.setattr(physics, "Batch", None)
    plenty = makes()
    monkeypatch.setattr(physics, "ROOM", 0)
    return shared, plenty, makes()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["DriveCircle-v0", "QuadrupedFollow-v0"])
def test_how_copies_are_held_changes_nothing(name, threads, monkeypatch):
    task = resolve(name).make()
    task.contract = dataclasses.replace(task.contract, episode_steps=9)  # they start over
    actions = drawn(task, 25, 11)
    differ = parameters(mass=[0.7, 1.4], friction=[0.5, 1.2], slope={"x": [-0.05, 0.05]})
    batches = shared, plenty, few = three_ways(task, 11, threads, differ, monkeypatch)
    assert isinstance(shared._physics._copies, physics.SharedModel) == HAS_BATCH
    assert len(plenty._physics._copies._models) == 11
    assert len(few._physics._copies._models) == min(4 * threads, 11)
    for action in actions:
        first, *others = (batch.step(action) for batch in batches)
        for part in vars(first):
            for other in others:
                np.testing.assert_array_equal(getattr(first, part), getattr(other, part))
    kept = shared.snapshot()
    for batch in batches:
        batch.load(kept, np.arange(10, -1, -1))  # every copy becomes another
    np.testing.assert_array_equal(*(batch.step(actions[0]).observation for batch in batches[:2]))


def test_a_copy_that_diverges_is_the_same_however_copies_are_held(monkeypatch):
    task = resolve("DriveCircle-v0").make()
    told = []
    for batch in three_ways(task, 4, 2, BODY, monkeypatch):
        batch.qvel[2] = 1e9
        control = task.robot.control(np.full((4, 2), 0.3))
        for _ in range(2):  # the copy goes on from MuJoCo's own start
            told.append((*batch._physics.attempt(batch._state, control), batch._state.copy()))
    for one, *others in zip(told[:2], told[2:4], told[4:], strict=True):
        for other in others:
            for mine, theirs in zip(one, other, strict=True):
                np.testing.assert_array_equal(mine, theirs)
    assert told[0][1].tolist() == [False, False, True, False]


MODELS = {
    "crates": (mjcf(after=CRATE + OTHER), {}),
    "weld": (mjcf(after=CRATE + OTHER, more=f"<equality><weld {PAIR}/></equality>"), {}),
    "connect": (
        mjcf(after=CRATE + OTHER, more=f'<equality><connect {PAIR} anchor="1 0 0"/></equality>'),
        {"track": {"left": [0.9, 1.1]}},
    ),
    "tendon": (
        mjcf(
            before='<site name="wall" pos="1 0 0.5"/>',
            caster=SKID + '<site name="hook" pos="0 0 0.1"/>',
            more='<tendon><spatial stiffness="5" range="0 2" frictionloss="0.1" armature="0.1">'
            '<site site="wall"/><site site="hook"/></spatial></tendon>',
        ),
        {},
    ),
    "flex": (
        mjcf(
            after='<flexcomp name="cloth" type="grid" count="3 3 1" spacing="0.1 0.1 0.1" dim="2" '
            'pos="0.5 0 0.2" radius="0.01" mass="0.1"><edge equality="true"/></flexcomp>'
        ),
        {},
    ),
    "mocap": (mjcf(before=DOOR), {"track": {"door": [0.2, 5.0]}}),
    "sleep": (mjcf(after=CRATE).replace("<worldbody>", SLEEP + "<worldbody>", 1), {}),
    "keyframe": (
        mjcf(after=CRATE, more=f'<keyframe><key qpos="{"1 " * 16}"/></keyframe>'),
        {"slope": {"x": [-0.05, 0.05]}},
    ),
    "ipc": (mjcf(after=CRATE).replace("<worldbody>", IPC + "<worldbody>", 1), {}),
}
"""Models with what few models have, and what their copies draw besides masses."""


@pytest.mark.parametrize("name", MODELS)
def test_copies_of_any_model_are_those_that_plain_mujoco_simulates(tmp_path, name, monkeypatch):
    text, ranges = MODELS[name]
    task = Laps(Cart(tmp_path / "cart.xml", text))
    differ = parameters(mass=[0.5, 2.0], friction_loss=[0.0, 0.01], **ranges)
    batches = shared, *_ = three_ways(task, 5, 2, differ, monkeypatch)
    assert isinstance(shared._physics._copies, physics.SharedModel) == (HAS_BATCH and name != "ipc")
    for action in drawn(task, 20, 5):
        before = shared._state.copy()
        for batch in batches:
            batch.step(action)
        first, *others = (batch._state for batch in batches)
        for other in others:
            np.testing.assert_array_equal(first, other)
        control = task.robot.control(shared.applied)
        for i in range(5):
            np.testing.assert_array_equal(first[i], stepped(shared, i, before[i], control[i]))


def stepped(batch, i, state, control):
    """Return a copy's state after a control period of MuJoCo's own steps."""
    model = batch._robots.variants.model(i)
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, state, physics.STATE)
    data.ctrl[:] = control
    for _ in range(physics_steps(model, batch.contract.period_s)):
        mujoco.mj_step(model, data)
    found = np.empty_like(state)
    mujoco.mj_getState(model, data, found, physics.STATE)
    return found


@pytest.mark.parametrize("ranges", [{}, {"mass": [0.9, 1.1]}])
def test_a_model_with_too_little_memory_is_one_sentence(tmp_path, ranges):
    text = mjcf(after=CRATE).replace("<worldbody>", '<size memory="4K"/><worldbody>', 1)
    task = Laps(Cart(tmp_path / "cart.xml", text))
    with pytest.raises(
        TrainingError, match=r"Laps-v0: MuJoCo stopped the simulation \(mj_stackAll"
    ):
        MujocoBatch(task, 3, 0, 1, parameters(**ranges))


@pytest.mark.skipif(not HAS_BATCH, reason="MuJoCo before 3.17 ends the process at an error")
def test_an_error_of_mujoco_in_a_step_is_one_sentence(tmp_path):
    """Away from the spheres the memory is enough; among them it is not."""
    spheres = "".join(
        f'<geom type="sphere" size="0.3" pos="{2 + 0.01 * i} 0 0.1"/>' for i in range(4)
    )
    text = mjcf(before=spheres).replace("<worldbody>", '<size memory="26K"/><worldbody>', 1)
    batch = MujocoBatch(Laps(Cart(tmp_path / "cart.xml", text)), 3, 0, 1, parameters(mass=[1, 2]))
    batch.step(np.zeros((3, 2)))
    batch.qpos[:, 0] = 2.0
    with pytest.raises(TrainingError, match="Laps-v0: MuJoCo stopped the simulation") as told:
        batch.step(np.zeros((3, 2)))
    assert "\n" not in str(told.value)


WEIGH = """
import resource, sys
from pathlib import Path
import mujoco, numpy
from tests.helpers.robots.carts import Cart, Laps
from holdfast.sim.batch import physics
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from tests.helpers.robots.parameters import parameters
robot, copies = Cart(Path("cart.xml"), None), int(sys.argv[1])
if sys.argv[2] == "own":
    physics.Batch = None
drawn = parameters(mass=[0.9, 1.1], size={"caster": [0.9, 1.1]})
batch = MujocoBatch(Laps(robot), copies, 0, 2, drawn)
batch.step(numpy.zeros((copies, 2)))
most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(mujoco.mj_sizeModel(robot.load_model()) / 1e6, most * 1024 / 1e6)
"""


def weighed(folder, copies, held):
    """Return the size of a model, and the largest memory of a process with copies of it, MB."""
    path = os.pathsep.join((str(Path(__file__).parents[1]), *sys.path))
    ended = subprocess.run(
        [sys.executable, "-c", WEIGH, str(copies), held], cwd=folder,
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    model_mb, most_mb = map(float, ended.stdout.split())
    return model_mb, most_mb


@pytest.mark.parametrize("held", ["shared", "own"])
def test_copies_of_a_robot_with_heavy_meshes_do_not_copy_the_meshes(tmp_path, held):
    write_cart(tmp_path, (204,))
    model_mb, few_mb = weighed(tmp_path, 4, held)
    _, many_mb = weighed(tmp_path, 204, held)
    assert model_mb > 18.0
    if held == "shared" and HAS_BATCH:
        assert many_mb - few_mb < 0.1 * 200
    else:
        assert many_mb - few_mb < 256 + 50

"""Tasks in files of one's own: found, run, and told in a sentence what is wrong with them."""

import dataclasses
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from holdfast.errors import ConfigError
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.registry import resolve

EXAMPLES = Path(__file__).parents[2] / "examples"
CAR = f"{EXAMPLES / 'car.py'}:CarLaps"

GOOD = """
import dataclasses
from helper import LIMIT_M
from holdfast.sim.tasks.circle import Circle
from holdfast.sim.robots.point import Point

@dataclasses.dataclass
class Sizes:
    radius_m: float = 15.0

class Mine(Circle):
    def __init__(self):
        super().__init__("me/Mine-v0", Point(), radius_m=Sizes().radius_m, x_limit_m=LIMIT_M,
                         episode_steps=20, limit=5.0, gamma=0.99, lam=1.0)

def other():
    return Mine()

def nothing():
    return 3

def fails():
    return 1 / 0

class Ours(Circle):
    def __init__(self):
        super().__init__("holdfast/PointCircle-v0", Point(), radius_m=1.0, x_limit_m=1.0,
                         episode_steps=20, limit=5.0, gamma=0.99, lam=1.0)

class Odd(Circle):
    def __init__(self):
        super().__init__("me/Odd-v0", Point(), radius_m=1.0, x_limit_m=1.0,
                         episode_steps=20, limit=-5.0, gamma=0.99, lam=1.0)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "helper.py").write_text("LIMIT_M = 2.0\n")
    (tmp_path / "mine.py").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["Mine", "other"])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_class_or_a_function_of_a_file_makes_a_task(folder, name, absolute):
    where = f"{folder / 'mine.py' if absolute else 'mine.py'}:{name}"
    assert resolve(where).make().contract.task == "me/Mine-v0"
    assert resolve(where).make().contract.costs[0].expression == "abs(position.x) > 2.0"
    resolve(where).check()
    batch = resolve(where).batch(3, seed=0)
    assert batch.step(np.zeros((3, 2))).reward.shape == (3,)
    batch.close()


def test_a_spec_runs_its_file_once_and_at_its_first_use(folder):
    file = folder / "mine.py"
    file.write_text(GOOD + "open('runs', 'a').write('x')\n")
    spec = resolve("mine.py:Mine")
    assert not (folder / "runs").exists()
    spec.check()
    spec.batch(2, seed=0).close()
    assert spec.contract.task == "me/Mine-v0"
    assert (folder / "runs").read_text() == "x"


WALK = "gym:tests.helpers.gym.gym_envs:Walk-v0"


@pytest.mark.parametrize("task_id", ["PointCircle-v0", "mine.py:Mine", WALK])
def test_a_spec_is_pickled_by_its_id(folder, task_id):
    spec = resolve(task_id)
    assert spec.contract
    again = pickle.loads(pickle.dumps(spec))
    assert (type(again), again) == (type(spec), spec)
    assert again.contract == spec.contract
    assert again != resolve("AntCircle-v0")


def test_a_file_that_changed_is_read_again(folder):
    assert resolve("mine.py:Mine").make().radius_m == 15.0
    (folder / "mine.py").write_text(GOOD.replace("15.0", "7.0"))
    assert resolve("mine.py:Mine").make().radius_m == 7.0


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("none.py:Mine", "there is no file none.py, looked for from {folder}"),
        ("room.py:Mine", "room.py should be a Python file, not a folder"),
        ("mine.py:Yours", "mine.py: has no 'Yours'; its tasks are Mine, Ours, Odd"),
        ("helper.py:Mine", "helper.py: has no 'Mine'; its tasks are none"),
        (
            "mine.py:nothing",
            "mine.py:nothing: should make a holdfast.sim.tasks.task.Task, it made 3",
        ),
        ("mine.py:fails", "mine.py, line {fails}: ZeroDivisionError: division by zero"),
        ("mine.py:Ours", "mine.py:Ours: its contract's task should not begin with 'holdfast/'"),
        ("mine.py:Odd", "mine.py: cost 'outside_corridor': limit should be at least 0"),
        (
            "mine.py:Sizes",
            "mine.py:Sizes: should make a holdfast.sim.tasks.task.Task, it made Sizes(",
        ),
        ("mine.py:Circle", "mine.py: TypeError: Circle.__init__() missing"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(folder, where, sentence):
    fails = 1 + GOOD.splitlines().index("    return 1 / 0")
    (folder / "room.py").mkdir()
    with pytest.raises(ConfigError) as caught:
        resolve(where).make()
    assert str(caught.value).startswith(sentence.format(folder=folder, fails=fails))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import numpy\nx = 1 +\n", "{file}, line 2: invalid syntax"),
        ("import not_there\n", "mine.py, line 1: ModuleNotFoundError: No module named 'not_there'"),
        ("def f():\n    raise ValueError('a\\nb')\nf()\n", "mine.py, line 2: ValueError: a b"),
        ("\0", "mine.py, line 1: source code string cannot contain null bytes"),
    ],
)
def test_a_file_that_fails_is_told_with_its_line(folder, text, sentence):
    (folder / "mine.py").write_text(text)
    wanted = re.escape(sentence.format(file=folder / "mine.py"))
    with pytest.raises(ConfigError, match=f"^{wanted}"):
        resolve("mine.py:Mine").make()


def test_a_name_that_is_no_task_says_what_may_be_given():
    with pytest.raises(ConfigError, match=r"a file's own as FILE\.py:NAME, or .* received 'mine'"):
        resolve("mine").make()


# The example.


def test_the_example_is_a_task():
    resolve(CAR).check()


def test_the_example_s_car_goes_where_it_is_steered():
    """Two seconds straight ahead, then a circle of the wheelbase over the angle's tangent."""
    task = resolve(CAR).make()
    batch = MujocoBatch(task, 1, seed=0)

    def drive(speed, angle, steps):
        for _ in range(steps):
            batch.step(np.array([[speed, angle]]))
        return task.signals(batch.qpos.copy(), batch.qvel.copy(), {})

    assert drive(1.0, 0.0, 40)["forward_speed"][0, 0] == pytest.approx(1.0, rel=0.05)
    turning = drive(0.5, 0.3, 60)
    radius_m = turning["forward_speed"][0, 0] / turning["yaw_rate"][0, 0]
    assert radius_m == pytest.approx(0.30 / np.tan(0.3), rel=0.1)
    assert np.abs(turning["tilt"]).max() < 0.05


def test_the_example_s_starts_are_on_its_wheels_at_any_heading():
    task = resolve(CAR).make()
    qpos, qvel, _ = task.reset(np.random.default_rng(0), 500)
    signals = task.signals(qpos, qvel, {})
    assert np.abs(signals["position"]).max() < 0.3
    np.testing.assert_allclose(signals["height"], 0.06)
    np.testing.assert_allclose(signals["tilt"], 0.0, atol=1e-12)
    heading = signals["heading"][:, 0]
    assert np.abs(np.histogram(heading, 4, (-np.pi, np.pi))[0] - 125).max() < 40


def test_a_base_that_is_not_free_is_refused(tmp_path):
    robot = resolve(CAR).make().robot
    robot.model_file = tmp_path / "slider.xml"
    robot.model_file.write_text(
        '<mujoco><worldbody><body><joint type="slide"/><geom size="1"/></body></worldbody></mujoco>'
    )
    with pytest.raises(ConfigError, match=r"slider\.xml: its base should have a free joint"):
        robot.start(np.random.default_rng(0), 1, 0.0)


def test_a_start_keeps_how_the_model_stands(tmp_path):
    """A keyframe that leans and bends is turned about the vertical, and leans as before."""
    robot = resolve(CAR).make().robot
    text = (EXAMPLES / "car.xml").read_text()
    pose = "0.5 0 0.3 0.9238795 0 0.3826834 0 " + " ".join(["0.1"] * 6)
    key = f'<keyframe><key qpos="{pose}"/></keyframe></mujoco>'
    robot.model_file = tmp_path / "car.xml"
    robot.model_file.write_text(text.replace("</mujoco>", key))
    qpos, qvel = robot.start(np.random.default_rng(1), 50, 0.0)
    signals = robot.signals(qpos, qvel)
    np.testing.assert_allclose(signals["position"], [[0.5, 0.0]] * 50)
    np.testing.assert_allclose(signals["tilt"], [[0.0, np.pi / 4]] * 50, atol=1e-6)
    np.testing.assert_allclose(signals["joint_position"], 0.1)
    assert np.ptp(signals["heading"]) > 5.0


def test_a_user_s_task_keeps_its_contract_when_it_is_billed_under_another():
    task = resolve(CAR).make()
    tighter = dataclasses.replace(task.contract, episode_steps=7)
    batch = resolve(CAR).batch(2, seed=0, contract=tighter)
    for _ in range(7):
        step = batch.step(np.zeros((2, 2)))
    assert step.truncated.all()

"""A twin of a person's own task: a mistake in the task ends it in a sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

from holdfast.errors import ConfigError, TrainingError
from holdfast.robot.serial import link
from holdfast.robot.serial.device import HELLO, STATE, Device
from holdfast.sim.registry import resolve
from holdfast.sim.twin.board import TwinBoard
from holdfast.sim.twin.truth import Truth
from tests.helpers.robots.parameters import parameters

CROWDED = f"""
<mujoco>
  <size memory="100K"/>
  <worldbody>
    <geom type="plane" size="5 5 0.1"/>
    {
    "".join(
        f'<body pos="{i * 0.15} 0 0.05"><freejoint/><geom type="box" size="0.1 0.1 0.1"/></body>'
        for i in range(10)
    )
}
  </worldbody>
</mujoco>
"""
"""More contacts than the model's memory holds."""

TASK = """
from holdfast.sim.robots.drive import Drive
from holdfast.sim.tasks.circle import Circle
import numpy as np
MODEL = {model!r}


class Robot(Drive):
    said = 0

    def signals(self, qpos, qvel):
        found = super().signals(qpos, qvel)
        self.said += 1
        {signals}
        return found

    def control(self, action):
        {control}
        return super().control(action)


class Own(Circle):
    def __init__(self):
        super().__init__("own/Circle-v0", Robot(), radius_m=1.5, x_limit_m=0.9, episode_steps=50,
                         limit=10.0, gamma=0.99, lam=0.95)

    def advance(self, body, world):
        {advance}
"""


def written(tmp_path, signals="pass", control="pass", advance="pass"):
    file = tmp_path / "own.py"
    file.write_text(TASK.format(model="", signals=signals, control=control, advance=advance))
    return f"{file}:Own"


def board_of(name, **data):
    task = resolve(name).make()
    return TwinBoard(task, parameters(**data), 0, True, Truth(task, 0, None))


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"advance": "1 / 0"}, "own.py, line 28: ZeroDivisionError: division by zero"),
        ({"advance": "import sys; sys.exit(0)"}, "SystemExit"),
        (
            {"signals": "found['yaw_rate'] = np.zeros((len(qpos), min(2, self.said // 60 + 1)))"},
            "signal 'yaw_rate' should have 1 values, as at the start, received 2",
        ),
        (
            {"control": "return np.full(2, np.nan) if abs(action).max() > 0 else np.zeros(2)"},
            "control should return finite numbers",
        ),
    ],
    ids=["raises", "exits", "grows", "NaN"],
)
def test_a_task_that_fails_ends_the_twin_in_a_sentence(parts, sentence, tmp_path):
    """The process ends with status 1, and the host finds no port any more."""
    from holdfast.robot.serial.robot import SerialRobot

    name = written(tmp_path, **parts)
    twin = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "twin", "--task", name, "--realtime-factor", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    address = twin.stdout.readline().strip()
    with pytest.raises(Exception, match=r"lost|answer|port|closed|hung|gone|Input/output"):  # noqa: PT012
        robot = SerialRobot.connect(address)
        robot.arm()
        for _ in range(200):
            robot.send(np.array([0.5, 0.1]), 0.1)
            robot.wait(robot.now_s() + 0.05)
    _, err = twin.communicate(timeout=30)
    assert twin.returncode == 1
    assert sentence in err
    assert "Traceback" not in err


def test_a_simulation_that_diverges_is_told_and_not_begun_anew():
    board = board_of("DriveCircle-v0", friction=1e-6)
    board.actuate((1.0, 0.5))
    board.data.qvel[:] = 3e10
    with pytest.raises(TrainingError, match="DriveCircle-v0: the simulation diverged"):
        board.advance()


def test_a_batch_that_diverges_in_its_first_period_is_told(tmp_path, monkeypatch, capfd):
    """MuJoCo writes its own warning to no file of the working folder."""
    monkeypatch.chdir(tmp_path)
    task = resolve("DriveCircle-v0").make()
    reset = task.reset

    def thrown(rng, n):
        qpos, qvel, world = reset(rng, n)
        qvel[:, 0] = 3e10
        return qpos, qvel, world

    task.reset = thrown
    from holdfast.sim.batch.mujoco_batch import MujocoBatch

    batch = MujocoBatch(task, 3, 0)
    with pytest.raises(TrainingError, match="the simulation diverged"):
        batch.step(np.zeros((3, 2)))
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().err == ""


def test_a_warning_of_mujoco_is_printed_once(capfd):
    model = mujoco.MjModel.from_xml_string(CROWDED)
    for _ in range(2):
        mujoco.mj_step(model, mujoco.MjData(model))
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("MuJoCo: ")


def test_what_no_float_of_the_link_holds_is_infinite_there():
    board = board_of("DriveCircle-v0", bias={"forward_speed": 1e6})
    names = [name for name, size in board.signals for _ in range(size)]
    assert board.measure()[names.index("forward_speed")] == pytest.approx(1e6)
    board._task.robot.measured = lambda signals: {**signals, "yaw_rate": np.array([[1e300]])}
    device = Device(board)
    device.feed(link.encode(HELLO, 1, 0))
    device.feed(link.encode(STATE, 2, 0))
    assert device.poll()
    assert board.measure()[names.index("yaw_rate")] == np.inf


def test_a_program_that_ends_itself_is_refused(tmp_path):
    file = tmp_path / "quits.py"
    file.write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(ConfigError, match=r"quits\.py: should not end the program"):
        resolve(f"{file}:Task").make()
    assert Path(file).is_file()

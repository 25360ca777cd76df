"""The README's lines of code run as they stand, with a robot."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from holdfast.bundle import reader
from holdfast.robot import config
from holdfast.robot.serial.robot import SerialRobot
from holdfast.safety_monitor.messages import Proposal, State
from holdfast.safety_monitor.monitor import Monitor
from tests.helpers.data.bundles import write_bundle
from tests.helpers.robots import runs

README = Path(__file__).resolve().parents[2] / "README.md"
PERIOD_S = 0.05


def test_the_lines_stop_a_robot_that_is_not_armed_and_drive_one_that_is(tmp_path, monkeypatch):
    (code,) = re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.M | re.S)
    setup, period = code.splitlines()[:2], code.splitlines()[2:]
    assert setup[1].startswith("monitor = ")
    assert period[0].startswith("sources = ")
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path / "policy.onnx", action=(0.5, 0.0))
    (tmp_path / "drive.yaml").write_text("extends: drive\n")
    with runs.twin(tmp_path, lockstep=True) as twin:
        robot = SerialRobot.connect(twin.address)
        names = {
            "reader": reader, "Monitor": Monitor, "config": config, "Path": Path,
            "Proposal": Proposal, "robot": robot, "sequence": 0,
        }  # fmt: skip
        try:
            robot.reset()
            exec("\n".join(setup + period), names)
            assert names["verdict"].state is State.STOPPED
            np.testing.assert_array_equal(names["verdict"].action, (0.0, 0.0))
            arm(names["monitor"], robot, names["look"])
            for sequence in range(2, 22):
                names["sequence"] = sequence
                exec("\n".join(period), names)
                assert names["verdict"].state is State.ACTIVE
                robot.wait(robot.now_s() + PERIOD_S)
            speed = robot.read().signals["forward_speed"][0]
            assert 0.3 < speed < 0.7
        finally:
            robot.close()


def arm(monitor, robot, look):
    """Arm as a run does: after a proposal of zero."""
    zero = Proposal(look.now_s, 1, np.zeros(2), monitor.contract.hash)
    monitor.step(look, zero, np.zeros(1))
    assert monitor.reset(look) == ()
    assert monitor.arm(look) == ()
    robot.arm()

"""The session in lockstep, over the real link and device: first causes, codes and numbers."""

from __future__ import annotations

import os
import pty
import tty
from contextlib import contextmanager

import pytest

from holdfast.contract import Cost
from holdfast.errors import LinkError, RefusedError, RunError
from holdfast.log.format import NO_STEP
from holdfast.log.reader import read
from holdfast.log.writer import Recorder
from holdfast.robot.run.assembly import assemble
from holdfast.robot.run.by_count import EpisodesByCount
from holdfast.robot.run.loop import Loop
from holdfast.robot.run.policy_process import PolicyProcess
from holdfast.robot.run.replay import replay
from holdfast.robot.run.session import Session, episode_text
from holdfast.robot.serial import device
from holdfast.robot.serial.robot import SerialRobot
from holdfast.safety_monitor.messages import State
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.registry import resolve
from holdfast.sim.twin.board import TwinBoard
from holdfast.sim.twin.truth import Truth
from tests.helpers.data.bundles import drive_contract, write_bundle

BUDGET = 5.0
OFF_LINE = Cost("off_line", "abs(position.x) > 1e-6", 5.0, BUDGET, 1.0, 0.95)
"""Nearly every step costs 1."""


class Line:
    """A twin at the end of a pty, whose device answers while it is being told."""

    def __init__(self, seed):
        task = resolve("DriveCircle-v0").make()
        self.board = TwinBoard(task, Parameters(), seed, True, Truth(task, seed, None))
        self.device = device.Device(self.board)
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        self.whole = True
        line = self

        class Told(SerialRobot):
            def _put(self, data):
                if not line.whole:
                    super()._put(data)
                    return
                line.device.feed(data)
                if line.whole:
                    os.write(line.master, line.device.poll())

        self.robot = Told.connect(f"serial:{os.ttyname(self.slave)}")

    def cut(self):
        """Pull the plug."""
        self.whole = False
        os.close(self.master)

    def press(self):
        """Latch an emergency stop, as a button at the device does."""
        self.device.feed(device.encode(device.ESTOP, 0, 0))

    def close(self):
        self.robot.close()
        os.close(self.slave)
        if self.whole:
            os.close(self.master)


class CutAtStop(Recorder):
    """A recorder with a line: as soon as a stop while armed is logged, the line is cut."""

    line: Line | None = None

    def step(self, tick):
        super().step(tick)
        if self.line is not None and tick.step != NO_STEP and tick.verdict.state is State.STOPPED:
            self.line.cut()
            self.line = None


@contextmanager
def run(tmp_path, contract, **policy):
    """Yield the line, the recorder, the session's results, and the episodes to be run."""
    path = write_bundle(tmp_path / "policy.onnx", contract, **{"action": (0.4, 1.0), **policy})
    assembly = assemble(path, None, (), None)
    line, results = Line(seed=1), []
    folder = tmp_path / "run"
    recorder = CutAtStop(folder, assembly.info("run", line.robot, 0, exploring=True), 0.0)
    policy_process = PolicyProcess(assembly.bundle, explore=True, seed=0)
    policy_process.wait_ready()
    loop = Loop(
        line.robot, assembly.monitor, policy_process, assembly.bundle, recorder, assembly.config
    )
    session = Session(loop, assembly.config.ready_wait_s, results.append)
    try:
        yield line, recorder, results, EpisodesByCount(session, prompt=False)
    finally:
        line.close()
        policy_process.close()
        recorder.close()
    log = read(folder)
    assert not replay(log).differs(log).any()
    assert [episode.result for episode in log.episodes] == results, "reported as logged"


@pytest.mark.parametrize(
    ("changes", "policy", "code"),
    [
        ({"costs": (OFF_LINE,)}, {}, "episode_cap_spent"),
        ({"episode_steps": 200}, {"nan_at": 0.9}, "proposal_not_finite"),
    ],
    ids=["no fault", "a fault"],
)
def test_a_lost_link_does_not_hide_what_stopped_the_robot(tmp_path, changes, policy, code):
    """The line is cut between the monitor's stop and the disarm."""
    with run(tmp_path, drive_contract(**changes), **policy) as (line, recorder, results, episodes):
        recorder.line = line
        with pytest.raises(RunError) as caught:
            episodes.run(2)
        assert caught.value.code == code
        first, _, second = str(caught.value).partition("; then the robot could not be disarmed: ")
        assert first.startswith("the monitor stopped the robot: ")
        assert "the port was lost" in second
        (result,) = results
        assert (result.ended, result.code, result.text) == ("stopped", code, str(caught.value))
    log = read(tmp_path / "run")
    assert log.episodes[0].reasons[-1][0] == code, "the period that stopped it is logged"
    assert log.events[-1].name == "stop"
    assert log.events[-1].code == code


def test_a_robot_that_refuses_to_be_armed_is_no_lost_link(tmp_path):
    with run(tmp_path, drive_contract()) as (line, _, results, episodes):
        arm = line.robot.arm

        def pressed():
            line.press()
            arm()

        line.robot.arm = pressed
        with pytest.raises(RefusedError, match="refused to arm"):
            episodes.run(2)
        assert line.robot.faults() == ("emergency stop is latched",)
        assert results == []
    events = read(tmp_path / "run").events
    assert [event.name for event in events if not event.code][-1] == "arm"
    assert events[-1].code == "robot_refused"


def test_a_lost_link_is_one(tmp_path):
    with run(tmp_path, drive_contract(episode_steps=20)) as (line, _, results, episodes):
        actuate = line.board.actuate
        told = []

        def count(values):
            told.append(values)
            actuate(values)
            if len(told) == 10:
                line.cut()

        line.board.actuate = count
        with pytest.raises(LinkError, match="the port was lost"):
            episodes.run(1)
        assert [result.code for result in results] == ["link_lost"]


def test_episodes_have_one_number(tmp_path):
    """In the log, in the report and in what is printed; a stop by the budget ends only one."""
    contract = drive_contract(costs=(OFF_LINE,))
    with run(tmp_path, contract) as (_, _, results, episodes):
        episodes.run(3)
    log = read(tmp_path / "run")
    numbers = list(dict.fromkeys(log.steps["episode"].tolist()))
    assert numbers == [result.episode for result in results] == [0, 1, 2]
    for result in results:
        text = episode_text(result, contract, {"off_line": BUDGET})
        paid = f"{result.steps} steps, return {result.reward_return:g}, off_line 5 (d 5,"
        assert text.startswith(f"episode {result.episode}: {paid}")
        assert result.code == "episode_cap_spent"

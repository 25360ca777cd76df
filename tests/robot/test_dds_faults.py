"""A robot of a ROS graph, without ROS: whoever dies or lies, it is stopped.

Real sockets, processes and signals. The robot is a twin in a process of its own, or the test's.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("cyclonedds", reason="without Cyclone DDS: pip install 'holdfast-robot[dds]'")

from holdfast.log.writer import CHUNK_S
from holdfast.robot.run.replay import replay
from holdfast.robot.topics.fields import set_stamp
from holdfast.robot.topics.graph import COMMAND, SENSOR
from holdfast.safety_monitor.messages import State
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.robots import runs
from tests.helpers.robots.topic_rig import ODOMETRY, Body, call
from tests.helpers.ros import graphs

pytestmark = pytest.mark.alone

ADDRESS = "dds:drive"
TWIST = "geometry_msgs/msg/TwistStamped"
SPEED = 0.4
STANDS = 0.02


@pytest.fixture(autouse=True)
def one_domain(monkeypatch):
    """What is started joins the tests' domain."""
    for name, value in graphs.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def policy(tmp_path):
    contract = drive_contract(episode_steps=72_000)
    return write_bundle(tmp_path / "policy.onnx", contract, action=(SPEED, 1.0))


class Twin:
    """A twin that is being served, and what an onlooker hears of it."""

    def __init__(self, graph):
        self.graph = graph
        self.process = subprocess.Popen(
            [sys.executable, "-m", "holdfast", "twin", "--dds"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout.readline() == ADDRESS + "\n"
        self.odometry = graphs.Heard(graph, "odom", ODOMETRY, SENSOR)
        graphs.until(lambda: self.odometry)

    def speed(self):
        twist = self.odometry[-1].twist.twist
        return max(abs(twist.linear.x), abs(twist.angular.z))

    def until_moves(self):
        graphs.until(lambda: self.speed() > SPEED / 2)

    def stands(self):
        """Soon, and still a moment later."""
        graphs.until(lambda: self.speed() < STANDS)
        time.sleep(0.3)
        return self.speed() < STANDS


@pytest.fixture
def twin():
    with graphs.graph("onlooker") as onlooker:
        made = Twin(onlooker)
        yield made
        made.process.kill()
        made.process.communicate()


def deployed(tmp_path, policy, *options):
    return runs.deployment(tmp_path / "run", ADDRESS, policy, "--no-prompt", *options)


def check_log(run, code, *states):
    """The log is whole, says so, and a fresh monitor agrees with every word of it."""
    log = run.log()
    assert not replay(log).differs(log).any()
    (episode,) = log.episodes
    assert episode.result.code.startswith(code)  # stale or lost: the machine may be busy
    seen = {State(int(state)) for state in episode.state}
    assert set(states) <= seen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_interrupted(tmp_path, twin, policy, number):
    with deployed(tmp_path, policy) as run:
        twin.until_moves()
        os.killpg(run.process.pid, number)
        status, out, err = run.end()
    assert (status, err) == (130, "")
    assert "interrupted" in out
    assert twin.stands()
    check_log(run, "interrupted", State.ACTIVE)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (signal.SIGKILL, "the policy process was killed (SIGKILL)"),
        (signal.SIGSTOP, "the policy process hangs"),
    ],
    ids=["killed", "hung"],
)
def test_the_policy(tmp_path, twin, policy, number, sentence):
    with deployed(tmp_path, policy) as run:
        twin.until_moves()
        os.kill(run.policy, number)
        status, _, err = run.end()
    assert status == 1
    assert sentence in err
    assert err.count("\n") == 1
    assert twin.stands()
    check_log(run, "proposal_", State.ACTIVE, State.FALLBACK, State.STOPPED)


def test_a_policy_that_says_nan(tmp_path, twin):
    path = write_bundle(tmp_path / "nan.onnx", drive_contract(), action=(SPEED, 1.0), nan_at=0.9)
    with deployed(tmp_path, path) as run:
        status, _, err = run.end()
    assert status == 1
    assert "the proposed action is [nan, nan]" in err
    assert twin.stands()
    check_log(run, "proposal_not_finite", State.ACTIVE, State.STOPPED)


def test_the_monitor_killed(tmp_path, twin, policy):
    """The robot's driver has a time limit of its own; the log lacks the last moment alone."""
    with deployed(tmp_path, policy) as run:
        twin.until_moves()
        run.wait_for_steps(4)
        pid = run.policy
        run.process.kill()
        killed_s = time.time()
        run.process.wait()
        assert twin.stands()
        runs.until(lambda: runs.gone(pid))
    log = run.log()
    (episode,) = log.episodes
    assert episode.result.ended == "torn"
    assert killed_s - (log.info.clock_offset_s + episode.now_s[-1]) < 2 * CHUNK_S


def test_the_monitor_asleep(tmp_path, twin, policy):
    """It does not go on where it was when it wakes."""
    with deployed(tmp_path, policy) as run:
        twin.until_moves()
        run.process.send_signal(signal.SIGSTOP)
        assert twin.stands()
        run.process.send_signal(signal.SIGCONT)
        status, _, err = run.end()
    assert status == 1
    assert "did not run for" in err
    assert twin.stands()


def test_the_emergency_stop(tmp_path, twin, policy):
    with deployed(tmp_path, policy) as run:
        twin.until_moves()
        assert call(twin.graph, "hardware/e_stop_trigger")[0]
        status, _, err = run.end()
    assert status == 1
    assert "hardware/e_stop says that the hardware is stopped" in err
    assert twin.stands()
    with deployed(tmp_path / "again", policy) as run:
        status, _, err = run.end()
    assert status == 1, "and it stays so for the next run"
    assert "hardware/e_stop" in err
    assert call(twin.graph, "hardware/e_stop_reset")[0]
    assert twin.stands()
    with deployed(tmp_path / "released", policy) as run:
        twin.until_moves()
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.end()[0] == 130


def test_a_robot_that_is_gone(tmp_path, twin, policy):
    with deployed(tmp_path, policy) as run:
        twin.until_moves()
        twin.process.kill()
        status, _, err = run.end()
    assert status == 1
    assert "odom" in err
    assert "s old" in err
    check_log(run, run.log().episodes[0].result.code, State.ACTIVE, State.STOPPED)


def test_a_robot_that_is_not_there(tmp_path, policy):
    with deployed(tmp_path, policy) as run:
        status, _, err = run.end()
    assert status == 1
    assert "nothing came on odom, imu, hardware/e_stop in 3 s (ROS_DOMAIN_ID" in err
    assert err.count("\n") == 1


class Commands(graphs.Heard):
    """What is commanded, as a driver hears it."""

    def __init__(self, graph):
        super().__init__(graph, "cmd_vel", TWIST, COMMAND)

    def are_zero(self):
        twist = self[-1].twist
        return not (twist.linear.x or twist.angular.z)


def test_another_who_commands(tmp_path, twin, policy):
    """A joystick on the command's topic, while the policy drives and after it: nobody moves it."""
    with deployed(tmp_path, policy) as run, graphs.graph("joystick") as joystick:
        twin.until_moves()
        publish = joystick.advertise("cmd_vel", TWIST, COMMAND)
        began_s = time.monotonic()
        message = joystick.message_class(TWIST)()
        message.twist.linear.x = SPEED
        ending = threading.Event()

        def steer():
            while not ending.wait(0.05):
                set_stamp(message.header.stamp, time.time())
                publish(message)

        thread = threading.Thread(target=steer)
        thread.start()
        try:
            graphs.until(lambda: twin.speed() < STANDS)
            assert time.monotonic() - began_s < 2.0
            status, _, err = run.end()
            assert twin.stands(), "also when only the joystick is left"
        finally:
            ending.set()
            thread.join()
    assert status == 1
    assert "cmd_vel is published by" in err or "hardware/e_stop says" in err
    graphs.until(lambda: not twin.graph.publishers("cmd_vel"))
    graphs.until(lambda: call(twin.graph, "hardware/e_stop_reset")[0])


def test_a_second_deployment(tmp_path, twin, policy):
    """It is refused in one sentence, and the first goes on."""
    with deployed(tmp_path, policy) as run:
        twin.until_moves()
        began_s = time.monotonic()
        with deployed(tmp_path / "second", policy) as second:
            status, _, err = second.end()
        assert status == 1
        assert "cmd_vel is published by /holdfast too" in err
        assert err.count("\n") == 1
        assert time.monotonic() - began_s < 20.0, "starting takes the most of it"
        twin.until_moves()
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.end()[0] == 130


SET_CLOCK = """
import signal, sys, time
real, shift = time.time, [0.0]
time.time = lambda: real() + shift[0]
signal.signal(signal.SIGUSR1, lambda *_: shift.insert(0, float(sys.argv[1])))
from holdfast.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("shift_s", [-3600.0, 3600.0], ids=["back", "ahead"])
def test_the_systems_clock_is_set(tmp_path, twin, policy, shift_s):
    """By NTP, say: zero within a second, and the run ends by itself."""
    commands = Commands(twin.graph)
    python = ["-c", SET_CLOCK, str(shift_s)]
    address, out = ADDRESS, tmp_path / "run"
    with runs.deployment(out, address, policy, "--no-prompt", python=python) as run:
        twin.until_moves()
        os.kill(run.process.pid, signal.SIGUSR1)
        began_s = time.monotonic()
        graphs.until(commands.are_zero)
        assert time.monotonic() - began_s < 1.0
        status, _, err = run.end()
    assert status == 1
    assert ("the clock went back by" if shift_s < 0.0 else "did not run for") in err
    assert twin.stands()


# A robot that is the test's, and lies.


@pytest.fixture
def liar():
    """Stands at the origin; `said` is what it says besides."""
    with graphs.graph("liar") as graph:
        body = Body(graph)
        body.press(False)
        said, ending = {}, threading.Event()

        def live():
            while not ending.wait(0.02):
                body.say(**said)

        thread = threading.Thread(target=live)
        thread.start()
        yield body, said
        ending.set()
        thread.join()


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        ({"x": math.nan}, "position is [nan, 0.0]"),
        ({"age_s": -5.0}, "ahead of the clock"),
        ({"age_s": 5.0}, "old while moving"),
        ({"frame": "map"}, "frame_id should be 'odom'"),
    ],
    ids=["nan", "future", "stale", "frame"],
)
def test_a_robot_that_lies(tmp_path, liar, lie, sentence):
    body, said = liar
    slow = write_bundle(
        tmp_path / "slow.onnx", drive_contract(episode_steps=72_000), action=(0.05, 0.05)
    )  # slower than what the monitor would miss in its odometry
    with deployed(tmp_path, slow) as run:
        graphs.until(lambda: body.commands and body.commands[-1][0] > 0.0)
        said.update(lie)
        status, _, err = run.end()
    assert status == 1
    assert sentence in err
    graphs.until(lambda: not body.commands[-1].any())

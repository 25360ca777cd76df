"""The host's end of the link: a real twin behind a real pty, and strangers behind one."""

from __future__ import annotations

import math
import os
import pty
import signal
import struct
import subprocess
import sys
import threading
import time
import tty
import zlib
from contextlib import closing, contextmanager

import numpy as np
import pytest
from cobs import cobs

from holdfast.errors import ConfigError, LinkError
from holdfast.robot.serial import device
from holdfast.robot.serial import robot as serial_robot
from holdfast.robot.serial.robot import SerialRobot
from tests.helpers.faults.faulty_line import served
from tests.helpers.robots import runs
from tests.helpers.robots.twins import DRIVER, GAP, connected, running_twin

ACTION = np.array([0.6, 0.4])
PERIOD_S = 0.05
REAL_TIME = pytest.param(1, marks=pytest.mark.alone)
IN_BOTH_TIMES = pytest.mark.parametrize("realtime_factor", [0, REAL_TIME])


def drive(robot, steps=100):
    for _ in range(steps):
        robot.send(ACTION, 0.1)
        robot.wait(robot.now_s() + PERIOD_S)
        robot.read()


def send_on_and_on(robot, commands=10_000):
    for _ in range(commands):
        robot.send(ACTION, 0.1)


@pytest.fixture(scope="module")
def lockstep_address():
    """One twin for all tests that leave it as they found it."""
    with running_twin("--realtime-factor", 0, "--seed", 3) as twin:
        yield twin.address


@pytest.fixture
def robot(lockstep_address):
    with connected(lockstep_address) as robot:
        robot.reset()
        yield robot


# Who answers.


@contextmanager
def stranger(answer):
    """A port on which `answer` is written once HELLO was heard; yields its address.

    An answer that is a function is given the HELLO's sequence.
    """
    master, slave = pty.openpty()
    tty.setraw(slave)

    def serve():
        frames, decoder = [], device.Decoder()
        while not frames:
            frames = decoder.feed(os.read(master, 1000))
        said = answer(frames[0][2]) if callable(answer) else answer
        if said:
            os.write(master, said)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"serial:{os.ttyname(slave)}"
    finally:
        thread.join(5)
        os.close(master)
        os.close(slave)


def foreign_frame(version):
    body = struct.pack("<BBIQ", version, 7, 1, 2)
    return cobs.encode(body + struct.pack("<I", zlib.crc32(body))) + b"\x00"


def hello(answers, signals=b"tilt:2", actions=b"", limits=()):
    head = struct.pack("<IBHIB", answers, 0, 200, 50_000, len(limits))
    head += struct.pack(f"<{2 * len(limits)}d", *(v for pair in limits for v in pair))
    texts = (b"r", b"h", signals, actions)
    texts = b"".join(struct.pack("<H", len(text)) + text for text in texts)
    return device.encode(device.HELLO, 1, 2, head + texts)


def state(heard, sequence, time_us):
    head = struct.pack(device.STATE_HEAD, heard, heard, 0, 0, device.NO_AGE, 0, 0)
    return device.encode(device.STATE, sequence, time_us, head + bytes(4 * 2))


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "no Holdfast device answered within 0.4 s .nothing received."),
        (b"login: \x00\x07", "no Holdfast device answered within 0.4 s .9 bytes received."),
        (foreign_frame(1), "the device speaks link version 1, this program 2"),
        (foreign_frame(9), "the device speaks link version 9, this program 2"),
        (
            device.encode(device.FAULT, 1, 2, struct.pack("<BI", device.WRONG_VERSION, 2**31)),
            "the device does not speak link version 2",
        ),
        (
            lambda n: hello(n) + state(n, 2, 5_000_000) + state(n, 3, 40_000),
            "the device restarted",
        ),
        (
            lambda n: hello(n + 1) + state(n + 1, 2, 5_000_000),
            "no Holdfast device answered within 0.4 s .* bytes received",
        ),
        (
            lambda n: hello(n, actions=b"turn", limits=[(-1.0, 1.0), (-2.0, 2.0)]),
            "the device should name each of its 2 action channels once, received 'turn'",
        ),
        (
            lambda n: hello(n, actions=b"turn,turn", limits=[(-1.0, 1.0), (-2.0, 2.0)]),
            "the device should name each of its 2 action channels once, received 'turn,turn'",
        ),
        (
            lambda n: hello(n, signals=b"tilt:2,heading:2"),
            "the device should measure 1 values of 'heading', received 2",
        ),
        (
            lambda n: hello(n, signals=b"tilt:2,payload_mass:1") + state(n, 2, 5_000_000),
            "STATE should hold the 3 values that HELLO named, received 2",
        ),
        (
            lambda n: hello(n, actions=b"turn", limits=[(-math.inf, math.inf)]),
            "the device's action limits should be finite, received low",
        ),
        (
            lambda n: hello(n, actions=b"turn\x1b[2J", limits=[(-1.0, 1.0)]),
            "the device's texts should be printable, received",
        ),
        (
            lambda n: hello(n, signals=b"tilt:2,junk:00"),
            "bytes received; HELLO should name each signal once as NAME:SIZE, received 'junk:00'",
        ),
        (
            lambda n: hello(n, signals=b"tilt:2,tilt:2"),
            "bytes received; HELLO should name each signal once as NAME:SIZE, received 'tilt:2'",
        ),
    ],
)
def test_what_is_not_our_device_is_told_in_a_sentence(monkeypatch, answer, sentence):
    monkeypatch.setattr(serial_robot, "CONNECT_LIMIT_S", 0.4)
    with stranger(answer) as address, pytest.raises(LinkError, match=sentence):
        SerialRobot.connect(address)


# What a robot is and does.


def test_identity_and_reading(robot):
    identity = robot.identity
    assert (identity.robot, identity.hardware_id) == ("drive", "twin-3")
    assert identity.actions == ("forward_speed", "yaw_rate")
    assert (identity.action_low, identity.action_high) == ((-1.0, -2.0), (1.0, 2.0))
    assert (identity.watchdog_s, identity.lockstep, identity.self_placing) == (0.2, True, True)
    reading = robot.read()
    assert tuple(reading.signals) == identity.signals
    sizes = {"position": 2, "heading": 1, "forward_speed": 1, "yaw_rate": 1, "tilt": 2}
    sizes |= {"angular_velocity": 3, "linear_acceleration": 3, "joint_position": 2}
    assert {name: values.shape for name, values in reading.signals.items()} == {
        name: (size,) for name, size in sizes.items()
    }
    assert all(values.dtype == np.float64 for values in reading.signals.values())
    assert reading.stamp_s == robot.now_s()


def test_in_lockstep_each_command_is_one_period(robot):
    robot.arm()
    start_s, sequence = robot.now_s(), robot.read().sequence
    for k in range(1, 30):
        robot.send(ACTION, 0.1)
        robot.wait(start_s + k * PERIOD_S)
        assert robot.now_s() == pytest.approx(start_s + k * PERIOD_S, abs=1e-9)
        reading = robot.read()
        assert reading.stamp_s == robot.now_s()
        assert reading.sequence > sequence
        sequence = reading.sequence
    assert reading.signals["forward_speed"][0] == pytest.approx(0.6, abs=0.02)
    assert reading.signals["yaw_rate"][0] == pytest.approx(0.4, abs=0.05)


def test_in_lockstep_time_passes_for_one_who_only_waits(robot):
    start_s = robot.now_s()
    robot.wait(start_s + 3 * PERIOD_S)
    assert robot.now_s() == pytest.approx(start_s + 3 * PERIOD_S, abs=1e-9)
    robot.wait(start_s)
    assert robot.now_s() == pytest.approx(start_s + 3 * PERIOD_S, abs=1e-9)


def test_without_commands_the_watchdog_acts_and_a_reset_mends_it(robot):
    robot.arm()
    robot.send(ACTION, 0.1)
    robot.wait(robot.now_s() + 0.3)
    (said,) = robot.faults()
    assert said.startswith(
        "watchdog: no valid command arrived in time; this computer sent none for"
    )
    with pytest.raises(LinkError, match="refused to arm: the device holds a latched fault"):
        robot.arm()
    robot.reset()
    assert robot.faults() == ()
    robot.arm()


def test_a_stop_is_latched_until_reset(robot):
    robot.arm()
    robot.send(ACTION, 0.1)
    robot.stop()
    assert robot.faults() == ("emergency stop is latched",)
    robot.disarm()
    assert robot.faults() == ("emergency stop is latched",)
    with pytest.raises(LinkError, match="emergency stop is latched"):
        robot.arm()
    robot.reset()
    robot.arm()


def test_disarming_needs_no_reset(robot):
    robot.arm()
    robot.send(ACTION, 0.1)
    robot.disarm()
    robot.wait(robot.now_s() + 1.0)
    assert abs(robot.read().signals["forward_speed"][0]) < 0.01
    assert robot.faults() == ()
    robot.arm()


@pytest.mark.parametrize(
    ("action", "fault"),
    [([np.nan, 0.0], "a command held NaN"), ([1.1, 0.0], "a command was outside")],
)
def test_the_device_stops_for_what_the_host_should_not_have_sent(robot, action, fault):
    robot.arm()
    robot.send(ACTION, 0.1)
    robot.send(np.array(action), 0.1)
    robot.wait(robot.now_s() + 1.0)
    assert robot.faults()[0].startswith(fault)
    assert abs(robot.read().signals["forward_speed"][0]) < 0.01


def test_an_action_of_another_size_is_the_callers_mistake(robot):
    with pytest.raises(ConfigError, match="takes 2 action values, received 3"):
        robot.send(np.zeros(3), 0.1)


def test_lockstep_is_deterministic():
    """Two twins with the same seed, gap and commands say the same, to the last bit."""
    streams = []
    for _ in range(2):
        with (
            running_twin("--realtime-factor", 0, "--seed", 5, "--gap", GAP) as twin,
            connected(twin.address) as robot,
        ):
            stream = []
            for episode in range(2):
                robot.reset()
                robot.arm()
                for k in range(60):
                    robot.send(np.array([0.8, np.sin(k + episode)]), 0.1)
                    reading = robot.read()
                    values = np.concatenate(list(reading.signals.values())).tobytes()
                    stream.append((reading.stamp_s, values))
                robot.disarm()
            streams.append(stream)
    assert streams[0] == streams[1]
    assert len(set(streams[0])) == 120


# Time.


@pytest.mark.alone
def test_in_real_time_stamps_are_of_this_hosts_clock():
    """And a host that looked away sees that what waited in the buffer is old."""
    with running_twin() as twin, connected(twin.address) as robot:
        assert not robot.identity.lockstep
        robot.wait(robot.now_s() + 0.3)
        fresh = robot.read()
        assert fresh.stamp_s <= time.monotonic()
        time.sleep(0.8)  # more than the port's buffer holds: its newest is from before the end
        robot._pump(0.0)
        old = robot._reading
        assert old.sequence > fresh.sequence
        assert time.monotonic() - old.stamp_s > 0.1
        # What it knows of the device's time is then too old for the device: it has to ask anew.
        time.sleep(0.8)
        robot.reset()
        robot.arm()
        robot.wait(robot.now_s() + 0.1)
        assert robot.read().stamp_s > old.stamp_s


WATCHDOG = "watchdog: no valid command arrived in time; this computer sent none for up to "


def slowly_watched(twin):
    """Connect to a robot whose watchdog waits for a second: longer than this computer is busy."""
    twin.board.watchdog_ms = 1000
    robot = SerialRobot.connect(twin.address)
    robot.reset()
    robot.arm()
    return robot


@pytest.mark.alone
def test_a_computer_that_was_late_is_told_so():
    """The sentence stays as it is while the robot stands."""
    with served(0) as twin, closing(slowly_watched(twin)) as robot:
        robot.send(ACTION, 0.2)
        time.sleep(1.5)
        runs.until(robot.faults)
        (said,) = robot.faults()
        assert said.startswith(f"{WATCHDOG}1.")
        assert "the device waits for 1 s: the computer was late, see what else it ran" in said
        robot.wait(robot.now_s() + 0.1)
        assert robot.faults() == (said,)
        robot.reset()
        assert robot.faults() == ()


@pytest.mark.alone
def test_a_cable_that_loses_commands_is_told_from_a_late_computer():
    with served(0) as twin, closing(slowly_watched(twin)) as robot:
        twin.line.flips = (1.0, 0.0)
        until_s = time.monotonic() + 10.0
        while not robot.faults() and time.monotonic() < until_s:
            robot.send(ACTION, 0.2)
            robot.wait(robot.now_s() + PERIOD_S)
        (said,) = robot.faults()
        assert said.startswith(f"{WATCHDOG}0.")
        assert said.endswith("the device waits for 1 s: look at the cable")
        twin.line.flips = (0.0, 0.0)


# Losing one end or the other.


@IN_BOTH_TIMES
def test_a_killed_host_ends_with_the_robot_stopped(tmp_path, realtime_factor):
    truth = tmp_path / "truth.jsonl"
    with running_twin("--realtime-factor", realtime_factor, "--truth", truth) as twin:
        host = subprocess.Popen(
            [sys.executable, "-c", DRIVER, twin.address], stdout=subprocess.PIPE, text=True
        )
        assert host.stdout.readline() == "it drives\n"
        before = len(truth.read_text().splitlines())
        host.kill()
        host.wait()
        host.stdout.close()
        # The books of an episode are closed when the device disarms itself.
        runs.until(lambda: len(truth.read_text().splitlines()) > before)
        time.sleep(0.7)  # braking takes simulated time, which passes by itself now
        with connected(twin.address) as robot:
            assert robot.faults() == ("watchdog: no valid command arrived in time",)
            assert abs(robot.read().signals["forward_speed"][0]) < 0.01


@IN_BOTH_TIMES
def test_a_pulled_port_is_a_link_error_and_stays_one(realtime_factor):
    with running_twin("--realtime-factor", realtime_factor) as twin:
        robot = SerialRobot.connect(twin.address)
        robot.reset()
        robot.arm()
        robot.send(ACTION, 0.1)
        twin.process.kill()
        twin.process.wait()
        with pytest.raises(LinkError, match="the port was lost"):
            drive(robot)
        for call in (robot.read, robot.faults, robot.arm, robot.stop):
            with pytest.raises(LinkError, match="the port was lost"):
                call()
        with pytest.raises(LinkError, match="the port was lost"):
            robot.send(ACTION, 0.1)
        robot.close()


@IN_BOTH_TIMES
def test_a_device_that_hangs_is_a_link_error(monkeypatch, realtime_factor):
    monkeypatch.setattr(serial_robot, "LOCKSTEP_LIMIT_S", 0.5)
    with running_twin("--realtime-factor", realtime_factor) as twin:
        robot = SerialRobot.connect(twin.address)
        robot.reset()
        robot.arm()
        os.kill(twin.process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(LinkError, match=r"not answer within 0.5 s|said nothing for 1 s"):
                drive(robot)
        finally:
            os.kill(twin.process.pid, signal.SIGCONT)
            robot.close()


@pytest.mark.alone
def test_a_device_that_hangs_does_not_hold_up_a_stop(monkeypatch):
    monkeypatch.setattr(serial_robot, "ANSWER_LIMIT_S", 0.1)
    with running_twin() as twin:
        robot = SerialRobot.connect(twin.address)
        os.kill(twin.process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(LinkError, match="the device did not answer to stop"):
                robot.stop()
        finally:
            os.kill(twin.process.pid, signal.SIGCONT)


@pytest.mark.alone
def test_a_device_that_takes_nothing_in_is_a_link_error():
    with running_twin() as twin:
        robot = SerialRobot.connect(twin.address)
        os.kill(twin.process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(LinkError, match="the device takes nothing in"):
                send_on_and_on(robot)
        finally:
            os.kill(twin.process.pid, signal.SIGCONT)


@pytest.mark.alone
def test_an_unanswered_message_is_tried_again_but_acted_on_once(monkeypatch):
    """The first RESET's answer comes too late; the twin must not be placed twice."""
    options = ("--realtime-factor", 0, "--seed", 8)
    with running_twin(*options) as twin, connected(twin.address) as robot:
        robot.reset()
        second = robot.read().signals["position"]
    with running_twin(*options) as twin, connected(twin.address) as robot:
        monkeypatch.setattr(serial_robot, "ANSWER_LIMIT_S", 0.2)
        os.kill(twin.process.pid, signal.SIGSTOP)
        threading.Timer(0.5, os.kill, (twin.process.pid, signal.SIGCONT)).start()
        robot.reset()
        robot.wait(robot.now_s() + PERIOD_S)
        np.testing.assert_allclose(robot.read().signals["position"], second, atol=1e-3)


def test_a_closed_robot_says_so(lockstep_address):
    robot = SerialRobot.connect(lockstep_address)
    robot.close()
    robot.close()
    with pytest.raises(LinkError, match="the link was closed"):
        robot.read()

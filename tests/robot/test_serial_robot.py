"""The host's end of the link: a real twin behind a real pty, and ports that are none."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
import tty
import zlib
from collections import deque
from contextlib import contextmanager

import numpy as np
import pytest
from cobs import cobs
from device_rig import Bench, Rig
from twins import GAP, running_twin, second_writer

from holdfast.errors import ConfigError, LinkError
from holdfast.robot import device, link, serial_robot
from holdfast.robot.serial_robot import ClockOffset, SerialRobot, parse_address

ACTION = np.array([0.6, 0.4])
PERIOD_S = 0.05


@contextmanager
def connected(address):
    robot = SerialRobot.connect(address)
    try:
        yield robot
    finally:
        robot.close()


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


# Addresses and ports.


def test_an_address_is_read():
    assert parse_address("serial:/dev/ttyACM0") == ("/dev/ttyACM0", 115200)
    assert parse_address("serial:/dev/ttyACM0?baud=921600") == ("/dev/ttyACM0", 921600)


@pytest.mark.parametrize(
    "address",
    ["/dev/ttyACM0", "serial:", "serial:?baud=9600", "serial:/dev/x?baud=fast", "serial:x?b=1", ""],
)
def test_another_address_is_refused(address):
    with pytest.raises(ConfigError, match=r"robot should be 'serial:PORT\[\?baud=N\]', received"):
        SerialRobot.connect(address)


def test_a_port_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LinkError, match=f"{tmp_path}/none: there is no such port"):
        SerialRobot.connect(f"serial:{tmp_path}/none")


def test_a_file_is_not_a_port(tmp_path):
    (tmp_path / "file").write_text("hello")
    with pytest.raises(LinkError, match="file: not a serial port that can be opened"):
        SerialRobot.connect(f"serial:{tmp_path}/file")


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


def hello(answers, signals=b"tilt", actions=b"", limits=()):
    head = struct.pack("<IBHIB", answers, 0, 200, 50_000, len(limits))
    head += struct.pack(f"<{2 * len(limits)}d", *(v for pair in limits for v in pair))
    texts = b"".join(bytes([len(text)]) + text for text in (b"r", b"h", signals, actions))
    return device.encode(device.HELLO, 1, 2, head + texts)


def state(heard, sequence, time_us):
    head = struct.pack(device.STATE_HEAD, heard, heard, 0, 0, device.NO_AGE, 0, 0)
    return device.encode(device.STATE, sequence, time_us, head + bytes(4 * 16))


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
            lambda n: hello(n, signals=b"tilt,gravity"),
            "the device should measure only position, .*, tilt, received gravity",
        ),
    ],
)
def test_what_is_not_our_device_is_told_in_a_sentence(monkeypatch, answer, sentence):
    monkeypatch.setattr(serial_robot, "CONNECT_LIMIT_S", 0.4)
    with stranger(answer) as address, pytest.raises(LinkError, match=sentence):
        SerialRobot.connect(address)


def test_only_one_may_have_the_port(robot, lockstep_address):
    with pytest.raises(LinkError, match="another program has it"):
        SerialRobot.connect(lockstep_address)
    robot.arm()


def opened_by_nobody(address):
    """Try to open a port as a program without privileges does; return what it is told."""
    path = address.removeprefix("serial:")
    privileged = os.geteuid() == 0
    if privileged:
        os.chmod(path, 0o666)
    return subprocess.run(
        ["/bin/sh", "-c", f": <> {path}"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        user=65534 if privileged else None,
    ).stderr


@pytest.mark.parametrize("ending", ["close", "kill"])
def test_no_other_program_can_open_the_port_meanwhile(ending):
    """Not even one that respects no lock; unless it is privileged. A killed host's claim ends."""
    with running_twin() as twin:
        assert opened_by_nobody(twin.address) == ""
        if ending == "close":
            with connected(twin.address):
                assert "Device or resource busy" in opened_by_nobody(twin.address)
        else:
            host = subprocess.Popen(
                [sys.executable, "-c", DRIVER, twin.address], stdout=subprocess.PIPE, text=True
            )
            host.stdout.readline()
            assert "Device or resource busy" in opened_by_nobody(twin.address)
            host.kill()
            host.wait()
            host.stdout.close()
            time.sleep(1.5)
        assert opened_by_nobody(twin.address) == ""


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
    assert robot.faults() == ("watchdog: no valid command arrived in time",)
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


def test_the_offset_is_the_least_of_its_window():
    offset = ClockOffset(window_s=10.0)
    assert offset(100.0, 0.0) == 100.0
    assert offset(101.5, 1.0) == 100.0  # half a second late: its stamp says so
    assert offset(101.9, 2.0) == pytest.approx(99.9)
    assert offset(111.8, 11.0) == pytest.approx(99.9)
    assert offset(112.0, 11.1) == pytest.approx(100.8)  # the window left the best behind


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


# A device that obeys somebody else too, or nobody.

HIGHER = 2**31
NOT_OURS = link.command_payload((0.9, 0.0), 150_000)


def go_on(robot, periods):
    """Drive for so many periods, or until there is a fault; return how many it took."""
    for k in range(periods):
        if robot.faults():
            return k
        robot.send(ACTION, 0.15)
        robot.wait(robot.now_s() + PERIOD_S)
    return periods


@pytest.mark.parametrize("realtime_factor", [0, 1])
@pytest.mark.parametrize(
    ("kind", "sequence", "payload", "sentence"),
    [
        (device.DISARM, 1, b"", "the device is disarmed, and this program did not disarm it"),
        (device.DISARM, HIGHER, b"", "another program writes to the device: it heard message"),
        (device.HELLO, 1, b"", "another program greeted the device: its newest message went back"),
        (device.HELLO, HIGHER, b"", "another program writes to the device: it heard message"),
        (device.RESET, HIGHER, b"", "another program writes to the device: it heard message"),
        (device.ARM, 1, b"", "another program writes to the device: it refused message 1"),
        (device.ESTOP, 1, b"", "emergency stop is latched"),
        (device.COMMAND, 1, NOT_OURS, "another program writes to the device: it refused message 1"),
        (device.COMMAND, HIGHER, NOT_OURS, "another program writes to the device: it heard"),
    ],
)
def test_a_second_writer_is_noticed_within_three_periods(
    realtime_factor, kind, sequence, payload, sentence
):
    with (
        running_twin("--realtime-factor", realtime_factor) as twin,
        second_writer(twin.address) as write,
        connected(twin.address) as robot,
    ):
        robot.reset()
        robot.arm()
        assert go_on(robot, 10) == 10
        write(kind, sequence, robot._newest.time_us, payload)
        time.sleep(0.02)
        assert go_on(robot, 20) <= 3
        assert sentence in robot.faults()[0]
        robot.stop()
        assert not robot.armed
        assert robot.faults()[0] == "emergency stop is latched"
        robot.wait(robot.now_s() + 1.0)
        assert abs(robot.read().signals["forward_speed"][0]) < 0.01
        # A reset is a new beginning: the device listens to this program's sequences again.
        robot.reset()
        assert robot.faults() == ()
        robot.arm()
        assert go_on(robot, 10) == 10


def test_who_does_not_obey_this_program_alone_is_not_armed():
    with (
        running_twin("--realtime-factor", 0) as twin,
        second_writer(twin.address) as write,
        connected(twin.address) as robot,
    ):
        robot.reset()
        write(device.STATE, HIGHER)
        time.sleep(0.1)
        robot.wait(robot.now_s() + PERIOD_S)
        with pytest.raises(LinkError, match="refused to arm: another program writes"):
            robot.arm()


@pytest.mark.parametrize("verb", ["arm", "reset"])
def test_what_somebody_else_was_obeyed_for_is_no_acknowledgement(verb):
    """A higher sequence was obeyed; ARM and RESET are refused by the device, and not believed."""
    with (
        running_twin("--realtime-factor", 0) as twin,
        second_writer(twin.address) as write,
        connected(twin.address) as robot,
    ):
        robot.reset()
        write(device.STATE, HIGHER)  # nothing was read of it yet
        time.sleep(0.1)
        with pytest.raises(LinkError, match=f"refused to {verb}: the message's sequence was not"):
            getattr(robot, verb)()
        assert not robot.armed


@pytest.mark.parametrize("verb", ["stop", "disarm"])
def test_a_stop_is_obeyed_and_believed_beside_a_second_writer(verb):
    with (
        running_twin("--realtime-factor", 0) as twin,
        second_writer(twin.address) as write,
        connected(twin.address) as robot,
    ):
        robot.reset()
        robot.arm()
        write(device.STATE, HIGHER)
        time.sleep(0.1)
        getattr(robot, verb)()
        assert not robot.armed


class Impostor:
    """A device on a pty that answers as a healthy one does, but for one lie.

    Args:
        lie: changes a STATE's fields, given as a dictionary.
        late_s: how long what the host writes is on its way.
    """

    def __init__(self, lie=lambda fields: None, lockstep=False, late_s=0.0):
        self._lie, self._late_s = lie, late_s
        self._coming = deque()  # when it is there, and what
        self._rig = Rig(Bench())
        self._rig.board.signals = ("position", "heading", "forward_speed", "yaw_rate", "tilt")
        self._rig.board.lockstep = lockstep
        self._began_s = time.monotonic()
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.address = f"serial:{os.ttyname(self._slave)}"
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def restart(self):
        self._rig.device = device.Device(self._rig.board)

    def _serve(self):
        board, decoder = self._rig.board, link.Decoder()
        while not self._ending.is_set():
            it = self._rig.device
            if not board.lockstep:
                board.time_us = round((time.monotonic() - self._began_s) * 1e6)
            if select.select([self._master], [], [], 0.005)[0]:
                due_s = time.monotonic() + self._late_s
                self._coming.append((due_s, os.read(self._master, 1000)))
            while self._coming and self._coming[0][0] <= time.monotonic():
                it.feed(self._coming.popleft()[1])
            for frame in filter(None, it.poll().split(b"\0")):
                (said,) = decoder.feed(frame + b"\0")
                os.write(self._master, self._falsified(said) or frame + b"\0")

    def _falsified(self, said):
        if not isinstance(said, link.State):
            return None
        fields = vars(said).copy()
        self._lie(fields)
        names = ("heard", "obeyed", "command_sequence", "command_crc", "command_age_us")
        head = [fields[name] for name in (*names, "faults", "flags")]
        body = struct.pack(device.STATE_HEAD, *head)
        body += struct.pack(device.ENDIAN + device.MEASURED, *fields["measured"])
        return device.encode(device.STATE, fields["sequence"], fields["time_us"], body)


def test_an_honest_device_is_believed():
    with Impostor() as impostor, connected(impostor.address) as robot:
        robot.reset()
        robot.arm()
        for _ in range(20):
            robot.send(np.array([0.1, 0.0]), 0.15)
            robot.wait(robot.now_s() + PERIOD_S)
            assert robot.faults() == ()


def test_a_command_that_holds_for_less_than_its_way_was_not_disobeyed():
    """A driver's late command holds for what is left of its time."""
    with Impostor(late_s=0.03) as impostor, connected(impostor.address) as robot:
        robot.reset()
        robot.arm()
        for _ in range(20):
            robot.send(np.array([0.1, 0.0]), 0.005)
            robot.wait(robot.now_s() + PERIOD_S)
            assert robot.faults() == ()


def never_armed(fields):
    fields["flags"] &= ~device.ARMED


def never_stopped(fields):
    fields["faults"] = 0


def always_armed(fields):
    fields["flags"] |= device.ARMED


def always_faulty(fields):
    fields["faults"] |= 1 << device.OUT_OF_LIMIT


@pytest.mark.parametrize(
    ("verb", "lie"),
    [
        ("arm", never_armed),
        ("stop", never_stopped),
        ("disarm", always_armed),
        ("reset", always_faulty),
        ("reset", always_armed),
    ],
)
def test_a_message_counts_by_its_own_effect_alone(monkeypatch, verb, lie):
    """The device says that it obeyed the very sequence, and does not show what it was told."""
    monkeypatch.setattr(serial_robot, "ANSWER_LIMIT_S", 0.1)
    with (
        Impostor(lie) as impostor,
        connected(impostor.address) as robot,
        pytest.raises(LinkError, match=f"the device refused to {verb}: "),
    ):
        getattr(robot, verb)()


def test_a_state_that_is_repeated_is_no_sign_of_life(monkeypatch):
    monkeypatch.setattr(serial_robot, "SILENCE_LIMIT_S", 0.5)
    replayed = {}

    def repeat(fields):
        if fields["sequence"] > 10:
            fields.update(replayed)
        else:
            replayed.update(fields)

    with Impostor(repeat) as impostor, connected(impostor.address) as robot:
        robot.wait(robot.now_s() + 1.2)
        assert robot._newest.sequence == 10
        assert time.monotonic() - robot._reading.stamp_s > 0.5
        with pytest.raises(LinkError, match=r"the device said nothing for 0.5 s"):
            robot.read()


def test_a_device_whose_time_stands_still_grows_stale():
    def freeze(fields):
        fields["time_us"] = 1

    with Impostor(freeze) as impostor, connected(impostor.address) as robot:
        robot.wait(robot.now_s() + 0.5)
        assert time.monotonic() - robot.read().stamp_s > 0.4


def test_a_twin_whose_time_stands_still_is_lost(monkeypatch):
    monkeypatch.setattr(serial_robot, "LOCKSTEP_LIMIT_S", 0.3)

    def freeze(fields):
        fields["time_us"] = 1

    with (
        Impostor(freeze, lockstep=True) as impostor,
        connected(impostor.address) as robot,
        pytest.raises(LinkError, match=r"the twin's time stood still for 0.3 s"),
    ):
        robot.wait(robot.now_s() + PERIOD_S)


@pytest.mark.parametrize("lockstep", [False, True])
def test_a_device_that_restarts_is_lost_at_once(lockstep):
    """Its new self was not greeted, and says so to the first message."""
    with Impostor(lockstep=lockstep) as impostor, connected(impostor.address) as robot:
        robot.reset()
        impostor.restart()
        time.sleep(0.05)
        began_s = time.monotonic()
        with pytest.raises(LinkError, match="the device restarted"):
            robot.arm()
        assert time.monotonic() - began_s < 0.3


# Losing one end or the other.

DRIVER = textwrap.dedent(
    """
    import sys
    import numpy as np
    from holdfast.robot.serial_robot import SerialRobot

    robot = SerialRobot.connect(sys.argv[1])
    robot.reset()
    robot.arm()
    start_s = robot.now_s()
    for k in range(1, 100_000):
        robot.send(np.array([0.6, 0.4]), 0.1)
        robot.wait(start_s + k * 0.05)
        if k == 20:
            print(robot.read().signals["forward_speed"][0], flush=True)
    """
)


@pytest.mark.parametrize("realtime_factor", [0, 1])
def test_a_killed_host_ends_with_the_robot_stopped(tmp_path, realtime_factor):
    truth = tmp_path / "truth.jsonl"
    with running_twin("--realtime-factor", realtime_factor, "--truth", truth) as twin:
        host = subprocess.Popen(
            [sys.executable, "-c", DRIVER, twin.address], stdout=subprocess.PIPE, text=True
        )
        assert float(host.stdout.readline()) > 0.5
        host.kill()
        host.wait()
        host.stdout.close()
        deadline_s = time.monotonic() + 20.0
        while not truth.read_text() and time.monotonic() < deadline_s:
            time.sleep(0.05)  # the books are closed when the device disarms itself
        assert json.loads(truth.read_text())["steps"] >= 20
        time.sleep(0.7)  # braking takes simulated time, which passes by itself now
        with connected(twin.address) as robot:
            assert robot.faults() == ("watchdog: no valid command arrived in time",)
            assert abs(robot.read().signals["forward_speed"][0]) < 0.01


@pytest.mark.parametrize("realtime_factor", [0, 1])
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


@pytest.mark.parametrize("realtime_factor", [0, 1])
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


def test_a_device_that_takes_nothing_in_is_a_link_error():
    with running_twin() as twin:
        robot = SerialRobot.connect(twin.address)
        os.kill(twin.process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(LinkError, match="the device takes nothing in"):
                send_on_and_on(robot)
        finally:
            os.kill(twin.process.pid, signal.SIGCONT)


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

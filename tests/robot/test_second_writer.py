"""A device that obeys somebody else too, or nobody: what the host believes, and when it stops."""

from __future__ import annotations

import os
import pty
import select
import struct
import threading
import time
import tty
from collections import deque

import numpy as np
import pytest

from holdfast.errors import LinkError
from holdfast.robot.serial import device, link
from holdfast.robot.serial import robot as serial_robot
from tests.helpers.robots.device_rig import Bench, Rig
from tests.helpers.robots.twins import connected, running_twin, second_writer

ACTION = np.array([0.6, 0.4])
PERIOD_S = 0.05
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


@pytest.mark.parametrize("realtime_factor", [0, pytest.param(1, marks=pytest.mark.alone)])
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
        self._rig.board.signals = (*Bench.signals, ("heading", 1), ("yaw_rate", 1))
        self._rig.board.values = (0.5, -0.25, 0.1, 0.2, 3.0, 0.2)
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
        if not isinstance(said, link.DeviceState):
            return None
        fields = vars(said).copy()
        self._lie(fields)
        names = ("heard", "obeyed", "command_sequence", "command_crc", "command_age_us")
        head = [fields[name] for name in (*names, "faults", "flags")]
        body = struct.pack(device.STATE_HEAD, *head)
        body += struct.pack(f"<{len(fields['measured'])}f", *fields["measured"])
        return device.encode(device.STATE, fields["sequence"], fields["time_us"], body)


@pytest.mark.alone
def test_an_honest_device_is_believed():
    """In every episode; also while it waits for the first command, and however busy all are: its
    watchdog may act then, and no other sentence is true."""
    with Impostor() as impostor, connected(impostor.address) as robot:
        for _ in range(3):
            robot.reset()
            robot.arm()
            robot.wait(robot.now_s() + 0.12)
            for _ in range(10):
                robot.send(np.array([0.1, 0.0]), 0.15)
                robot.wait(robot.now_s() + PERIOD_S)
            robot.disarm()
            assert not robot._obedience.problem


@pytest.mark.alone
def test_a_command_that_holds_for_less_than_its_way_was_not_disobeyed():
    """A driver's late command holds for what is left of its time."""
    with Impostor(late_s=0.03) as impostor, connected(impostor.address) as robot:
        robot.reset()
        robot.arm()
        for _ in range(20):
            robot.send(np.array([0.1, 0.0]), 0.005)
            robot.wait(robot.now_s() + PERIOD_S)
            assert not any("did not obey" in fault for fault in robot.faults())


def never_armed(fields):
    fields["flags"] &= ~device.ARMED


def never_stopped(fields):
    fields["faults"] = 0


def always_armed(fields):
    fields["flags"] |= device.ARMED


def always_faulty(fields):
    fields["faults"] |= 1 << device.OUT_OF_LIMIT


@pytest.mark.alone
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


@pytest.mark.alone
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


@pytest.mark.alone
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


@pytest.mark.alone
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

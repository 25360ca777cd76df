"""What a device says of obedience against what was told it: a real device, and one that lies."""

from __future__ import annotations

import dataclasses

import pytest

from holdfast.robot.serial import device, link
from holdfast.robot.serial.obedience import Obedience
from tests.helpers.robots.device_rig import VALID_US, WATCHDOG_US, Rig, state

PERIOD_US = 50_000


class Host:
    """A program that tells a device on a bench what to do, and looks whether it obeys."""

    def __init__(self):
        self.rig = Rig()
        self.first = self.rig.sequence
        self.obedience = Obedience()
        said = self.rig.send(device.HELLO)
        self.newest = self.rig.sequence
        self.obedience.begin(self.newest)
        self.take(said)
        self.say(device.RESET)
        self.say(device.ARM)

    def take(self, messages):
        for message in messages:
            if isinstance(message, link.DeviceState):
                self.obedience.check(message, message.time_us / 1e6, self.newest)
            elif isinstance(message, link.Fault) and message.code in link.REFUSALS:
                self.obedience.check_refusal(message, self.first, self.newest)

    def say(self, kind):
        """Tell the device something, as an exchange does."""
        self.newest += 1
        self.obedience.await_change()
        said = self.rig.send(kind, sequence=self.newest)
        self.take(said)
        self.obedience.expect(kind == device.ARM, state(said))

    def command(self, *values, lost=False):
        self.newest += 1
        payload = link.command_payload(values, VALID_US)
        overdue_s = (self.rig.board.time_us + WATCHDOG_US) / 1e6
        self.obedience.commanded(self.newest, payload, overdue_s)
        if not lost:
            self.take(self.rig.send(device.COMMAND, payload, sequence=self.newest))

    def drive(self, periods, lost=False):
        for _ in range(periods):
            self.command(0.1, 0.2, lost=lost)
            self.take(self.rig.wait(PERIOD_US))

    def alien(self, kind, sequence, payload=b""):
        """Another program writes to the device; the host sees what comes back."""
        self.take(self.rig.send(kind, payload, sequence=sequence))

    @property
    def problem(self):
        return self.obedience.problem


@pytest.fixture
def host():
    host = Host()
    host.drive(5)
    assert not host.problem
    return host


COMMAND = link.command_payload((0.3, 0.0), VALID_US)


def test_who_writes_alone_is_obeyed(host):
    host.say(device.DISARM)
    host.take(host.rig.wait(300_000))
    host.say(device.ARM)
    host.drive(50)
    host.say(device.ESTOP)
    host.take(host.rig.wait(300_000))
    host.say(device.RESET)
    host.say(device.ARM)
    host.drive(5)
    assert not host.problem


@pytest.mark.parametrize("before", [device.RESET, device.DISARM])
def test_an_armed_device_may_wait_for_its_first_command(host, before):
    """STATE shows no command then, or the one of before, which is long over."""
    host.say(before)
    host.take(host.rig.wait(1_000_000))
    host.say(device.ARM)
    host.take(host.rig.wait(3 * PERIOD_US))
    assert said(host).armed
    host.drive(5)
    assert not host.problem


def test_an_age_that_outgrew_its_field_is_no_command(host):
    host.say(device.DISARM)
    host.rig.board.time_us += device.NO_AGE
    host.take(host.rig.wait(PERIOD_US))
    host.say(device.ARM)
    host.take(host.rig.wait(3 * PERIOD_US))
    host.drive(5)
    assert not host.problem


@pytest.mark.parametrize("kind", [device.DISARM, device.ESTOP])
def test_armed_anew_it_has_as_long_to_obey_as_at_first(host, kind):
    """After a reset it says of no command that it obeyed it, and one of before is not awaited."""
    host.take(host.rig.wait(PERIOD_US))
    host.say(kind)
    host.say(device.RESET)
    host.say(device.ARM)
    host.take(host.rig.wait(VALID_US // 2))
    assert not host.problem
    host.drive(5)
    assert not host.problem


@pytest.mark.parametrize("sequence", [1, 1005, 2000])
@pytest.mark.parametrize("kind", [device.DISARM, device.HELLO])
def test_somebody_else_stops_it(host, kind, sequence):
    host.alien(kind, sequence)
    assert host.problem.startswith(
        "another program writes to the device: it heard message 2000"
        if sequence == 2000
        else "the device is disarmed"
        if kind == device.DISARM
        else "another program greeted the device"
    )


@pytest.mark.parametrize("kind", [device.RESET, device.STATE, device.ARM])
def test_somebody_else_has_a_higher_sequence(host, kind):
    host.alien(kind, host.newest + 1)
    assert host.problem.startswith("another program writes to the device: it heard message")


def test_somebody_elses_command_is_obeyed(host):
    host.alien(device.COMMAND, host.newest + 100, COMMAND)
    assert host.rig.board.motors == (0.3, 0.0)
    host.take(host.rig.wait(PERIOD_US))
    assert host.problem.startswith("another program writes to the device: it heard message")


def test_somebody_elses_command_has_the_very_sequence_of_ours(host):
    """It came just before ours, which the device then refused as repeated."""
    host.rig.send(device.COMMAND, COMMAND, sequence=host.newest + 1)
    host.command(0.1, 0.2)
    assert not host.problem
    host.take(host.rig.wait(PERIOD_US))
    assert host.problem == (
        f"the device obeys command {host.newest}, which is not one that this program sent: "
        "another program writes to it"
    )


@pytest.mark.parametrize("sequence", [1, 999])
def test_somebody_elses_command_is_refused(host, sequence):
    host.alien(device.COMMAND, sequence, COMMAND)
    assert host.problem == (
        f"another program writes to the device: it refused message {sequence} (the message's "
        "sequence was not new), which is not this program's"
    )


def test_somebody_else_speaks_another_version(host):
    refusal = link.Fault(9, 9, device.WRONG_VERSION, host.newest)
    host.obedience.check_refusal(refusal, host.first, host.newest)
    assert "does not speak this version of the link" in host.problem


def test_somebody_else_arms_it(host):
    host.say(device.DISARM)
    host.alien(device.ARM, host.newest)  # refused: the device is still disarmed
    assert not host.problem
    armed = dataclasses.replace(said(host), flags=device.ARMED)
    host.obedience.check(armed, 0.0, host.newest)
    assert host.problem == "the device is armed, and this program did not arm it"


def said(host):
    """Return what the device would say now."""
    host.rig.device._report()
    return state(host.rig.feed(b""))


def test_a_latched_fault_speaks_for_itself(host):
    host.take(host.rig.wait(300_000))
    assert said(host).faults == 1 << device.WATCHDOG
    assert not host.problem


@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_command_is_forgiven(host, lost):
    for _ in range(20):
        host.drive(lost - 1, lost=True)
        host.drive(2)
    assert not host.problem


def test_a_device_that_obeys_nothing(host):
    """Without a watchdog either: else that would have stopped it."""
    host.rig.board.watchdog_ms = 60_000
    host.drive(4, lost=True)
    assert not host.problem
    host.drive(1, lost=True)
    assert host.problem.startswith("the device is armed and did not obey command")


def test_a_device_whose_commands_are_all_lost_says_that_its_watchdog_acted(host):
    host.drive(6, lost=True)
    assert said(host).faults == 1 << device.WATCHDOG
    assert not host.problem


def test_a_device_that_obeys_nothing_since_it_was_reset(host):
    host.rig.board.watchdog_ms = 60_000
    host.say(device.RESET)
    host.say(device.ARM)
    host.drive(5, lost=True)
    assert host.problem.startswith("the device is armed and did not obey command")


def test_commands_that_a_disarming_overtook_are_forgotten(host):
    host.command(0.1, 0.2, lost=True)
    host.say(device.DISARM)
    host.take(host.rig.wait(1_000_000))
    host.say(device.ARM)
    host.drive(10)
    assert not host.problem


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        ({"heard": 2**32 - 1}, "another program writes to the device: it heard message 4294967295"),
        ({"heard": 1}, "another program greeted the device: its newest message went back"),
        ({"command_sequence": 1003}, "the device obeys command 1003, which is not one"),
        ({"command_crc": 0}, "the device obeys command 1008, which is not one"),
        ({"flags": 0}, "the device is disarmed, and this program did not disarm it"),
    ],
)
def test_a_state_that_lies(host, lie, sentence):
    host.obedience.check(dataclasses.replace(said(host), **lie), 0.0, host.newest)
    assert host.problem.startswith(sentence)


def test_the_first_problem_is_kept_until_the_device_is_greeted_anew(host):
    host.alien(device.DISARM, 1)
    first = host.problem
    host.alien(device.HELLO, host.newest + 5)
    assert host.problem == first
    host.newest += 6
    host.rig.send(device.HELLO, sequence=host.newest)
    host.obedience.begin(host.newest)
    host.say(device.ARM)
    host.drive(3)
    assert not host.problem

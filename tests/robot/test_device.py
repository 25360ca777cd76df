"""The device: every state against every message, every time limit, sequences and ages."""

from __future__ import annotations

import math
import zlib

import pytest

from holdfast.robot.serial import device, link
from tests.helpers.robots.device_rig import STEP_US, VALID_US, WATCHDOG_US, Bench, Rig, codes, state

# Every state against every message.


def booted(rig):
    pass


def disarmed(rig):
    rig.send(device.HELLO)


def armed(rig):
    rig.send(device.HELLO)
    rig.send(device.ARM)


def moving(rig):
    rig.drive()


def expired(rig):
    rig.drive()
    rig.wait(VALID_US)


def estopped(rig):
    rig.drive()
    rig.send(device.ESTOP)


def starved(rig):
    rig.drive()
    rig.wait(WATCHDOG_US)


STATES = (booted, disarmed, armed, moving, expired, estopped, starved)
MESSAGES = {
    "hello": lambda rig: rig.send(device.HELLO),
    "arm": lambda rig: rig.send(device.ARM),
    "disarm": lambda rig: rig.send(device.DISARM),
    "command": lambda rig: rig.command(0.3, -2.0),
    "nan": lambda rig: rig.command(math.nan, 0.0),
    "beyond": lambda rig: rig.command(0.36, 0.0),
    "short": lambda rig: rig.command(0.1),
    "state": lambda rig: rig.send(device.STATE),
    "estop": lambda rig: rig.send(device.ESTOP),
    "reset": lambda rig: rig.send(device.RESET),
    "fault": lambda rig: rig.send(device.FAULT),
    "unknown": lambda rig: rig.send(99),
}
# What the device is after the message: "stopped", "armed" or "moving", the faults that are then
# latched, and the codes that it tells. Rows are STATES, columns as in MESSAGES.
STOP, ARMED, MOVE = "stopped", "armed", "moving"
E, W = device.EMERGENCY_STOP, device.WATCHDOG
NAN, BEYOND, SHORT = device.NOT_FINITE, device.OUT_OF_LIMIT, device.MALFORMED
NG, UT, NA, LA = device.NOT_GREETED, device.UNKNOWN_TYPE, device.NOT_ARMED, device.LATCHED
OUTCOMES = {
    booted: {
        "hello": (STOP, (), ()),
        "disarm": (STOP, (), ()),
        "estop": (STOP, (E,), (E,)),
        "fault": (STOP, (), (UT,)),
        "unknown": (STOP, (), (UT,)),
        **dict.fromkeys(
            ("arm", "command", "nan", "beyond", "short", "state", "reset"), (STOP, (), (NG,))
        ),
    },
    disarmed: {
        "hello": (STOP, (), ()),
        "arm": (ARMED, (), ()),
        "disarm": (STOP, (), ()),
        **dict.fromkeys(("command", "nan", "beyond", "short"), (STOP, (), (NA,))),
        "state": (STOP, (), ()),
        "estop": (STOP, (E,), (E,)),
        "reset": (STOP, (), ()),
        **dict.fromkeys(("fault", "unknown"), (STOP, (), (UT,))),
    },
    **{
        start: {
            "hello": (STOP, (), ()),
            "arm": (stays, (), ()),
            "disarm": (STOP, (), ()),
            "command": (MOVE, (), ()),
            "nan": (STOP, (NAN,), (NAN,)),
            "beyond": (STOP, (BEYOND,), (BEYOND,)),
            "short": (STOP, (SHORT,), (SHORT,)),
            "state": (stays, (), ()),
            "estop": (STOP, (E,), (E,)),
            "reset": (STOP, (), ()),
            **dict.fromkeys(("fault", "unknown"), (stays, (), (UT,))),
        }
        for start, stays in ((armed, ARMED), (moving, MOVE), (expired, ARMED))
    },
    **{
        start: {
            "hello": (STOP, (latched,), ()),
            "arm": (STOP, (latched,), (LA,)),
            "disarm": (STOP, (latched,), ()),
            **dict.fromkeys(("command", "nan", "beyond", "short"), (STOP, (latched,), (NA,))),
            "state": (STOP, (latched,), ()),
            "estop": (STOP, tuple({latched, E}), (E,)),
            "reset": (STOP, (), ()),
            **dict.fromkeys(("fault", "unknown"), (STOP, (latched,), (UT,))),
        }
        for start, latched in ((estopped, E), (starved, W))
    },
}


@pytest.mark.parametrize("start", STATES)
@pytest.mark.parametrize("message", MESSAGES)
def test_every_state_and_message(start, message):
    rig = Rig()
    start(rig)
    rig.board.told.clear()
    messages = MESSAGES[message](rig)
    after, latched, told = OUTCOMES[start][message]
    assert rig.device.armed == (after != STOP)
    assert rig.device.latched == sum(1 << code for code in latched)
    assert tuple(codes(messages)) == told
    assert (rig.board.motors is not None) == (after == MOVE)
    moved = [said for said in rig.board.told if said not in ("halt", "replace")]
    assert moved == ([("actuate", (0.3, -2.0))] if message == "command" and after == MOVE else [])
    assert ("replace" in rig.board.told) == (message == "reset" and start is not booted)
    if start is not booted and message != "command":
        said = state(rig.send(device.STATE))
        assert (said.armed, said.moving) == (after != STOP, after == MOVE)
        assert said.faults == rig.device.latched


def test_it_boots_stopped_and_silent():
    rig = Rig()
    assert rig.board.told == ["halt"]
    assert rig.wait(1_000_000) == []


def test_hello_tells_who_it_is():
    rig = Rig()
    hello, said = rig.send(device.HELLO)
    assert hello.answers == rig.sequence
    identity = hello.identity
    assert identity.state_period_s == 0.05
    assert (identity.robot, identity.hardware_id) == ("bench", "bench-1")
    assert identity.signals == ("position", "tilt")
    assert identity.actions == ("forward_speed", "yaw_rate")
    assert (identity.action_low, identity.action_high) == ((-1.0, -2.0), (0.35, 2.0))
    assert (identity.watchdog_s, identity.lockstep, identity.self_placing) == (0.2, False, True)
    assert (said.heard, said.obeyed) == (rig.sequence, rig.sequence)
    assert said.command_age_us == device.NO_AGE
    assert said.measured == pytest.approx(rig.board.measure())


def test_states_come_at_their_period():
    rig = Rig()
    rig.send(device.HELLO)
    times = [message.time_us for message in rig.wait(500_000)]
    assert times == [5_000_000 + 50_000 * k for k in range(1, 11)]


# Time limits.


@pytest.mark.parametrize("age_us", [0, VALID_US - STEP_US, VALID_US, WATCHDOG_US - STEP_US])
def test_a_command_holds_for_as_long_as_it_says(age_us):
    rig = Rig()
    rig.drive()
    messages = rig.wait(age_us)
    assert (rig.board.motors is not None) == (age_us < VALID_US)
    assert codes(messages) == ([device.EXPIRED] if age_us >= VALID_US else [])
    rig.command(0.0, 0.1)
    assert rig.board.motors == (0.0, 0.1)


@pytest.mark.parametrize("valid_us", [VALID_US, WATCHDOG_US, 2**32 - 1])
def test_the_watchdog_latches(valid_us):
    rig = Rig()
    rig.drive()
    rig.command(0.3, 0.0, valid_us=valid_us)
    assert device.WATCHDOG not in codes(rig.wait(WATCHDOG_US - STEP_US))
    assert device.WATCHDOG in codes(rig.wait(STEP_US))
    assert rig.board.motors is None
    assert codes(rig.command(0.1, 0.0)) == [device.NOT_ARMED]
    assert codes(rig.send(device.ARM)) == [device.LATCHED]
    rig.send(device.RESET)
    assert state(rig.send(device.ARM)).armed


def test_the_watchdog_runs_from_arming():
    rig = Rig()
    armed(rig)
    assert device.WATCHDOG in codes(rig.wait(WATCHDOG_US))


def test_only_obeyed_commands_feed_the_watchdog():
    rig = Rig()
    rig.drive()
    for _ in range(WATCHDOG_US // STEP_US):
        rig.wait(STEP_US)
        rig.send(device.STATE)
        rig.send(device.ARM)
        rig.command(0.1, 0.0, sequence=rig.sequence)
    assert rig.device.latched == 1 << device.WATCHDOG


def test_a_limit_that_ran_out_beats_the_command_that_comes_too_late():
    """The board was busy: time passed, and the command arrived before the next poll."""
    rig = Rig()
    rig.drive()
    rig.board.time_us += WATCHDOG_US
    assert codes(rig.command(0.1, 0.0)) == [device.WATCHDOG, device.NOT_ARMED]
    assert rig.board.motors is None


def test_a_command_that_holds_for_no_time_is_a_fault():
    rig = Rig()
    rig.drive()
    assert codes(rig.command(0.1, 0.0, valid_us=0)) == [device.OUT_OF_LIMIT]
    assert rig.board.motors is None


# Sequence and age.


@pytest.mark.parametrize("kind", [device.COMMAND, device.ARM, device.RESET, device.STATE])
@pytest.mark.parametrize("back", [0, 1, 500])
def test_a_sequence_that_is_not_new_is_refused(kind, back):
    rig = Rig()
    rig.drive()
    rig.board.told.clear()
    payload = link.command_payload((0.2, 0.0), VALID_US) if kind == device.COMMAND else b""
    assert codes(rig.send(kind, payload, sequence=rig.sequence - back)) == [device.REPEATED]
    assert rig.board.told == []


@pytest.mark.parametrize("kind", [device.COMMAND, device.ARM, device.RESET])
@pytest.mark.parametrize(
    ("age_us", "late"),
    [(-1, True), (0, False), (WATCHDOG_US - 1, False), (WATCHDOG_US, True), (4_000_000, True)],
)
def test_a_message_that_waited_in_a_buffer_is_refused(kind, age_us, late):
    """Its sequence is new; what gives it away is the device time that its sender knew."""
    rig = Rig()
    rig.drive()
    rig.board.told.clear()
    payload = link.command_payload((0.2, 0.0), VALID_US) if kind == device.COMMAND else b""
    assert codes(rig.send(kind, payload, age_us=age_us)) == ([device.STALE] if late else [])
    if late:
        assert rig.board.told == []


@pytest.mark.parametrize("kind", [device.DISARM, device.ESTOP, device.HELLO])
def test_stopping_is_obeyed_whatever_its_sequence_and_age(kind):
    rig = Rig()
    rig.drive()
    rig.send(kind, sequence=1, age_us=4_000_000)
    assert rig.board.motors is None
    assert not rig.device.armed


def test_what_was_obeyed_is_told_apart_from_what_was_heard():
    rig = Rig()
    rig.drive()
    obeyed = rig.sequence
    rig.send(device.ARM, age_us=WATCHDOG_US)
    said = state(rig.send(device.STATE, sequence=1))
    assert (said.heard, said.obeyed, said.command_sequence) == (obeyed + 1, obeyed, obeyed)


@pytest.mark.parametrize(
    "kind", [device.HELLO, device.DISARM, device.ESTOP, device.RESET, device.ARM, device.STATE]
)
def test_every_message_is_answered_by_a_state_that_tells_it_was_obeyed(kind):
    rig = Rig()
    rig.drive()
    said = state(rig.send(kind))
    assert (said.heard, said.obeyed) == (rig.sequence, rig.sequence)


def test_the_command_that_is_obeyed_is_told_by_its_crc():
    rig = Rig()
    rig.drive()
    rig.command(0.3, -2.0)
    rig.command(math.nan, 0.0, age_us=WATCHDOG_US)  # refused: it is not the one obeyed
    payload = link.command_payload((0.3, -2.0), VALID_US)
    assert state(rig.wait(50_000)).command_crc == zlib.crc32(payload)


@pytest.mark.parametrize("kind", [device.HELLO, device.RESET])
def test_a_new_beginning_has_no_command(kind):
    rig = Rig()
    rig.drive()
    assert state(rig.wait(50_000)).command_age_us == 50_000
    assert state(rig.send(kind)).command_age_us == device.NO_AGE


def test_what_the_device_says_is_numbered():
    rig = Rig()
    messages = [*rig.send(device.HELLO), *rig.send(99), *rig.wait(200_000), *rig.send(device.ARM)]
    assert [message.sequence for message in messages] == list(range(1, len(messages) + 1))


def test_a_new_host_takes_over_only_a_stopped_robot():
    rig = Rig()
    rig.drive()
    rig.sequence = 5
    rig.send(device.HELLO)
    assert rig.board.motors is None
    assert not rig.device.armed
    rig.send(device.ARM)
    assert state(rig.command(0.1, 0.1) + rig.send(device.STATE)).moving


# Lockstep.


def test_in_lockstep_a_command_is_one_period_and_one_state():
    board = Bench()
    board.lockstep = True
    rig = Rig(board)
    for kind in (device.HELLO, device.RESET, device.ARM, device.DISARM, device.ARM):
        assert state(rig.send(kind)).time_us == 5_000_000
    for k in range(1, 6):
        (said,) = rig.command(0.1, 0.1)
        assert said.time_us == 5_000_000 + k * 50_000
        assert said.moving
        assert said.command_age_us == 50_000
    fault, said = rig.send(device.STATE)
    assert fault.code == device.EXPIRED
    assert said.time_us == 5_000_000 + 6 * 50_000
    starving = 1 << device.WATCHDOG
    faults = [state(rig.send(device.STATE)).faults for _ in range(3)]
    assert faults == [0, starving, starving]
    fault, said = rig.command(0.1, 0.1)
    assert (fault.code, said.time_us) == (device.NOT_ARMED, 5_000_000 + 10 * 50_000)

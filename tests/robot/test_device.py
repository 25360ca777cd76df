"""The device: every state against every message, every time limit, and whatever noise there is."""

from __future__ import annotations

import ast
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.robot import device, link
from holdfast.robot.device import Board, Device

ROOT = Path(__file__).resolve().parents[2]
MICROPYTHON = (
    ROOT
    / "build/micropython/node_modules/@micropython/micropython-webassembly-pyscript/micropython.mjs"
)
WATCHDOG_US = 200_000
VALID_US = 100_000
STEP_US = 10_000


class Bench(Board):
    """Hardware on a bench: its clock is set by hand, and it writes down what it is told."""

    robot = "bench"
    hardware_id = "bench-1"
    signals = ("position", "tilt")
    action_low = (-1.0, -2.0)
    action_high = (0.35, 2.0)
    self_placing = True

    def __init__(self):
        self.time_us = 5_000_000
        self.motors = None
        self.told = []

    def now_us(self):
        return self.time_us

    def actuate(self, values):
        self.motors = values
        self.told.append(("actuate", values))

    def halt(self):
        self.motors = None
        self.told.append("halt")

    def measure(self):
        return (0.5, -0.25, 3.0, 0.1, 0.2, -4, 5, *([0.5] * 9))

    def replace(self):
        self.told.append("replace")

    def advance(self):
        self.time_us += 50_000


class Rig:
    """A device on the bench, and a host that numbers and times its messages rightly."""

    def __init__(self, board=None):
        self.board = board or Bench()
        self.device = Device(self.board)
        self.decoder = link.Decoder()
        self.sequence = 1000

    def feed(self, data):
        """Feed bytes; return the messages that come back."""
        self.device.feed(data)
        return self.decoder.feed(self.device.poll())

    def send(self, kind, payload=b"", *, sequence=None, age_us=0):
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        return self.feed(link.encode(kind, sequence, self.board.time_us - age_us, payload))

    def command(self, *values, valid_us=VALID_US, **options):
        return self.send(device.COMMAND, link.command_payload(values, valid_us), **options)

    def drive(self):
        for kind in (device.HELLO, device.RESET, device.ARM):
            self.send(kind)
        self.command(0.1, 0.2)
        assert self.board.motors == (0.1, 0.2)

    def wait(self, duration_us):
        """Let time pass in small steps; return the messages that come."""
        messages = []
        for _ in range(duration_us // STEP_US):
            self.board.time_us += STEP_US
            messages += self.feed(b"")
        return messages


def codes(messages):
    return [message.code for message in messages if isinstance(message, link.Fault)]


def state(messages):
    return [message for message in messages if isinstance(message, link.State)][-1]


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
    assert hello.state_period_us == 50_000
    identity = hello.identity
    assert (identity.robot, identity.hardware_id) == ("bench", "bench-1")
    assert identity.signals == ("position", "tilt")
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


# What is not a frame, or not of this link.


def test_another_version_is_refused():
    rig = Rig()
    rig.drive()
    device.VERSION, mine = device.VERSION + 1, device.VERSION
    try:
        frame = link.encode(device.COMMAND, 2000, rig.board.time_us)
    finally:
        device.VERSION = mine
    assert codes(rig.feed(frame)) == [device.WRONG_VERSION]
    assert rig.board.motors == (0.1, 0.2)
    assert rig.device.latched == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_nothing_but_numbers_is_obeyed(value, place):
    rig = Rig()
    rig.drive()
    values = [0.0, 0.0]
    values[place] = value
    assert codes(rig.command(*values)) == [device.NOT_FINITE]
    assert rig.board.motors is None


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("bound", ["action_low", "action_high"])
def test_limits_are_inclusive(place, bound):
    limit = getattr(Bench, bound)[place]
    for value, obeyed in (
        (limit, True),
        (math.nextafter(limit, 0.0), True),
        (math.nextafter(limit, math.copysign(math.inf, limit)), False),
    ):
        rig = Rig()
        rig.drive()
        values = [0.0, 0.0]
        values[place] = value
        assert codes(rig.command(*values)) == ([] if obeyed else [device.OUT_OF_LIMIT])
        assert (rig.board.motors == tuple(values)) == obeyed


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_command_is_not_obeyed(place, change):
    rig = Rig()
    rig.drive()
    rig.board.told.clear()
    frame = bytearray(
        link.encode(
            device.COMMAND, 2000, rig.board.time_us, link.command_payload((0.3, 1.0), VALID_US)
        )
    )
    frame[place % len(frame)] ^= change
    rig.feed(bytes(frame))
    assert rig.board.told == []


@given(st.integers(0, 60), st.binary(max_size=100))
def test_a_cut_command_is_not_obeyed(length, rest):
    rig = Rig()
    rig.drive()
    rig.board.told.clear()
    payload = link.command_payload((0.3, 1.0), VALID_US)
    frame = link.encode(device.COMMAND, 2000, rig.board.time_us, payload)
    rig.feed(frame[: min(length, len(frame) - 2)] + b"\x00" + rest)
    assert rig.board.told == []


KINDS = st.sampled_from([*range(11), 255])
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(0, 30)),
        st.tuples(st.just("garbage"), st.binary(max_size=60)),
        st.tuples(
            st.just("send"),
            KINDS,
            st.integers(-2, 3),
            st.sampled_from([0, 0, 0, -1, 150_000, WATCHDOG_US]),
            st.binary(max_size=30),
        ),
        st.tuples(
            st.just("command"),
            st.integers(-2, 3),
            st.lists(st.sampled_from([0.0, 0.1, 0.3, -1.5, math.nan]), min_size=1, max_size=3),
            st.sampled_from([0, 20_000, VALID_US, 2**32 - 1]),
        ),
        st.sampled_from([("go",)]),
    ),
    max_size=40,
)


@given(EVENTS)
def test_whatever_happens_it_moves_only_while_it_may(events):
    """Fuzz: motors run only on a good command, while armed, unlatched and within both limits."""
    rig = Rig()
    for event, *details in events:
        before_us = len(rig.board.told)
        if event == "wait":
            rig.wait(details[0] * STEP_US)
        elif event == "garbage":
            rig.feed(details[0])
        elif event == "send":
            kind, step, age_us, payload = details
            rig.sequence = max(rig.sequence + step, 0)
            rig.send(kind, payload, sequence=rig.sequence, age_us=age_us)
        elif event == "command":
            step, values, valid_us = details
            rig.sequence = max(rig.sequence + step, 0)
            rig.command(*values, valid_us=valid_us, sequence=rig.sequence)
        else:
            rig.feed(b"\x00")  # ends whatever garbage came last
            rig.drive()
        for said in rig.board.told[before_us:]:
            if said not in ("halt", "replace"):
                assert all(
                    low <= value <= high
                    for low, value, high in zip(
                        Bench.action_low, said[1], Bench.action_high, strict=True
                    )
                )
        if rig.board.motors is not None:
            assert rig.device.armed
            assert rig.device.latched == 0
            age_us = rig.board.time_us - rig.device._command_us
            assert age_us < min(WATCHDOG_US, rig.device._valid_for_us)


def test_a_host_that_never_reads_costs_no_memory():
    rig = Rig()
    rig.send(device.HELLO)
    for _ in range(2000):
        rig.device.feed(link.encode(99, 1, 0))
    assert len(rig.device.poll()) < 2 * device.MAX_PENDING


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


# MicroPython.

SCENARIO = """
import binascii
import struct
import device

class Pin(device.Board):
    robot = "pin"
    hardware_id = "p1"
    signals = ("position",)
    action_low = (-1.0, -0.35)
    action_high = (1.0, 0.35)
    time_us = 10 ** 12
    def now_us(self):
        return self.time_us
    def actuate(self, values):
        print("actuate", ["%.6f" % v for v in values])
    def halt(self):
        print("halt")
    def measure(self):
        return (0.5, -0.25, 3.0, 0.1, float("nan"), -4, 5) + (0.5,) * 9
    def replace(self):
        print("replace")

def command(a, b, valid_us=100000):
    return struct.pack("<I2d", valid_us, a, b)

pin = Pin()
it = device.Device(pin)
sequence = 0
for kind, payload, wait_us in (
    (device.ARM, b"", 0), (device.HELLO, b"", 0), (device.ARM, b"", 20000),
    (device.COMMAND, command(0.5, 0.35), 50000), (device.COMMAND, command(-1.0, -0.35), 150000),
    (device.COMMAND, command(0.5, 0.1, 2 ** 32 - 1), 250000), (device.ARM, b"", 0),
    (device.RESET, b"", 0), (device.ARM, b"", 0), (device.COMMAND, command(float("nan"), 0), 0),
    (device.RESET, b"", 0), (device.ARM, b"", 0), (device.COMMAND, command(0.0, 0.36), 0),
    (device.RESET, b"", 0), (device.ARM, b"", 0), (device.COMMAND, b"xyz", 0),
    (device.ESTOP, b"", 0), (device.STATE, b"", 0), (99, b"", 0), (device.DISARM, b"", 0),
):
    sequence += 1
    frame = device.encode(kind, sequence, pin.time_us, payload)
    it.feed(b"noise\\x00" + frame[:9])
    it.feed(frame[9:])
    it.feed(frame[:-3] + b"?" + frame[-2:])
    print(kind, it.armed, it.latched, binascii.hexlify(it.poll()))
    pin.time_us += wait_us
    print(binascii.hexlify(it.poll()))
long = bytes(range(256)) * 5 + b"a" * 600
print(device.cobs_decode(device.cobs_encode(long)) == long, device.cobs_decode(b"\\x05ab"))
"""
RUNNER = """
import { loadMicroPython } from %r;
import fs from "fs";
const micropython = await loadMicroPython({ heapsize: 192 * 1024 });
micropython.FS.mkdir("/flash");
micropython.FS.writeFile("/flash/device.py", fs.readFileSync(process.argv[1]));
micropython.runPython(
  "import sys; sys.path.append('/flash'); assert sys.implementation.name == 'micropython'"
);
micropython.runPython(fs.readFileSync(0, "utf8"));
"""


def test_it_runs_under_micropython_as_it_does_here():
    """The same bytes and the same acts, within 192 KiB of heap: what a small board has."""
    node = shutil.which("node")
    module = Path(os.environ.get("HOLDFAST_MICROPYTHON", MICROPYTHON))
    if node is None or not module.exists():
        pytest.skip(
            "MicroPython is absent: npm install --prefix build/micropython "
            "@micropython/micropython-webassembly-pyscript"
        )
    here = subprocess.run(
        [sys.executable, "-c", SCENARIO],
        env={**os.environ, "PYTHONPATH": str(ROOT / "robot")},
        capture_output=True,
        text=True,
        check=True,
    )
    there = subprocess.run(
        [node, "--input-type=module", "-e", RUNNER % str(module), str(ROOT / "robot/device.py")],
        input=SCENARIO,
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout == here.stdout
    assert here.stdout.count("actuate") == 3


def test_it_keeps_to_the_subset_that_micropython_runs():
    """Without MicroPython at hand, this much can be said: modules and syntax that it has."""
    tree = ast.parse((ROOT / "robot/device.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert sorted(name.name for node in imports for name in node.names) == ["binascii", "struct"]
    foreign = (ast.Match, ast.AsyncFunctionDef, ast.JoinedStr, ast.Delete, ast.Try, ast.AnnAssign)
    assert not [node for node in ast.walk(tree) if isinstance(node, foreign)]
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            assert not node.decorator_list
        if isinstance(node, ast.FunctionDef):
            assert not node.args.posonlyargs

"""Whatever comes out of the wire, the device moves only on a good command."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.robot.serial import device, link
from tests.helpers.robots.device_rig import STEP_US, VALID_US, WATCHDOG_US, Bench, Rig, codes


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
        before = len(rig.board.told)
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
        for said in rig.board.told[before:]:
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

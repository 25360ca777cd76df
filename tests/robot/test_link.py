"""Both ends' framing, each implementation against the other."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from cobs import cobs
from hypothesis import given
from hypothesis import strategies as st

from holdfast.robot.serial import device, link

# Long runs without a zero are where COBS has its corners.
BYTES = st.one_of(
    st.binary(max_size=600),
    st.lists(
        st.sampled_from([b"\x00", b"a" * 253, b"a" * 254, b"a" * 255, b"b", b"\xff"]), max_size=8
    ).map(b"".join),
)
DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "reference" / "LINK.md").read_text(encoding="utf-8")
PAYLOADS = st.binary(max_size=400)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)


@given(BYTES)
def test_cobs_is_the_same_on_both_ends(data):
    assert device.cobs_encode(data) == cobs.encode(data)
    assert device.cobs_decode(cobs.encode(data)) == data


@given(BYTES)
def test_cobs_refuses_the_same_on_both_ends(data):
    try:
        expected = cobs.decode(data)
    except cobs.DecodeError:
        expected = None
    assert device.cobs_decode(data) == expected


@given(st.sampled_from(range(256)), U32, U64, PAYLOADS)
def test_a_frame_of_one_end_is_a_frame_of_the_other(kind, sequence, time_us, payload):
    frame = link.encode(kind, sequence, time_us, payload)
    assert frame == device.encode(kind, sequence, time_us, payload)
    assert device.Decoder().feed(frame) == [(device.VERSION, kind, sequence, time_us, payload)]


def test_the_crc_is_the_usual_one():
    """The check value of CRC-32/ISO-HDLC: another polynomial or bit order would differ."""
    assert zlib.crc32(b"123456789") == 0xCBF43926
    body = cobs.decode(device.encode(device.ARM, 7, 8)[:-1])
    assert struct.unpack("<I", body[-4:])[0] == zlib.crc32(body[:-4])


def state_frame(sequence: int = 5, time_us: int = 1_000_000) -> bytes:
    head = struct.pack("<IIIIIHB", 40, 39, 38, 77, 2500, 1 << device.WATCHDOG, device.ARMED)
    measured = struct.pack("<5f", 1, 2, 3, 4, 5)
    return device.encode(device.STATE, sequence, time_us, head + measured)


STATE = link.DeviceState(
    sequence=5,
    time_us=1_000_000,
    heard=40,
    obeyed=39,
    command_sequence=38,
    command_crc=77,
    command_age_us=2500,
    faults=1 << device.WATCHDOG,
    flags=device.ARMED,
    measured=(1.0, 2.0, 3.0, 4.0, 5.0),
)


def test_a_state_is_read_field_by_field():
    assert link.Decoder().feed(state_frame()) == [STATE]
    assert STATE.armed
    assert not STATE.moving
    assert STATE.fault_texts() == ("watchdog: no valid command arrived in time",)


def test_faults_and_other_versions_are_told():
    fault = device.encode(device.FAULT, 9, 10, struct.pack("<BI", device.STALE, 77))
    body = struct.pack("<BBIQ", device.VERSION + 1, device.STATE, 1, 2)
    foreign = cobs.encode(body + struct.pack("<I", zlib.crc32(body))) + b"\x00"
    assert link.Decoder().feed(fault + foreign) == [
        link.Fault(sequence=9, time_us=10, code=device.STALE, about=77),
        link.Foreign(device.VERSION + 1),
    ]


def test_every_fault_has_a_sentence():
    latched = range(device.EMERGENCY_STOP, device.MALFORMED + 1)
    codes = {*latched, *range(device.FIRST_UNLATCHED, device.EXPIRED + 1)}
    assert set(link.FAULTS) == codes
    assert len(set(link.FAULTS.values())) == len(codes)
    assert link.fault_text(200) == "unknown fault 200"


@given(st.data())
def test_frames_are_found_however_the_stream_is_cut(data):
    stream = b"".join(state_frame(i, i) for i in range(4)) + b"\x00\x00" + state_frame(4, 4)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    decoder, device_decoder = link.Decoder(), device.Decoder()
    messages, frames = [], []
    for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        messages += decoder.feed(stream[a:b])
        frames += device_decoder.feed(stream[a:b])
    assert [message.sequence for message in messages] == [0, 1, 2, 3, 4]
    assert [frame[2] for frame in frames] == [0, 1, 2, 3, 4]
    assert decoder.damaged == 0


@given(st.lists(st.binary(max_size=700), max_size=6))
def test_garbage_yields_nothing_and_the_next_frame_is_found(pieces):
    decoder, device_decoder = link.Decoder(), device.Decoder()
    for piece in pieces:
        assert decoder.feed(piece) == []
        assert device_decoder.feed(piece) == []
    assert decoder.feed(b"\x00" + state_frame()) == [STATE]
    assert len(device_decoder.feed(b"\x00" + state_frame())) == 1


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_never_passes_for_the_frame(place, change):
    frame = bytearray(state_frame())
    frame[place % len(frame)] ^= change
    for found in (link.Decoder().feed(bytes(frame)), device.Decoder().feed(bytes(frame))):
        assert found == []


def test_an_endless_frame_costs_no_memory():
    decoder, device_decoder = link.Decoder(), device.Decoder()
    for _ in range(50):
        decoder.feed(b"x" * 10_000)
        device_decoder.feed(b"x" * 10_000)
    assert len(decoder._tail) <= device.MAX_FRAME + 1
    assert len(device_decoder._tail) <= device.MAX_FRAME + 1
    assert decoder.feed(b"\x00" + state_frame()) == [STATE]
    assert decoder.damaged == 1


@pytest.mark.parametrize(("length", "found"), [(device.MAX_FRAME, 1), (device.MAX_FRAME + 1, 0)])
def test_the_longest_frame_is_the_longest_on_both_ends(length, found):
    payload = b"\x01" * (length - 22)
    body = struct.pack("<BBIQ", device.VERSION + 1, device.STATE, 1, 2) + payload
    frame = cobs.encode(body + struct.pack("<I", zlib.crc32(body))) + b"\x00"
    assert len(frame) - 1 == length
    for decoder in (device.Decoder(), link.Decoder()):
        assert len(decoder.feed(frame)) == found
        assert len(decoder.feed(frame[:-1]) + decoder.feed(frame[-1:])) == found


@pytest.mark.parametrize("length", range(15))
def test_a_frame_too_short_for_its_header_is_noise(length):
    body = bytes([device.VERSION] * length)
    frame = cobs.encode(body + struct.pack("<I", zlib.crc32(body))) + b"\x00"
    assert len(device.Decoder().feed(frame)) == (length == 14)
    assert link.Decoder().feed(frame) == []


def test_a_sound_frame_with_the_wrong_payload_is_damage():
    decoder = link.Decoder()
    for kind in (device.STATE, device.FAULT, device.HELLO, device.ARM, 200):
        assert decoder.feed(device.encode(kind, 1, 2, b"123")) == []
    assert decoder.damaged == 5


@given(st.lists(st.floats(), min_size=1, max_size=6), U32)
def test_a_command_keeps_every_bit(values, valid_for_us):
    payload = link.command_payload(values, valid_for_us)
    head, *got = struct.unpack(f"<I{len(values)}d", payload)
    assert head == valid_for_us
    np.testing.assert_array_equal(got, values)  # for which NaN is NaN


# The page that tells the format.


def test_the_pages_example_is_what_is_sent():
    lines = re.findall(r"^ {4}([0-9a-f ]+)$", PAGE, flags=re.MULTILINE)
    command = link.command_payload((0.5, -0.25), 100_000)
    sent = link.encode(device.ARM, 1000, 5_000_000)
    sent += link.encode(device.COMMAND, 1001, 5_000_000, command)
    assert bytes.fromhex("".join(lines)) == sent


def test_the_pages_tables_are_the_devices():
    types = set(re.findall(r"^\| (\d+) ([A-Z]+) \|", PAGE, flags=re.MULTILINE))
    assert len(types) == 8
    faults = re.findall(r"^\| (\d+) \| ([A-Z_]+) \| (yes|no) \|", PAGE, flags=re.MULTILINE)
    assert {int(code) for code, _, _ in faults} == set(link.FAULTS)
    for code, name in [*types, *((code, name) for code, name, _ in faults)]:
        assert getattr(device, name) == int(code)
    for code, _, latched in faults:
        assert (latched == "yes") == (int(code) < device.FIRST_UNLATCHED)

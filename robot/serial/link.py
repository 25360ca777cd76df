"""The host's side of the link: frames to messages and back.

The layout comes from `device.py`; COBS and CRC do not, so that each end checks the other.
docs/reference/LINK.md tells the wire format.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cobs import cobs

from holdfast.errors import LinkError
from holdfast.plain import shown
from holdfast.robot.base import Identity
from holdfast.robot.serial import device

SOURCE = "robot"
"""What the monitor and the log call a device, the one source of its signals."""

_HEADER = struct.Struct(device.HEADER)
_CRC = struct.Struct(device.CRC)
_HELLO_HEAD = struct.Struct(device.HELLO_HEAD)
_STATE_HEAD = struct.Struct(device.STATE_HEAD)
_TEXT = struct.Struct(device.TEXT)
_FAULT = struct.Struct(device.FAULT_BODY)

FAULTS: Mapping[int, str] = {
    device.EMERGENCY_STOP: "emergency stop is latched",
    device.WATCHDOG: "watchdog: no valid command arrived in time",
    device.NOT_FINITE: "a command held NaN or infinity",
    device.OUT_OF_LIMIT: "a command was outside the device's limits",
    device.MALFORMED: "a command was not laid out as this device's actions are",
    device.WRONG_VERSION: "the device does not speak this version of the link",
    device.UNKNOWN_TYPE: "the device does not know this type of message",
    device.NOT_GREETED: "the device was not greeted since it booted",
    device.REPEATED: "the message's sequence was not new",
    device.STALE: "the message was late",
    device.NOT_ARMED: "the device is not armed",
    device.LATCHED: "the device holds a latched fault until reset",
    device.EXPIRED: "a command's time ran out before the next one came",
}

REFUSALS = frozenset(FAULTS) - {device.EXPIRED} - {*range(device.FIRST_UNLATCHED)}
"""Codes of messages that the device did not act on, and for which it did not stop either."""


@dataclass(frozen=True)
class Hello:
    """The device's identity, in answer to the HELLO with sequence `answers`."""

    sequence: int
    time_us: int
    answers: int
    identity: Identity

    @property
    def sizes(self) -> Mapping[str, int]:
        """How many values each signal has, by name; STATE holds them in this order."""
        return self.identity.sources[SOURCE]


@dataclass(frozen=True)
class DeviceState:
    """What the device measured at its own time `time_us`, and how it is.

    Attributes:
        heard: newest sequence that the device took from the host, obeyed or not.
        obeyed: newest of those that it did not refuse.
        command_sequence, command_crc, command_age_us: the newest command obeyed, the CRC-32 of its
            payload, and how long ago; the age is `device.NO_AGE` if there was none since HELLO or
            RESET.
        faults: a bit for each latched fault.
        measured: the values of the signals that HELLO names, in its order, SI units.
    """

    sequence: int
    time_us: int
    heard: int
    obeyed: int
    command_sequence: int
    command_crc: int
    command_age_us: int
    faults: int
    flags: int
    measured: tuple[float, ...]

    @property
    def armed(self) -> bool:
        return bool(self.flags & device.ARMED)

    @property
    def moving(self) -> bool:
        """A command is in force."""
        return bool(self.flags & device.MOVING)

    @property
    def emergency_stop(self) -> bool:
        """The emergency stop is latched."""
        return bool(self.faults >> device.EMERGENCY_STOP & 1)

    @property
    def watchdog(self) -> bool:
        """The watchdog acted, and is latched."""
        return bool(self.faults >> device.WATCHDOG & 1)

    def fault_texts(self) -> tuple[str, ...]:
        """Return a sentence for each latched fault."""
        return tuple(fault_text(bit) for bit in range(16) if self.faults >> bit & 1)


@dataclass(frozen=True)
class Fault:
    """Something the device refused or stopped for; `about` is the sequence that caused it."""

    sequence: int
    time_us: int
    code: int
    about: int


@dataclass(frozen=True)
class Foreign:
    """A sound frame in another version of the link."""

    version: int


Message = Hello | DeviceState | Fault | Foreign


def fault_text(code: int) -> str:
    """Return a sentence for a fault's code."""
    return FAULTS.get(code, f"unknown fault {code}")


def encode(kind: int, sequence: int, time_us: int, payload: bytes = b"") -> bytes:
    """Return a whole frame for the device.

    Args:
        kind: a message type of `device`.
        time_us: the device's own time, from the newest STATE; old times are refused by it.
    """
    body = _HEADER.pack(device.VERSION, kind, sequence, time_us) + payload
    return bytes(cobs.encode(body + _CRC.pack(zlib.crc32(body)))) + b"\x00"


def command_payload(values: Sequence[float], valid_for_us: int) -> bytes:
    """Return COMMAND's payload: physical units, the order of the device's limits."""
    return struct.pack(f"{device.COMMAND_HEAD}{len(values)}d", valid_for_us, *values)


class Decoder:
    """Finds messages in a stream of bytes, whatever else is in it.

    Attributes:
        damaged: how many pieces between zeros were not frames of this link.
        damage: what was wrong with the newest of them.
    """

    def __init__(self) -> None:
        self.damaged = 0
        self.damage = ""
        self._tail = b""

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that `data` completes; never raises."""
        *ended, tail = (self._tail + data).split(b"\x00")
        self._tail = tail[: device.MAX_FRAME + 1]
        messages: list[Message] = []
        for piece in filter(None, ended):
            try:
                messages.append(_decode(piece))
            except LinkError as error:
                self.damaged += 1
                self.damage = str(error)
            except (cobs.DecodeError, struct.error, UnicodeDecodeError):
                self.damaged += 1
                self.damage = "a frame cannot be decoded"
        return messages


def _decode(piece: bytes) -> Message:
    body = cobs.decode(piece)
    end = len(body) - _CRC.size
    if len(piece) > device.MAX_FRAME or end < _HEADER.size:
        raise LinkError(f"a frame of {len(piece)} bytes has no possible length")
    if _CRC.unpack_from(body, end)[0] != zlib.crc32(body[:end]):
        raise LinkError("a frame has the wrong CRC")
    version, kind, sequence, time_us = _HEADER.unpack_from(body)
    payload = body[_HEADER.size : end]
    if version != device.VERSION:
        return Foreign(version)
    if kind == device.STATE:
        heard, obeyed, command, crc, age_us, faults, flags = _STATE_HEAD.unpack_from(payload)
        values = payload[_STATE_HEAD.size :]
        measured = struct.unpack(f"{device.ENDIAN}{len(values) // 4}f", values)
        return DeviceState(
            sequence, time_us, heard, obeyed, command, crc, age_us, faults, flags, measured
        )
    if kind == device.FAULT:
        return Fault(sequence, time_us, *_FAULT.unpack(payload))
    if kind == device.HELLO:
        return _hello(sequence, time_us, payload)
    raise LinkError(f"a device does not send messages of type {kind}")


def _hello(sequence: int, time_us: int, payload: bytes) -> Hello:
    answers, flags, watchdog_ms, state_period_us, n = _HELLO_HEAD.unpack_from(payload)
    limits = struct.unpack_from(f"{device.ENDIAN}{2 * n}d", payload, _HELLO_HEAD.size)
    texts = []
    at = _HELLO_HEAD.size + 16 * n
    for _ in range(4):
        (length,) = _TEXT.unpack_from(payload, at)
        at += _TEXT.size + length
        texts.append(payload[at - length : at].decode())
    if at != len(payload):
        raise LinkError(f"HELLO should be {at} bytes, received {len(payload)}")
    robot, hardware_id, signals, actions = texts
    identity = Identity(
        robot=robot,
        hardware_id=hardware_id,
        actions=_names(actions),
        action_low=limits[0::2],
        action_high=limits[1::2],
        watchdog_s=watchdog_ms / 1e3,
        sources={SOURCE: _sizes(signals)},
        lockstep=bool(flags & device.LOCKSTEP),
        self_placing=bool(flags & device.SELF_PLACING),
        state_period_s=state_period_us / 1e6,
    )
    return Hello(sequence, time_us, answers, identity)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _sizes(text: str) -> dict[str, int]:
    """Return the number of values of each signal, by name, from "position:2,heading:1"."""
    sizes: dict[str, int] = {}
    for entry in _names(text):
        name, _, size = entry.partition(":")
        if not name or name in sizes or not (size.isascii() and size.isdecimal()) or int(size) == 0:
            raise LinkError(
                f"HELLO should name each signal once as NAME:SIZE, received '{shown(entry)}'"
            )
        sizes[name] = int(size)
    return sizes

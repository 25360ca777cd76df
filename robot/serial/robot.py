"""A robot behind a serial port: `SerialRobot.connect("serial:/dev/ttyACM0?baud=115200")`."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

import numpy as np
import serial

from holdfast.contract import Contract
from holdfast.errors import ConfigError, LinkError, RefusedError
from holdfast.plain import shown
from holdfast.robot.base import Identity
from holdfast.robot.config import RobotConfig
from holdfast.robot.serial import device, link
from holdfast.robot.serial.obedience import Obedience, Pace
from holdfast.robot.serial.port import ClockOffset, claim, open_port, parse_address, release
from holdfast.safety_monitor.messages import Reading
from holdfast.signals import CATALOGUE, Array

CONNECT_LIMIT_S = 4.0  # some boards boot when their port is opened
HELLO_EVERY_S = 0.25
ANSWER_LIMIT_S = 0.5  # for one try of a message that the device answers
TRIES = 4  # a damaged frame is not answered
LOCKSTEP_LIMIT_S = 5.0  # wall time that a twin may take for one control period
WRITE_LIMIT_S = 0.2
SILENCE_LIMIT_S = 1.0  # a device that says nothing for so long is lost, not late

STOPPING = (device.DISARM, device.ESTOP)  # obeyed whatever their sequence and time are


class SerialRobot:
    """A `holdfast.robot.base.Robot` that speaks the link over a serial port.

    There is no thread: bytes are read while waiting, and at each call. A link that was lost
    stays lost: every later call raises the same `LinkError`.
    """

    identity: Identity

    def __init__(self, port: serial.Serial, name: str) -> None:
        """Greet the device on an open port; use `connect`."""
        self._port = port
        self._fd = port.fileno()
        self._name = name
        self._decoder = link.Decoder()
        self._offset = ClockOffset()
        # Rises from one run to the next on the same host, so that an answer to an earlier
        # run's HELLO, still in some buffer, is not taken for this run's.
        self._sequence = self._first = (time.monotonic_ns() // 1_000_000) & 0x3FFFFFFF
        self._received = 0
        self._heard_s = time.monotonic()
        self._hello: link.Hello | None = None
        self._state: link.DeviceState | None = None
        self._reading: Reading | None = None
        self._refusal: link.Fault | None = None  # the newest
        self._obedience = Obedience()
        self._pace, self._why = Pace(), ""  # why the device's watchdog acted
        self._awaited = (0, 0)  # lockstep: what STATE has yet to answer, and the one before it
        self._lost = ""
        self._greet()
        assert self._hello is not None
        self.identity = self._hello.identity

    @classmethod
    def connect(cls, address: str) -> SerialRobot:
        """Open "serial:PORT[?baud=N]" and greet the device.

        Raises:
            ConfigError: the address is written otherwise.
            LinkError: no such port, no Holdfast device on it, or another version.
        """
        name, baud = parse_address(address)
        port = open_port(name, baud)
        try:
            return cls(port, name)
        except BaseException:
            port.close()
            raise

    # The robot's interface.

    def now_s(self) -> float:
        """Return device time of the newest STATE in lockstep, else the host's monotonic time."""
        if self.identity.lockstep:
            self._settle()
            return self._newest.time_us / 1e6
        return time.monotonic()

    def clock_offset_s(self) -> float:
        """Return Unix time minus the run's clock."""
        return time.time() - self.now_s()

    def wait_for_state(self, limit_s: float, wake: int) -> bool:
        """Wait for a new STATE, or until there is something to read from the descriptor `wake`.

        Returns:
            Whether there is a new STATE. Not for lockstep, where states come as answers.
        """
        before = self._newest.sequence
        self._pump(limit_s, wake)
        if time.monotonic() - self._heard_s > SILENCE_LIMIT_S:
            self._lose(f"the device said nothing for {SILENCE_LIMIT_S:g} s")
        return self._newest.sequence != before

    @property
    def armed(self) -> bool:
        """Whether the device obeys commands, as of its newest STATE."""
        return self._newest.armed

    def wait(self, until_s: float) -> None:
        """Return at `until_s`; in lockstep let control periods pass until device time is there.

        In lockstep a command that was sent has let one period pass; only if that is not enough
        does this ask for more, so that a loop that sends nothing gets on too.
        """
        if not self.identity.lockstep:
            while (left_s := until_s - time.monotonic()) > 0.0:
                self._pump(left_s)
            self._pump(0.0)
            return
        self._settle()
        limit_s = time.monotonic() + LOCKSTEP_LIMIT_S
        while (device_us := self._newest.time_us) / 1e6 < until_s - 1e-6:
            self._ask(device.STATE)
            self._settle()
            if self._newest.time_us > device_us:
                limit_s = time.monotonic() + LOCKSTEP_LIMIT_S
            elif time.monotonic() > limit_s:
                self._lose(f"the twin's time stood still for {LOCKSTEP_LIMIT_S:g} s")

    def readings(self) -> Mapping[str, Reading]:
        """Return the newest STATE as the readings of the one source."""
        return {link.SOURCE: self.read()}

    def read(self) -> Reading:
        """Return the newest STATE as a reading; signals are those of the identity."""
        if self.identity.lockstep:
            self._settle()
        self._pump(0.0)
        if not self.identity.lockstep and time.monotonic() - self._heard_s > SILENCE_LIMIT_S:
            self._lose(f"the device said nothing for {SILENCE_LIMIT_S:g} s")
        assert self._reading is not None  # `_greet` waited for one
        return self._reading

    def faults(self) -> tuple[str, ...]:
        """Return a sentence for each fault that the device has latched, and one if it does not
        obey this program, or another program too: that is kept until `reset`."""
        self._pump(0.0)
        problem, acted = self._obedience.problem, link.fault_text(device.WATCHDOG)
        latched = (t + self._why if t == acted else t for t in self._newest.fault_texts())
        return (*latched, *((problem,) if problem else ()))

    def arm(self) -> None:
        """Allow motion.

        Raises:
            LinkError: the device refused, or does not obey this program alone; and why.
        """
        if self._obedience.problem:
            self._refuse("arm", self.faults())
        claim(self._fd)
        self._exchange(device.ARM, "arm", lambda state, n: state.armed and state.obeyed == n)
        self._pace.armed(self._clock_s)

    def send(self, action: Array, valid_for_s: float) -> None:
        """Command an action; the device obeys it for `valid_for_s` at the most.

        Raises:
            ConfigError: not as many values as the device has actions.
        """
        if len(action) != len(self.identity.action_low):
            raise ConfigError(
                f"robot '{self.identity.robot}' takes {len(self.identity.action_low)} action "
                f"values, received {len(action)}"
            )
        if self.identity.lockstep:
            self._settle()
        self._pump(0.0)
        valid_for_us = round(min(valid_for_s, self.identity.watchdog_s) * 1e6)
        payload = link.command_payload(action.tolist(), valid_for_us)
        # Not before: a device that takes nothing in for so long says that its watchdog acted.
        overdue_s = self.now_s() + self.identity.watchdog_s
        self._obedience.commanded(self._ask(device.COMMAND, payload), payload, overdue_s)
        self._pace.commanded(self._clock_s)

    def disarm(self) -> None:
        """Stop and forbid motion; needs no reset.

        Raises:
            LinkError: the device does not say that it is disarmed.
        """
        self._exchange(
            device.DISARM, "disarm", lambda state, n: state.heard >= n and not state.armed
        )

    def stop(self) -> None:
        """Emergency stop: latched by the device until `reset`.

        Raises:
            LinkError: the device does not say that the stop is latched.
        """
        self._exchange(
            device.ESTOP, "stop", lambda state, n: state.heard >= n and state.emergency_stop
        )

    def reset(self) -> None:
        """Clear latched faults and the odometry; leads to disarmed.

        Raises:
            LinkError: the device refused, or does not say that its faults are cleared.
        """
        if self._obedience.problem:
            self._greet()  # whatever sequence another program used, this one's counts again
        self._exchange(
            device.RESET,
            "reset",
            lambda state, n: state.obeyed == n and not state.armed and not state.faults,
        )

    def close(self) -> None:
        """Disarm, as far as the link still lives, and let go of the port."""
        if self._port.is_open:
            with contextlib.suppress(LinkError):
                self.disarm()
            release(self._fd)
            self._port.close()
            self._lost = f"{self._name}: the link was closed"

    # Below: bytes and time.

    @property
    def _clock_s(self) -> float:
        """The clock that the device's watchdog runs on, as far as this program knows."""
        assert self._hello is not None
        lockstep = self._hello.identity.lockstep
        return self._newest.time_us / 1e6 if lockstep else time.monotonic()

    @property
    def _newest(self) -> link.DeviceState:
        if self._state is None:  # `_greet` waited for one, in vain
            raise LinkError(self._lost)
        return self._state

    def _greet(self) -> None:
        """Say HELLO until it is answered and a STATE followed."""
        self._hello = self._state = None
        self._put(b"\x00")  # ends whatever the device has half heard
        deadline_s = time.monotonic() + CONNECT_LIMIT_S
        while (now_s := time.monotonic()) < deadline_s:
            self._write(device.HELLO)
            again_s = min(now_s + HELLO_EVERY_S, deadline_s)
            while (left_s := again_s - time.monotonic()) > 0.0:
                self._pump(left_s)
                if self._hello and self._state:
                    return
        heard = f"{self._received} bytes received" if self._received else "nothing received"
        damage = f"; {self._decoder.damage}" if self._decoder.damage else ""
        self._lose(
            f"no Holdfast device answered within {CONNECT_LIMIT_S:g} s ({heard}{damage}); is it "
            "the right port, and at the right baud rate?"
        )

    def _exchange(
        self, kind: int, verb: str, done: Callable[[link.DeviceState, int], bool]
    ) -> None:
        """Send a message until STATE shows its effect.

        A try that was not answered is repeated with the same sequence, so that the device acts
        on it at most once; one that was refused as late, or for a reason that was lost, has a new
        one, and the time that came with the refusal.

        Args:
            done: whether a STATE shows the effect of the message with a sequence.
        """
        self._pump(0.0)
        self._obedience.await_change()
        sequence: int | None = None
        refusal: link.Fault | None = None
        for _ in range(TRIES):
            sequence = self._write(kind, sequence=sequence)
            refusal = self._await(kind, sequence, done)
            if done(self._newest, sequence):
                self._obedience.expect(kind == device.ARM, self._newest)
                return
            if _refused(kind, sequence, self._newest) and (
                refusal is None or refusal.code in (device.STALE, device.REPEATED)
            ):
                sequence = None
            elif refusal is not None:
                break
        if sequence is not None and self._newest.heard < sequence:
            self._lose(f"the device did not answer to {verb}")
        reasons = () if refusal is None else (link.fault_text(refusal.code),)
        self._refuse(verb, (*reasons, *self.faults()) or ("its STATE shows no effect",))

    def _await(
        self, kind: int, sequence: int, done: Callable[[link.DeviceState, int], bool]
    ) -> link.Fault | None:
        """Wait for a message's effect, or for the STATE after its refusal, whose FAULT may be lost.

        Returns:
            The FAULT that tells the refusal.
        """
        limit_s = time.monotonic() + ANSWER_LIMIT_S
        while not done(self._newest, sequence):
            refusal, state = self._refusal, self._newest
            if refusal is None or refusal.about != sequence:
                if _refused(kind, sequence, state):
                    return None
            elif state.sequence > refusal.sequence:
                return refusal
            if (left_s := limit_s - time.monotonic()) <= 0.0:
                return None
            self._pump(left_s)
        return None

    def _refuse(self, verb: str, reasons: tuple[str, ...]) -> NoReturn:
        raise RefusedError(f"{self._name}: the device refused to {verb}: {'; '.join(reasons)}")

    def _settle(self) -> None:
        """Lockstep: wait for the STATE that answers what was sent."""
        sequence, before = self._awaited
        limit_s = time.monotonic() + LOCKSTEP_LIMIT_S
        while self._newest.heard < sequence or self._newest.sequence <= before:
            if time.monotonic() > limit_s:
                self._lose(f"the twin did not answer within {LOCKSTEP_LIMIT_S:g} s")
            self._pump(LOCKSTEP_LIMIT_S)

    def _pump(self, limit_s: float, wake: int | None = None) -> None:
        """Take in what has arrived; wait up to `limit_s` for something if there is nothing, or
        until the descriptor `wake` can be read."""
        if self._lost:
            raise LinkError(self._lost)
        watched = [self._fd] if wake is None else [self._fd, wake]
        try:
            if self._fd not in select.select(watched, [], [], limit_s)[0]:
                return
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(f"the port was lost ({os.strerror(error.errno or errno.EIO)})")
        if not data:
            self._lose("the port was lost (end of file)")
        self._received += len(data)
        for message in self._decoder.feed(data):
            self._take(message, time.monotonic())

    def _take(self, message: link.Message, host_s: float) -> None:
        if isinstance(message, link.DeviceState):
            self._take_state(message, host_s)
        elif isinstance(message, link.Fault):
            self._take_fault(message)
        elif isinstance(message, link.Foreign):
            self._lose(
                f"the device speaks link version {message.version}, this program {device.VERSION}"
            )
        elif self._hello is None and self._first < message.answers <= self._sequence:
            if wrong := _wrong_with(message):
                self._lose(wrong)
            self._hello = message
            self._obedience.begin(message.answers)

    def _take_fault(self, fault: link.Fault) -> None:
        if self._hello is None:  # later it is another program that speaks another version
            if fault.code == device.WRONG_VERSION and fault.about > self._first:
                self._lose(f"the device does not speak link version {device.VERSION}")
            return
        if fault.code not in link.REFUSALS:
            return
        if fault.code == device.NOT_GREETED:
            self._lose("the device restarted")
        self._refusal = fault
        self._obedience.check_refusal(fault, self._first, self._sequence)

    def _take_state(self, state: link.DeviceState, host_s: float) -> None:
        if self._hello is None:
            return  # still from an earlier run
        if self._state is not None and state.time_us < self._state.time_us:
            self._lose("the device restarted")
        if self._state is not None and state.sequence <= self._state.sequence:
            return  # a repeated one is no news, and no sign of life
        self._heard_s = host_s
        acted_before = self._state is not None and self._state.watchdog
        self._state = state
        if state.watchdog and not acted_before:
            self._why = self._pace.explain(self._clock_s, self._hello.identity.watchdog_s)
        device_s = state.time_us / 1e6
        lockstep = self._hello.identity.lockstep
        self._reading = Reading(
            stamp_s=device_s if lockstep else device_s + self._offset(host_s, device_s),
            sequence=state.sequence,
            signals=self._signals(state, self._hello.sizes),
        )
        self._obedience.check(state, self._reading.stamp_s, self._sequence)

    def _signals(self, state: link.DeviceState, sizes: Mapping[str, int]) -> dict[str, Array]:
        """Return what a STATE measured, by signal."""
        if len(state.measured) != sum(sizes.values()):
            self._lose(
                f"STATE should hold the {sum(sizes.values())} values that HELLO named, received "
                f"{len(state.measured)}"
            )
        values, at, signals = np.array(state.measured), 0, {}
        for name, size in sizes.items():
            signals[name] = values[at : at + size]
            at += size
        return signals

    def _ask(self, kind: int, payload: bytes = b"") -> int:
        """Send what, in lockstep, one STATE answers; return its sequence."""
        before = self._newest.sequence
        sequence = self._write(kind, payload)
        self._awaited = (sequence, before)
        return sequence

    def _write(self, kind: int, payload: bytes = b"", sequence: int | None = None) -> int:
        """Send a frame and return its sequence: the next one unless given."""
        if self._lost:
            raise LinkError(self._lost)
        if sequence is None:
            self._sequence += 1
            sequence = self._sequence
        time_us = self._state.time_us if self._state else 0
        self._put(link.encode(kind, sequence, time_us, payload))
        return sequence

    def _put(self, data: bytes) -> None:
        """Write bytes, within a limit."""
        limit_s = time.monotonic() + WRITE_LIMIT_S
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                left_s = limit_s - time.monotonic()
                if left_s <= 0.0:
                    self._lose("the device takes nothing in")
                select.select([], [self._fd], [], left_s)
            except OSError as error:
                self._lose(f"the port was lost ({os.strerror(error.errno or errno.EIO)})")

    def _lose(self, what: str) -> NoReturn:
        self._lost = f"{self._name}: {what}"
        raise LinkError(self._lost)


def _refused(kind: int, sequence: int, state: link.DeviceState) -> bool:
    """Whether a STATE shows that the device heard a message and did not obey it.

    What stops is never refused: a STATE that seems to say so was sent before the message came, and
    shows what the device heard, and refused, of another program.
    """
    return kind not in STOPPING and state.heard >= sequence > state.obeyed


def _wrong_with(hello: link.Hello) -> str:
    """Return what is wrong with what a device says of itself; empty if nothing is."""
    identity = hello.identity
    for text in (identity.robot, identity.hardware_id, *hello.sizes, *identity.actions):
        if not text.isprintable():
            return f"the device's texts should be printable, received '{shown(text)}'"
    if not np.isfinite((identity.action_low, identity.action_high)).all():
        return (
            f"the device's action limits should be finite, received low {identity.action_low} and "
            f"high {identity.action_high}"
        )
    for name, size in hello.sizes.items():
        known = CATALOGUE[name].size if name in CATALOGUE else None
        if known is not None and size != known:
            return f"the device should measure {known} values of '{name}', received {size}"
    if len(set(identity.actions)) != len(identity.action_low):
        return (
            f"the device should name each of its {len(identity.action_low)} action channels once, "
            f"received '{','.join(identity.actions)}'"
        )
    return ""


def connect(
    address: str, config: RobotConfig, contract: Contract, required: Collection[str]
) -> SerialRobot:
    """Return the robot at an address; the device itself says what it measures and obeys."""
    return SerialRobot.connect(address)

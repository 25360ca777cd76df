"""Whether a device obeys: what its STATE says is compared with what this program sent."""

from __future__ import annotations

import math
import zlib
from typing import NamedTuple

from holdfast.robot.serial import device, link

LATE = 0.9
"""Share of the watchdog's time from which a pause explains that the watchdog acted."""


class Pace:
    """The longest pause between this program's commands since it armed the device."""

    def __init__(self) -> None:
        self._newest_s = math.nan
        self._longest_s = 0.0

    def armed(self, now_s: float) -> None:
        """Begin to count: arming feeds the watchdog as a command does."""
        self._newest_s, self._longest_s = now_s, 0.0

    def commanded(self, now_s: float) -> None:
        """Count the pause before a command."""
        self._longest_s = max(self._longest_s, now_s - self._newest_s)
        self._newest_s = now_s

    def explain(self, now_s: float, watchdog_s: float) -> str:
        """Return why the device's watchdog acted, and where to look; "" if it was not armed."""
        longest_s = max(self._longest_s, now_s - self._newest_s)
        if math.isnan(self._newest_s):
            return ""
        late = longest_s >= LATE * watchdog_s
        return (
            f"; this computer sent none for up to {longest_s:.3f} s, and the device waits for "
            f"{watchdog_s:g} s: "
            + ("the computer was late, see what else it ran" if late else "look at the cable")
        )


class _Command(NamedTuple):
    crc: int
    overdue_s: float  # the device should have obeyed it, or a later one, by then


class Obedience:
    """What this program told the device, and the first contradiction in what the device says.

    Nobody else may write to the device, and it obeys whatever reaches it with a new sequence. So a
    sequence, a command or a change between armed and disarmed that is not this program's shows a
    second writer, or a device that does not do as it is told.

    Attributes:
        problem: a sentence on the first contradiction, kept until `begin`; empty if there is none.
    """

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, sequence: int) -> None:
        """Forget everything: the device was greeted with this sequence, and is disarmed."""
        self.problem = ""
        self._armed: bool | None = False
        self._heard = sequence
        self._commands: dict[int, _Command] = {}  # the newest one obeyed, and those after it

    def await_change(self) -> None:
        """Accept armed and disarmed alike, until `expect`: the device is being told which."""
        self._armed = None

    def expect(self, armed: bool, state: link.DeviceState) -> None:
        """Hold the device to what it was told; commands not obeyed by `state` never will be, and
        the newest one that was is not waited for again, though a RESET makes STATE forget it."""
        self._armed = armed
        newest = state.command_sequence
        self._commands = {
            n: c._replace(overdue_s=math.inf) for n, c in self._commands.items() if n == newest
        }

    def commanded(self, sequence: int, payload: bytes, overdue_s: float) -> None:
        """Expect the device to obey a COMMAND, or a later one, by a time on the run's clock."""
        self._commands[sequence] = _Command(zlib.crc32(payload), overdue_s)

    def check(self, state: link.DeviceState, time_s: float, newest: int) -> None:
        """Look for contradictions in a STATE.

        Args:
            time_s: when it was measured, on the run's clock.
            newest: the newest sequence that this program sent.
        """
        self.problem = self.problem or (
            self._another_writer(state, newest)
            or self._another_command(state)
            or self._another_mode(state)
            or self._overdue(state, time_s)
        )
        self._heard = state.heard

    def check_refusal(self, refusal: link.Fault, first: int, newest: int) -> None:
        """Look whether a refused message was sent by this program, whose sequences are above
        `first` and up to `newest`."""
        ours = first < refusal.about <= newest and refusal.code != device.WRONG_VERSION
        if not self.problem and not ours:
            self.problem = (
                f"another program writes to the device: it refused message {refusal.about} "
                f"({link.fault_text(refusal.code)}), which is not this program's"
            )

    def _another_writer(self, state: link.DeviceState, newest: int) -> str:
        if state.heard > newest:
            return (
                f"another program writes to the device: it heard message {state.heard}, and this "
                f"program's newest is {newest}"
            )
        if state.heard < self._heard:
            return (
                f"another program greeted the device: its newest message went back from "
                f"{self._heard} to {state.heard}"
            )
        return ""

    def _another_command(self, state: link.DeviceState) -> str:
        if state.command_age_us == device.NO_AGE:
            return ""
        command = self._commands.get(state.command_sequence)
        if command is None or command.crc != state.command_crc:
            return (
                f"the device obeys command {state.command_sequence}, which is not one that this "
                "program sent: another program writes to it"
            )
        for sequence in [n for n in self._commands if n < state.command_sequence]:
            del self._commands[sequence]
        return ""

    def _another_mode(self, state: link.DeviceState) -> str:
        if self._armed is None or state.armed is self._armed or (self._armed and state.faults):
            return ""  # a latched fault disarms too, and is reported by itself
        if self._armed:
            return "the device is disarmed, and this program did not disarm it"
        return "the device is armed, and this program did not arm it"

    def _overdue(self, state: link.DeviceState, time_s: float) -> str:
        obeyed = -1 if state.command_age_us == device.NO_AGE else state.command_sequence
        overdue = [n for n, c in self._commands.items() if n > obeyed and c.overdue_s < time_s]
        if self._armed and state.armed and overdue:
            return (
                f"the device is armed and did not obey command {overdue[0]}, nor a later one, "
                "within the watchdog's time"
            )
        return ""

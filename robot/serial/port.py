"""A serial port and its clock: what its address says, whose it is, how old its messages are."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import termios
from collections import deque
from urllib.parse import parse_qsl

import serial

from holdfast.errors import ConfigError, LinkError
from holdfast.plain import shown

SCHEME = "serial:"
DEFAULT_BAUD = 115200
BAUD = (1200, 4_000_000)
"""The least and the largest speed of a port, baud."""

OFFSET_WINDOW_S = 10.0


def parse_address(address: str) -> tuple[str, int]:
    """Return port and baud rate of "serial:PORT[?baud=N]".

    Raises:
        ConfigError: it is written otherwise.
    """
    port, _, query = address.removeprefix(SCHEME).partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    baud = options.pop("baud", str(DEFAULT_BAUD))
    if not address.startswith(SCHEME) or not port or options or not baud.isdecimal():
        raise ConfigError(f"robot should be 'serial:PORT[?baud=N]', received '{address}'")
    if len(baud) > 7 or not BAUD[0] <= int(baud) <= BAUD[1]:
        raise ConfigError(
            f"robot's baud should be in [{BAUD[0]}, {BAUD[1]}], received '{shown(baud)}'"
        )
    return port, int(baud)


def claim(fd: int) -> None:
    """Let nobody else open a port from now on; a privileged process still can."""
    with contextlib.suppress(OSError):  # not every kind of port has it
        fcntl.ioctl(fd, termios.TIOCEXCL)


def release(fd: int) -> None:
    """Let others open a port again: a pty's claim would outlive this program."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, termios.TIOCNXCL)


def open_port(name: str, baud: int) -> serial.Serial:
    """Open a port for this process alone: locked for all who lock too, and for all others.

    Raises:
        LinkError: it cannot be opened, and why.
    """
    try:
        port = serial.Serial(name, baud, timeout=0, exclusive=True)
    except (OSError, ValueError) as error:  # SerialException is an OSError
        why = {
            errno.ENOENT: "there is no such port",
            errno.EACCES: "no permission; on Linux, join the group that owns it (dialout)",
            errno.EBUSY: "another program has it; end that one first",
            errno.EAGAIN: "another program has it; end that one first",
        }.get(getattr(error, "errno", None) or 0, f"not a serial port that can be opened ({error})")
        raise LinkError(f"{name}: {why}") from None
    claim(port.fileno())
    with contextlib.suppress(OSError, ValueError, NotImplementedError, AttributeError):
        port.set_low_latency_mode(True)  # where the driver has it: 1 ms instead of 16
    port.reset_input_buffer()
    return port


class ClockOffset:
    """Host time minus device time: the least seen in a sliding window of host time.

    The message that travelled fastest shows the offset best; one that waited in a buffer is
    then seen to be old. The window lets it follow the drift of the two clocks.
    """

    def __init__(self, window_s: float = OFFSET_WINDOW_S) -> None:
        self._window_s = window_s
        self._rising: deque[tuple[float, float]] = deque()  # (host time, offset)

    def __call__(self, host_s: float, device_s: float) -> float:
        """Take a message's receipt and device time; return the offset to add to device time."""
        offset = host_s - device_s
        while self._rising and self._rising[-1][1] >= offset:
            self._rising.pop()
        self._rising.append((host_s, offset))
        while self._rising[0][0] < host_s - self._window_s:
            self._rising.popleft()
        return self._rising[0][1]

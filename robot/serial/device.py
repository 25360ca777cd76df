"""The device's side of the link: what a board is flashed with and what the twin runs.

One file in the subset of Python that MicroPython runs; docs/reference/LINK.md has the format.
The hardware is a `Board`; everything that decides whether it may move is here.
"""

import binascii
import struct

VERSION = 2
ENDIAN = "<"
HEADER = "<BBIQ"  # version, type, sequence, device time in us
CRC = "<I"  # CRC-32 of header and payload
MAX_FRAME = 1024  # bytes between two zeros; longer is not a frame

# Message types.
HELLO, ARM, DISARM, COMMAND, STATE, ESTOP, RESET, FAULT = range(1, 9)

# Payloads, device to host. HELLO goes on with a (low, high) pair of f64 for each action value,
# then robot, hardware id, signals and action channels, each text after a u16 with its length:
# signals as "position:2,heading:1", a name and how many values it has; channels by name.
HELLO_HEAD = "<IBHIB"  # answered sequence, identity flags, watchdog in ms, STATE period in us, n
# sequences: heard, obeyed, command; CRC-32 of the command's payload, its age in us; faults, flags;
# then an f32 for each value of each signal, in HELLO's order
STATE_HEAD = "<IIIIIHB"
TEXT = "<H"  # how many bytes of UTF-8 follow
FAULT_BODY = "<BI"  # code, sequence that it is about
# Payload, host to device: all others are empty. Goes on with an f64 for each action value.
COMMAND_HEAD = "<I"  # how long it holds, in us

LOCKSTEP, SELF_PLACING = 1, 2  # identity flags
ARMED, MOVING = 1, 2  # state flags; MOVING: a command is in force
NO_AGE = 0xFFFFFFFF  # no command since the last HELLO

# Latched faults, each a bit in STATE: they stop the device and forbid motion until RESET.
EMERGENCY_STOP, WATCHDOG, NOT_FINITE, OUT_OF_LIMIT, MALFORMED = range(1, 6)
# Refusals and news: told, not latched.
FIRST_UNLATCHED = 16
WRONG_VERSION, UNKNOWN_TYPE, NOT_GREETED, REPEATED, STALE, NOT_ARMED, LATCHED, EXPIRED = range(
    FIRST_UNLATCHED, FIRST_UNLATCHED + 8
)

MAX_PENDING = 4096  # bytes waiting to be written; what finds no room is dropped


class Board:
    """The hardware under a device, as a base class: constants to set and methods to write.

    `lockstep` is for twins: the clock stands still but for `advance`.
    """

    robot = ""
    hardware_id = ""
    signals = ()  # type: tuple[tuple[str, int], ...]  # what it measures: name, number of values
    actions = ()  # type: tuple[str, ...]  # names of the action's channels, in its order
    action_low = ()  # type: tuple[float, ...]
    action_high = ()  # type: tuple[float, ...]
    watchdog_ms = 200
    state_period_us = 50000
    lockstep = False
    self_placing = False

    def now_us(self) -> int:
        """Return the device's time in us: monotonic, 0 at boot."""
        raise NotImplementedError

    def actuate(self, values: tuple[float, ...]) -> None:
        """Set the motors to an action that was checked: physical units, the limits' order."""
        raise NotImplementedError

    def halt(self) -> None:
        """Bring the robot to a stop now."""
        raise NotImplementedError

    def measure(self) -> tuple[float, ...]:
        """Return the values of all signals in their order, SI units; NaN: not measured now."""
        raise NotImplementedError

    def replace(self) -> None:
        """Set the odometry anew; a twin also places the robot at its next start pose."""
        raise NotImplementedError

    def advance(self) -> None:
        """Lockstep only: let one control period pass."""
        raise NotImplementedError


def cobs_encode(data: bytes) -> bytes:
    """Return `data` with no zero in it (Cheshire and Baker 1999), without the final zero."""
    out = bytearray()
    blocks = data.split(b"\x00")
    for i, block in enumerate(blocks):
        start = 0
        while len(block) - start >= 254:
            out += b"\xff" + block[start : start + 254]
            start += 254
        if start == 0 or start < len(block) or i < len(blocks) - 1:
            out.append(len(block) - start + 1)
            out += block[start:]
    return bytes(out)


def cobs_decode(data: bytes) -> bytes | None:
    """Return what `cobs_encode` made `data` of; None if it made no such thing."""
    if b"\x00" in data:
        return None
    out = bytearray()
    i = 0
    while i < len(data):
        code = data[i]
        if i + code > len(data):
            return None
        out += data[i + 1 : i + code]
        i += code
        if code < 255 and i < len(data):
            out.append(0)
    return bytes(out)


def encode(kind: int, sequence: int, time_us: int, payload: bytes = b"") -> bytes:
    """Return a whole frame, its final zero included."""
    body = struct.pack(HEADER, VERSION, kind, sequence, time_us) + payload
    return cobs_encode(body + struct.pack(CRC, binascii.crc32(body))) + b"\x00"


class Decoder:
    """Finds frames in a stream of bytes, whatever else is in it; never raises."""

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> list[tuple[int, int, int, int, bytes]]:
        """Return the frames ended in `data`: (version, type, sequence, time in us, payload)."""
        parts = data.split(b"\x00")
        parts[0] = self._tail + parts[0]
        # One byte too many is enough to know an overlong frame by when its end comes.
        self._tail = parts.pop()[: MAX_FRAME + 1]
        frames = []
        for part in parts:
            body = cobs_decode(part) if len(part) <= MAX_FRAME else None
            if body is None or len(body) < struct.calcsize(HEADER) + 4:
                continue
            end = len(body) - 4
            if struct.unpack_from(CRC, body, end)[0] == binascii.crc32(body[:end]):
                header = struct.unpack_from(HEADER, body, 0)
                frames.append(header + (body[struct.calcsize(HEADER) : end],))  # noqa: RUF005
        return frames


class Device:
    """The state machine between the serial line and the motors. Boots stopped.

    Attributes:
        armed: commands move the robot. Never true while a fault is latched.
        latched: a bit for each latched fault.
    """

    def __init__(self, board: Board) -> None:
        self.board = board
        self.armed = False
        self.latched = 0
        self._moving = False
        self._greeted = False
        self._heard = 0  # newest sequence from the host
        self._obeyed = 0  # newest of them that was not refused
        self._sent = 0  # newest sequence to the host
        self._command = 0  # the newest obeyed: sequence, CRC, arrival, how long it holds
        self._command_crc = 0
        self._command_us = -1
        self._valid_for_us = 0
        self._fed_us = 0  # when the watchdog was last fed: by arming, or by a valid command
        self._state_us = 0
        self._decoder = Decoder()
        self._out = bytearray()
        board.halt()

    def feed(self, data: bytes) -> None:
        """Take bytes from the host, any number of them, and act on the frames they end."""
        for version, kind, sequence, time_us, payload in self._decoder.feed(data):
            self._check_time()  # a limit that ran out before this frame came has precedence
            if version != VERSION:
                self._object(WRONG_VERSION, sequence)
            else:
                self._handle(kind, sequence, time_us, payload)

    def poll(self) -> bytes:
        """Enforce the time limits and return bytes for the host. Call it all the time."""
        self._check_time()
        if self._greeted and self.board.now_us() - self._state_us >= self.board.state_period_us:
            self._report()
        out = bytes(self._out)
        self._out = bytearray()
        return out

    def _handle(self, kind: int, sequence: int, time_us: int, payload: bytes) -> None:
        code = 0
        if kind == ESTOP:  # whatever its sequence: it is never wrong to stop
            self._object(EMERGENCY_STOP, sequence)
        elif kind == DISARM:
            self._stop()
        elif kind == HELLO:
            self._greet(sequence)
        else:
            code = self._refusal(kind, sequence, time_us)
            if not code and kind == COMMAND:
                code = self._fault_in(payload)
            elif not code and payload:
                code = MALFORMED
            if code:
                self._object(code, sequence)
            else:
                self._act(kind, sequence, payload)
        self._heard = max(self._heard, sequence)
        if not code:
            self._obeyed = max(self._obeyed, sequence)
        if not self._greeted:
            return
        if self.board.lockstep and kind in (COMMAND, STATE):
            self.board.advance()
            self._check_time()
        if self.board.lockstep or kind != COMMAND:
            self._report()

    def _refusal(self, kind: int, sequence: int, time_us: int) -> int:
        """Return why a message that could lead to motion is not acted on; 0 if it is.

        The time in its header is the device's own, from the newest STATE that the sender
        knew: what waited long in some buffer shows it there, though its sequence is new.
        """
        age_us = self.board.now_us() - time_us
        if kind not in (ARM, COMMAND, RESET, STATE):
            return UNKNOWN_TYPE
        if not self._greeted:
            return NOT_GREETED
        if sequence <= self._heard:
            return REPEATED
        if kind != STATE and not 0 <= age_us < self.board.watchdog_ms * 1000:
            return STALE
        if kind == ARM and self.latched:
            return LATCHED
        if kind == COMMAND and not self.armed:
            return NOT_ARMED
        return 0

    def _fault_in(self, payload: bytes) -> int:
        """Return what is wrong with a command; 0 if nothing is."""
        low, high = self.board.action_low, self.board.action_high
        if len(payload) != 4 + 8 * len(low):
            return MALFORMED
        values = struct.unpack_from(ENDIAN + str(len(low)) + "d", payload, 4)
        if any(v - v != 0.0 for v in values):  # NaN and infinities
            return NOT_FINITE
        if not all(low[i] <= v <= high[i] for i, v in enumerate(values)):
            return OUT_OF_LIMIT
        if struct.unpack_from(COMMAND_HEAD, payload, 0)[0] == 0:
            return OUT_OF_LIMIT
        return 0

    def _act(self, kind: int, sequence: int, payload: bytes) -> None:
        if kind == ARM and not self.armed:  # a second one does not feed the watchdog
            self.armed = True
            self._fed_us = self.board.now_us()
        elif kind == RESET:
            self._stop()
            self.latched = 0
            self._command_us = -1
            self.board.replace()
        elif kind == COMMAND:
            self._command = sequence
            self._command_crc = binascii.crc32(payload)
            self._command_us = self._fed_us = self.board.now_us()
            self._valid_for_us = struct.unpack_from(COMMAND_HEAD, payload, 0)[0]
            self._moving = True
            n = len(self.board.action_low)
            self.board.actuate(struct.unpack_from(ENDIAN + str(n) + "d", payload, 4))

    def _check_time(self) -> None:
        if not self.armed:
            return
        now_us = self.board.now_us()
        if now_us - self._fed_us >= self.board.watchdog_ms * 1000:
            self._object(WATCHDOG, self._command)
        elif self._moving and now_us - self._command_us >= self._valid_for_us:
            self._moving = False  # still armed: a fresh command moves it again
            self.board.halt()
            self._object(EXPIRED, self._command)

    def _greet(self, sequence: int) -> None:
        """Begin anew with a host: whatever moved under another one stops; latches stay."""
        self._stop()
        self._greeted = True
        self._heard = self._obeyed = sequence
        self._command_us = -1
        board = self.board
        flags = LOCKSTEP * board.lockstep + SELF_PLACING * board.self_placing
        n = len(board.action_low)
        payload = struct.pack(
            HELLO_HEAD, sequence, flags, board.watchdog_ms, board.state_period_us, n
        )
        for i in range(n):
            payload += struct.pack("<2d", board.action_low[i], board.action_high[i])
        signals = ",".join([name + ":" + str(size) for name, size in board.signals])
        for text in (board.robot, board.hardware_id, signals, ",".join(board.actions)):
            payload += struct.pack(TEXT, len(text.encode())) + text.encode()
        self._send(HELLO, payload)

    def _object(self, code: int, about: int) -> None:
        """Tell the host of a fault; stop and latch it if it is one of that kind."""
        if code < FIRST_UNLATCHED:
            self._stop()
            self.latched |= 1 << code
        self._send(FAULT, struct.pack(FAULT_BODY, code, about))

    def _stop(self) -> None:
        self.armed = False
        self._moving = False
        self.board.halt()

    def _report(self) -> None:
        self._state_us = now_us = self.board.now_us()
        age_us = min(now_us - self._command_us, NO_AGE) if self._command_us >= 0 else NO_AGE
        flags = ARMED * self.armed + MOVING * self._moving
        payload = struct.pack(
            STATE_HEAD,
            self._heard,
            self._obeyed,
            self._command,
            self._command_crc,
            age_us,
            self.latched,
            flags,
        )
        measured = self.board.measure()
        self._send(STATE, payload + struct.pack(ENDIAN + str(len(measured)) + "f", *measured))

    def _send(self, kind: int, payload: bytes) -> None:
        if len(self._out) < MAX_PENDING:
            self._sent = (self._sent + 1) & 0xFFFFFFFF
            self._out += encode(kind, self._sent, self.board.now_us(), payload)

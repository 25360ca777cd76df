"""Fuzz targets: what any bytes at all may do to a device, the link, files, costs and the monitor.

A target takes bytes, and raises (an AssertionError or whatever was not foreseen) if a promise is
broken. `fuzz.py` runs them guided by coverage or at volume; `test_corpus.py` replays the corpus.
"""

from __future__ import annotations

import json
import math
import re
import struct
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from holdfast.contract import ActionChannel, Contract, Cost, ObservationChannel
from holdfast.errors import ContractError, LogError
from holdfast.expressions import CostExpression
from holdfast.log import reader as logs
from holdfast.robot import config as configs
from holdfast.robot.serial import device, link
from holdfast.safety_monitor import Monitor, Proposal, Reading, State
from holdfast.signals import Array
from tests.helpers.data.expression_texts import SPECS, Texts
from tests.helpers.robots.device_rig import WATCHDOG_US, Bench, Rig

CORPUS = Path(__file__).parent / "corpus"


SIGNS = b"()[].,:<>=!+-*/ 0123456789eE_ andornotifforlambdaspeedscanmin"
"""What expressions are made of, so that damage is noticed late."""

ODD = (math.nan, math.inf, -math.inf, 1e308, -1e308, 1e-320, -0.0, 1e9, -1e9)


class Script:
    """Bytes that are read as decisions; where they end, everything is 0."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        self._at += count
        return part.ljust(count, b"\x00")

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> float:
        """Return an ordinary number mostly, and any number at all at times."""
        byte = self.byte()
        if byte == 255:
            return float(struct.unpack("<d", self.take(8))[0])
        if byte >= 246:
            return ODD[byte - 246]
        return (byte - 123) / 41.0


# The device and the link.


def fuzz_device(data: bytes) -> None:
    """Motors run only on a good command, while armed, unlatched and within both limits."""
    rig, script = Rig(), Script(data)
    while script:
        what = script.byte() % 8
        before = len(rig.board.told)
        if what == 0:
            rig.feed(script.take(script.byte() % 64))
        elif what == 1:
            rig.wait((script.byte() % 32) * 10_000)
        elif what == 2:
            rig.feed(b"\x00")  # ends whatever garbage came last
            rig.send(device.HELLO)
            rig.send(device.RESET)
            rig.send(device.ARM)
        elif what == 3:
            rig.command(script.number(), script.number())
        elif what == 4:
            rig.sequence = max(rig.sequence + script.byte() % 7 - 3, 0)
            values = [script.number() for _ in range(script.byte() % 4)]
            valid_us = struct.unpack("<I", script.take(4))[0]
            rig.command(*values, valid_us=valid_us, sequence=rig.sequence)
        else:
            kind, size = script.byte() % 12, script.byte() % 32
            sequence = struct.unpack("<I", script.take(4))[0] if what == 5 else None
            age_us = (script.byte() % 64) * 5000 if what == 6 else 0
            rig.send(kind, script.take(size), sequence=sequence, age_us=age_us)
        _check_device(rig, before)


def _check_device(rig: Rig, before: int) -> None:
    for said in rig.board.told[before:]:
        if said not in ("halt", "replace"):
            limits = zip(Bench.action_low, said[1], Bench.action_high, strict=True)
            assert all(low <= value <= high for low, value, high in limits)
    if rig.board.motors is not None:
        assert rig.device.armed
        assert rig.device.latched == 0
        age_us = rig.board.time_us - rig.device._command_us
        assert age_us < min(WATCHDOG_US, rig.device._valid_for_us)


def fuzz_link(data: bytes) -> None:
    """Any bytes give messages or nothing, as they do in any other pieces; and no memory is kept."""
    script = Script(data)
    stream = b""
    while script:
        what = script.byte() % 4
        part = script.take(script.byte())
        if what == 0:
            stream += part
        elif what == 1:  # a frame that says anything at all, with the right CRC
            stream += device.encode(part[0] % 10 if part else 0, len(stream), 1, part[1:])
        else:
            good = bytes(struct.calcsize(device.STATE_HEAD))  # nothing heard, nothing latched
            good += struct.pack(device.ENDIAN + "5f", *([0.5] * 5))
            frame = bytearray(device.encode(device.STATE, 1, 1, good))
            for place, change in zip(part[0::2], part[1::2], strict=False):
                frame[place % len(frame)] ^= change if what == 3 else 0
            stream += bytes(frame)
    decoder, other = link.Decoder(), link.Decoder()
    messages = decoder.feed(stream)
    size = 1 + len(data) % 97
    pieces = [other.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
    # NaN equals nothing, but its text does.
    assert repr(messages) == repr([message for piece in pieces for message in piece])
    assert decoder.damaged == other.damaged
    assert len(decoder._tail) <= device.MAX_FRAME + 1
    frames = device.Decoder().feed(stream)  # the other end of the link finds the same frames
    assert len(frames) >= len(messages)
    for frame in frames:
        sent = device.encode(*frame[1:])
        if frame[0] == device.VERSION:
            assert device.Decoder().feed(sent) == [frame]


# Files.


def fuzz_contract(data: bytes) -> None:
    """Any text is a contract, which survives its own text, or a ContractError."""
    text = data.decode(errors="surrogateescape")
    try:
        contract = Contract.from_json(text)
    except ContractError:
        return
    again = Contract.from_json(contract.to_json())
    assert again.hash == contract.hash
    json.loads(contract.to_json())


def fuzz_log(data: bytes) -> None:
    """Any file is a log or a LogError."""
    with tempfile.NamedTemporaryFile(suffix="_0.mcap", dir=_memory()) as file:
        file.write(data)
        file.flush()
        try:
            log = logs.read(Path(file.name))
        except LogError:
            return
    assert len(log.steps) == len(log.reasons)
    for episode in log.episodes:
        assert len(episode.now_s) == len(episode.costs) == len(episode.state)


def fuzz_expression(data: bytes) -> None:
    """Any text is a cost of any numbers, alike for one robot and for many, or a ContractError."""
    script = Script(data)
    kind, text = script.byte() % 4, ""
    if kind:  # one that is in the language, which random bytes are but by chance
        text = Texts(lambda count: script.byte() % count).cost()
    if kind != 1:
        at, until = script.byte() % (len(text) + 1), script.byte() % 8
        part = script.take(script.byte() % 32 if kind else 8 * script.byte()).rstrip(b"\x00")
        part = bytes(SIGNS[byte % len(SIGNS)] for byte in part) if kind == 3 else part
        text = text[:at] + part.decode(errors="surrogateescape") + text[at + until :]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            cost = CostExpression(text, SPECS)
        except ContractError as error:
            refusal = str(error)
            assert re.fullmatch(r"expression, column \d+: .{1,400}", refusal), refusal
            assert refusal.isprintable()
            return
        assert CostExpression(cost.canonical, SPECS).canonical == cost.canonical
        many = {
            name: np.array([[script.number() for _ in range(spec.size)] for _ in range(2)])
            for name, spec in SPECS.items()
        }
        steps = [cost.step({n: a[i].tolist() for n, a in many.items()}) for i in range(2)]
        assert repr(steps) == repr(cost(many).tolist())  # the text of a float is all of it


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


# The monitor.

PERIOD_S = 0.05
CONTRACT = Contract(
    robot="drive",
    task="fuzz",
    period_s=PERIOD_S,
    episode_steps=400,
    observation=(
        ObservationChannel("position", 2, "m", "position"),
        ObservationChannel("heading", 2, "1", "heading", "cos_sin"),
        ObservationChannel("forward_speed", 1, "m/s", "forward_speed"),
        ObservationChannel("yaw_rate", 1, "rad/s", "yaw_rate"),
        ObservationChannel("applied_action", 2, "1", "applied_action"),
        ObservationChannel("episode_left", 1, "1", "episode_left"),
    ),
    action=(
        ActionChannel("forward_speed", "m/s", -1.0, 1.0, 4.0),
        ActionChannel("yaw_rate", "rad/s", -2.0, 2.0, 20.0),
    ),
    costs=(Cost("outside_corridor", "abs(position.x) > 2.0", 30.0, 90.0, 1.0, 0.95),),
)
LIMITS = configs.load(configs.find("drive")).monitor
_MOST = CONTRACT.action_max_step * (1.0 + 1e-9)


class Base:
    """A robot that does what it was told, and whose readings a script may spoil."""

    def __init__(self) -> None:
        self.monitor = Monitor(CONTRACT, LIMITS)
        self.now_s = 10.0
        self.sequence = 1
        self.pose = [0.0, 0.0, 0.0]
        self.action = self.monitor.applied
        self.steps = 0

    def signals(self) -> dict[str, Array]:
        x, y, yaw = self.pose
        speed, turn = self.action.tolist()
        ripple = 1e-3 * math.sin(self.sequence)  # what never changes is taken for frozen
        return {
            "position": np.array([x, y]),
            "heading": np.array([yaw]),
            "forward_speed": np.array([speed + ripple]),
            "yaw_rate": np.array([turn + ripple]),
            "tilt": np.zeros(2),
        }

    def advance(self, duration_s: float) -> None:
        speed, turn = self.action.tolist()
        x, y, yaw = self.pose
        yaw = math.remainder(yaw + turn * duration_s, math.tau)
        self.pose = [
            x + speed * math.cos(yaw) * duration_s,
            y + speed * math.sin(yaw) * duration_s,
            yaw,
        ]
        self.now_s += duration_s
        self.sequence += 1

    def sources(self) -> dict[str, Reading]:
        return {"base": Reading(self.now_s, self.sequence, self.signals())}

    def step(self, script: Script | None, action: tuple[float, float]) -> None:
        """Advance by one period, and let the monitor judge what came of it; a script spoils it."""
        was, before = self.monitor.state, self.monitor.applied
        self.advance(PERIOD_S)
        now_s, sources = self.now_s, self.sources()
        proposal: Proposal | None
        proposal = Proposal(now_s, self.sequence, np.array(action), CONTRACT.hash)
        prediction = None
        if script is not None:
            now_s, sources, proposal, prediction = self._spoil(script, sources, proposal)
        look = self.monitor.look(now_s, sources)
        assert look.observation.shape == (CONTRACT.observation_size,)
        verdict = self.monitor.step(look, proposal, prediction)
        self.steps += 1
        self.action = verdict.action
        assert np.isfinite(verdict.action).all()
        assert (verdict.action >= CONTRACT.action_low).all()
        assert (verdict.action <= CONTRACT.action_high).all()
        assert verdict.state is self.monitor.state
        if verdict.state <= State.READY:
            assert not verdict.action.any()
        else:
            assert (np.abs(verdict.action - before) <= _MOST).all()
            assert was > State.READY
        if was is State.STOPPED:
            assert verdict.state is State.STOPPED
        for reason in verdict.reasons:
            assert reason.code != "monitor_failed", reason.text
            if reason.state is State.STOPPED:
                assert verdict.state is State.STOPPED or was is State.READY
        spent, episode_cap = verdict.budget.spent, verdict.budget.episode_cap
        assert all(s <= b for s, b in zip(spent, episode_cap, strict=True))

    def _spoil(
        self, script: Script, sources: dict[str, Reading], proposal: Proposal
    ) -> tuple[float, dict[str, Reading], Proposal | None, Array | None]:
        reading = sources["base"]
        signals, stamp_s, sequence = dict(reading.signals), reading.stamp_s, reading.sequence
        now_s, action, offered = self.now_s, proposal.action, True
        prediction = None
        what = script.byte()
        name = tuple(signals)[script.byte() % len(signals)]
        if what & 1:
            size = script.byte() % 4 if what & 128 else len(signals[name])
            signals[name] = np.array([script.number() for _ in range(size)])
        if what & 2:
            signals.pop(name, None)
        if what & 4:
            stamp_s += script.number()
        if what & 8:
            sequence += script.byte() - 128
        if what & 16:
            action = np.array([script.number() for _ in range(2 + script.byte() // 250)])
        if what & 32:
            offered = bool(script.byte() & 1)
        if what & 64:
            if script.byte() & 1:
                prediction = np.array([script.number()])
            else:
                now_s += script.number()
                self.now_s = now_s if math.isfinite(now_s) else self.now_s
        stamped = {"base": Reading(stamp_s, sequence, signals)}
        said = Proposal(stamp_s, sequence, action, proposal.contract_hash)
        return now_s, stamped, said if offered else None, prediction

    def go(self) -> None:
        """Begin an episode, reset and arm, where the monitor lets us."""
        self.monitor.disarm()
        if self.monitor.state <= State.READY:
            self.monitor.begin_episode(self.now_s)
        for _ in range(2):
            self.step(None, (0.0, 0.0))
        look = self.monitor.look(self.now_s, self.sources())
        self.monitor.reset(look)
        self.monitor.arm(look)


def fuzz_monitor(data: bytes) -> None:
    """No inputs raise, or move a robot beyond its limits, its rates, its state or its budget."""
    play_monitor(data)


def play_monitor(data: bytes) -> int:
    """Return how many steps were made."""
    base, script = Base(), Script(data)
    base.go()
    while script:
        what = script.byte()
        if what < 160:
            base.step(None, ((what % 16 - 8) / 8.0, (what // 16 - 5) / 2.5))
        elif what < 240:
            base.step(script, (0.5, 0.5))
        elif what < 252:
            base.pose = [0.0, 0.0, 0.0]
            base.go()
        elif what == 252:
            base.monitor.stop("event", "scripted")
        elif what == 253:
            base.monitor.disarm()
        elif what == 254:
            base.monitor.reset(base.monitor.look(script.number(), base.sources()))
        else:
            base.monitor.arm(base.monitor.look(script.number(), base.sources()))
    return base.steps


TARGETS: dict[str, Callable[[bytes], None]] = {
    "device": fuzz_device,
    "link": fuzz_link,
    "contract": fuzz_contract,
    "expression": fuzz_expression,
    "log": fuzz_log,
    "monitor": fuzz_monitor,
}

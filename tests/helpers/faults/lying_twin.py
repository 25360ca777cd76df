"""A twin that lies: the real run loop, monitor, link and device in one process, in lockstep.

Lies are told between what the twin's board measures and the monitor's reading of it, between the
monitor's verdict and the device, and by the clock of the run. What the robot does is told by the
simulation, to which nobody lies.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pty
import tty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.contract import Contract
from holdfast.errors import HoldfastError
from holdfast.robot import config as configs
from holdfast.robot.config import RobotConfig
from holdfast.robot.run.by_count import EpisodesByCount
from holdfast.robot.run.loop import Loop
from holdfast.robot.run.session import Session
from holdfast.robot.serial.device import Device
from holdfast.robot.serial.robot import SerialRobot
from holdfast.safety_monitor.messages import Proposal, Reading, State
from holdfast.safety_monitor.monitor import Monitor
from holdfast.signals import Array
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.registry import resolve
from holdfast.sim.tasks.task import Task
from holdfast.sim.twin.board import TwinBoard
from holdfast.sim.twin.truth import Truth
from tests.helpers.faults.lies import ABSENT, KINDS, PERIOD_S, QUANTITIES, tell, turned

GROUPS = {
    "position": ("position",),
    "heading": ("heading",),
    "forward_speed": ("forward_speed",),
    "yaw_rate": ("yaw_rate",),
    "tilt": ("tilt",),
    "pose": ("position", "heading"),
    "speeds": ("forward_speed", "yaw_rate"),
    "all signals": ("position", "heading", "forward_speed", "yaw_rate", "tilt"),
}
"""What is lied about together, by name."""

FENCE_M = 3.0
RADIUS_M = 0.18
"""Radius of the robot, m: a robot that turns on the spot moves at its rim."""

STANDS_M_S = 0.03
DECELERATION_M_S2, REACTION_S = 2.0, 0.2
"""As config/drive.yaml has them: the stopping distance from a speed v is v t + v²/2a."""

SEEN_S, STANDING_S = 1.0, 1.5
"""The deadlines, from when a lie shows."""


@dataclasses.dataclass(frozen=True)
class Situation:
    """What the policy does: before the lie and for a while after, then.

    Attributes:
        first, then: forward speed in m/s and yaw rate in rad/s.
        change_s: after the lie began.
        horizon_s: how long the robot is watched after the lie began.
    """

    first: tuple[float, float]
    then: tuple[float, float]
    change_s: float
    horizon_s: float


SITUATIONS = {
    "standing": Situation((0.0, 0.0), (0.0, 0.0), 0.0, 3.0),
    "setting off": Situation((0.0, 0.0), (1.0, 0.0), 0.5, 7.0),
    "turning": Situation((0.4, 1.0), (0.4, 1.0), 0.0, 6.0),
    "full speed": Situation((1.0, 0.0), (1.0, 0.0), 0.0, 7.0),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One try: what lies, how, while the robot does what, and with which random numbers.

    Attributes:
        kind: of `lies.KINDS`, NONE or ABSENT.
        about: of GROUPS, or "stamps", "messages", "clock" or "command".
        situation: of SITUATIONS.
        gapped: the twin is the demo's, which differs from the simulator's.
        config: the robot's configuration file; None: config/drive.yaml.
    """

    kind: str
    about: str
    situation: str
    seed: int
    gapped: bool = False
    config: Path | None = None


class Witness(TwinBoard):
    """A twin that writes down what it does and is told.

    Attributes:
        track: time in s, x and y in m, and the speed of its rim in m/s, after each period.
        told: time in s, and whether the motors were told to move.
    """

    def __init__(self, task: Task, gap: Parameters, seed: int) -> None:
        self.track: list[tuple[float, float, float, float]] = []
        self.told: list[tuple[float, bool]] = []
        super().__init__(task, gap, seed, True, Truth(task, seed, None))

    def advance(self) -> None:
        super().advance()
        self.note()

    def note(self) -> None:
        """Write down where it is, and how fast."""
        x, y = self.data.qpos[:2].tolist()
        vx, vy, _, _, _, turn = self.data.qvel[:6].tolist()
        speed = math.hypot(vx, vy, RADIUS_M * turn)
        self.track.append((self.now_us() / 1e6, x, y, speed))

    def actuate(self, values: tuple[float, ...]) -> None:
        super().actuate(values)
        self.told.append((self.now_us() / 1e6, any(values)))

    def halt(self) -> None:
        super().halt()
        self.told.append((self.now_us() / 1e6, False))


@contextmanager
def connected(board: TwinBoard) -> Iterator[SerialRobot]:
    """Connect to a board in lockstep, over a pty whose device answers while it is being told.

    So a period takes what its computations take, however busy the machine is.
    """
    master, slave = pty.openpty()
    tty.setraw(slave)
    device = Device(board)

    class Told(SerialRobot):
        def _put(self, data: bytes) -> None:
            device.feed(data)
            os.write(master, device.poll())

    try:
        robot = Told.connect(f"serial:{os.ttyname(slave)}")
        yield robot
        robot.close()
    finally:
        os.close(slave)
        os.close(master)


class Liar:
    """A robot between the run loop and the real one, with which it shares all but its lies.

    Attributes:
        armed_s: when it was armed, on the honest clock; infinity before.
        lies: time on the honest clock, and how large the lie was, as a share of what shows.
        now: the honest clock, as of the newest reading.
    """

    def __init__(self, robot: SerialRobot, case: Case, begins_s: float) -> None:
        self._robot, self._begins_s = robot, begins_s
        self._kind, self._about = case.kind, case.about
        self.armed_s = math.inf
        self.now = 0.0
        self.lies: list[tuple[float, float, float]] = []
        self._waited_s = 0.0
        self._message: Mapping[str, Reading] | None = None
        self._messages: list[tuple[float, Mapping[str, Reading]]] = []
        rng = np.random.default_rng([case.seed, 7])
        names = GROUPS.get(case.about, (case.about,))
        told = case.kind in KINDS and case.about != "messages"
        self._lies = {n: tell(case.kind, QUANTITIES[n], rng) for n in names} if told else {}
        late = case.about == "messages" and case.kind in KINDS
        self._holds = tell(case.kind, QUANTITIES["clock"], rng) if late else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._robot, name)

    @property
    def _since_s(self) -> float:
        return self._robot.now_s() - self.armed_s - self._begins_s

    def _tell(self, name: str, honest: Array) -> Array:
        """Return what is told of a quantity, and write down how large a lie that is."""
        if name not in self._lies:
            return honest
        told = self._lies[name](self._since_s, honest)
        self._note(name, told - honest)
        return told

    def _note(self, name: str, wrong: Array) -> None:
        quantity = QUANTITIES[name]
        if quantity.turns:
            wrong = turned(wrong)
        size = float(np.abs(wrong).max())
        size = size if math.isfinite(size) else math.inf
        self.lies.append((self._robot.now_s(), size / quantity.shows, size / quantity.harms))

    # What lies in the robot's interface.

    def arm(self) -> None:
        self._robot.arm()
        self.armed_s = self._robot.now_s()

    def now_s(self) -> float:
        return float(self._tell("clock", np.array([self._robot.now_s()]))[0])

    def wait(self, until_s: float) -> None:
        if "clock" in self._lies and self._since_s >= 0.0:
            until_s = self._waited_s + PERIOD_S  # the world's time goes on all the same
        self._waited_s = until_s
        self._robot.wait(until_s)

    def readings(self) -> Mapping[str, Reading]:
        honest = self._robot.readings()
        self.now = self._robot.now_s()
        if self._about == "messages":
            return self._late(honest)
        return {name: self._reading(reading) for name, reading in honest.items()}

    def _reading(self, reading: Reading) -> Reading:
        signals = {name: self._tell(name, value) for name, value in reading.signals.items()}
        if self._kind == ABSENT and self._since_s >= 0.0 and self._about in GROUPS:
            self.lies.append((self.now, math.inf, math.inf))
            signals = {k: v for k, v in signals.items() if k not in GROUPS[self._about]}
        stamp_s = float(self._tell("stamps", np.array([reading.stamp_s]))[0])
        return Reading(stamp_s, reading.sequence, signals)

    def _late(self, honest: Mapping[str, Reading]) -> Mapping[str, Reading]:
        """Return the messages that have come so far, each with its own honest stamp."""
        since_s = self._since_s
        self._messages.append((self.now, honest))
        if self._kind == ABSENT:
            newest_s = min(self.now, self.armed_s + self._begins_s)
        else:
            assert self._holds is not None
            newest_s = float(self._holds(since_s, np.array([self.now]))[0])
        self._note("clock", np.array([newest_s - self.now]))
        return [m for t, m in self._messages if t <= newest_s + 1e-9][-1]

    def send(self, action: Array, valid_for_s: float) -> None:
        if self._about == "command" and self._kind == ABSENT and self._since_s >= 0.0:
            self._note("command", np.array(action))
            return
        self._robot.send(self._tell("command", np.array(action)), valid_for_s)


class Driver:
    """Proposes what a situation asks for, whatever it is shown."""

    late = ended = False

    def __init__(self, contract: Contract, situation: Situation, begins_s: float) -> None:
        self._contract, self._situation = contract, situation
        self._change = (begins_s + situation.change_s) / contract.period_s
        self._moved = 0

    def ask(self, sequence: int, now_s: float, may_move: bool, observation: Array) -> None:
        first = self._moved < self._change
        action = (self._situation.first if first else self._situation.then) if may_move else (0, 0)
        self._moved += may_move
        self._proposal = Proposal(now_s, sequence, np.array(action, float), self._contract.hash)

    def answer(self, limit_s: float) -> tuple[Proposal, float] | None:
        return self._proposal, math.nan

    def status_text(self) -> str:
        return ""

    def faults(self) -> tuple[str, ...]:
        return ()


class Notes:
    """The loop's recorder: writes down what was said, on the honest clock.

    Attributes:
        said: time in s, code and state allowed.
        stopped: when and why the monitor stopped first; None: never.
    """

    def __init__(self, liar: Liar) -> None:
        self._liar = liar
        self.said: list[tuple[float, str, State]] = []
        self.stopped: tuple[float, str] | None = None

    def step(self, tick: Any) -> None:
        now = self._liar.now
        self.said += [(now, reason.code, reason.state) for reason in tick.verdict.reasons]
        if math.isfinite(self._liar.armed_s) and tick.verdict.state is State.STOPPED:
            code = min(
                tick.verdict.reasons, key=lambda r: (r.code == "fallback_ended", r.state)
            ).code
            self.stopped = self.stopped or (now, code)

    def event(self, now_s: float, name: str, code: str = "", text: str = "") -> None:
        if name == "stop" and math.isfinite(self._liar.armed_s):
            self.said.append((self._liar.now, code, State.STOPPED))
            self.stopped = self.stopped or (self._liar.now, code)

    def episode(self, now_s: float, result: Any) -> None:
        pass


@cache
def drive_config(path: Path | None) -> RobotConfig:
    return configs.load(path or configs.find("drive"))


@cache
def demo_gap() -> Parameters:
    from holdfast.sim.parameters.catalogue import load_gap
    from tests.helpers.robots.twins import GAP

    return load_gap(GAP)


def task_of(horizon_s: float) -> Task:
    """Return DriveCircle, for so long, and with budgets that stop nobody."""
    task = resolve("DriveCircle-v0").make()
    contract = task.contract
    costs = tuple(dataclasses.replace(c, limit=1e9, episode_cap=1e9) for c in contract.costs)
    steps = round(horizon_s / contract.period_s)
    task.contract = dataclasses.replace(contract, costs=costs, episode_steps=steps)
    return task


@dataclasses.dataclass(frozen=True)
class Motion:
    """What a robot did from a moment on, by the simulation's truth. Times in s; None: never.

    Attributes:
        moved: whether it moved at all.
        zero_s: from then on the motors were told to stand. standing_s: from then on it stood.
        beyond_m: how far outside of its fence it was at the most, at any time.
        after_m: how far it moved after the deadline. allowed_m: its stopping distance then.
    """

    moved: bool
    zero_s: float | None
    standing_s: float | None
    beyond_m: float
    after_m: float
    allowed_m: float

    @property
    def in_time(self) -> bool:
        """It moved no further after the deadline than its stopping distance."""
        return self.after_m <= self.allowed_m


def motion(board: Witness, from_s: float, stopped: bool) -> Motion:
    """Return what the robot did from a moment on.

    Args:
        stopped: something stopped it; else it stands only because the try was over.
    """
    deadline_s = from_s + SEEN_S
    moves, after_m, then = [], 0.0, 0.0
    for (before_s, *_), (t, _, _, speed) in pairwise(board.track):
        if t < from_s:
            continue
        moves += [t] if speed > STANDS_M_S else []
        after_m += speed * (t - before_s) if t > deadline_s else 0.0
        then = max(then, speed) if abs(t - deadline_s) <= PERIOD_S else then
    told = [t for t, on in board.told if on]
    zeros = [t for t, on in board.told if not on and not (told and t < told[-1])]
    stands = not moves or (stopped and moves[-1] < board.track[-1][0] - PERIOD_S)
    return Motion(
        moved=bool(moves),
        zero_s=max(zeros[0] - from_s, 0.0) if zeros and (stopped or not moves) else None,
        standing_s=(moves[-1] - from_s if moves else 0.0) if stands else None,
        beyond_m=max(0.0, *(max(abs(x), abs(y)) - FENCE_M for _, x, y, _ in board.track)),
        after_m=after_m,
        allowed_m=then * REACTION_S + then * then / (2.0 * DECELERATION_M_S2) + 0.02,
    )


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one try. Times in s from when the lie showed; None: never.

    Attributes:
        shows_s: when the lie grew larger than the noise, from when it began; None: never.
        first, seen_s: the first reason that was given, and when.
        stopped_by: why the robot was stopped; "" if nothing stopped it.
        verdict: see `judge`.
        noticed, noticed_s: the first reason that was given other than those of the fence, and when.
    """

    case: Case
    shows_s: float | None
    first: str
    seen_s: float | None
    stopped_by: str
    motion: Motion
    verdict: str
    noticed: str = ""
    noticed_s: float | None = None


def play(case: Case) -> Outcome:
    """Run one try."""
    rng = np.random.default_rng([case.seed, 3])
    begins_s = float(rng.uniform(0.6, 1.0))
    situation = SITUATIONS[case.situation]
    task = task_of(begins_s + situation.horizon_s)
    board = Witness(task, demo_gap() if case.gapped else Parameters(), case.seed)
    config = drive_config(case.config)
    with connected(board) as robot:
        liar = Liar(robot, case, begins_s)
        notes = Notes(liar)
        monitor = Monitor(task.contract, config.monitor)
        driver = Driver(task.contract, situation, begins_s)
        loop = Loop(liar, monitor, driver, None, notes, config)  # type: ignore[arg-type]
        session = Session(loop, config.ready_wait_s, lambda result: None)
        with suppress(HoldfastError):
            EpisodesByCount(session, prompt=False).run(1)
        for _ in range(40):  # it rolls out
            board.advance()
    return judge(case, board, liar, notes, begins_s)


def judge(case: Case, board: Witness, liar: Liar, notes: Notes, begins_s: float) -> Outcome:
    """Say what became of a try.

    Returns:
        An outcome whose verdict is "stopped": the robot was stopped, and moved no further after
        the deadline than its stopping distance; "harmless": the lie never showed, the robot
        stood all the time, or from the deadline on, for as long as the robot moved, the lie was
        within the robot's margins, and the robot inside of its fence; "stands": the robot
        moved no further, but nobody stopped it; "held": the robot drove on, and was stopped
        inside of its fence; else "FAILS".
    """
    begins_s += liar.armed_s
    shows = [t for t, shown, _ in liar.lies if shown >= 1.0 and t >= begins_s - 1e-6]
    from_s = shows[0] if shows else begins_s
    stopped = notes.stopped is not None
    moved = motion(board, from_s, stopped)
    said = [(t, code) for t, code, _ in notes.said if t >= begins_s - 1e-6]
    matters_s = from_s if moved.in_time else from_s + SEEN_S
    rests_s = from_s + (math.inf if moved.standing_s is None else moved.standing_s)
    by_fence = ("geofence", "fallback_ended")
    noticed = [(t, code) for t, code in said if not any(word in code for word in by_fence)]
    harm = max((h for t, _, h in liar.lies if matters_s <= t <= rests_s), default=0.0)
    if not shows or not moved.moved:
        verdict = "harmless"
    elif moved.in_time and stopped:
        verdict = "stopped"
    elif harm < 1.0 and not moved.beyond_m:
        verdict = "harmless"
    elif moved.in_time:
        verdict = "stands"
    elif not moved.beyond_m and SITUATIONS[case.situation].then[0] == 1.0 and stopped:
        verdict = "held"
    else:
        verdict = "FAILS"
    return Outcome(
        case=case,
        shows_s=from_s - begins_s if shows else None,
        first=said[0][1] if said else "",
        seen_s=said[0][0] - from_s if said else None,
        stopped_by=notes.stopped[1] if notes.stopped else "",
        motion=moved,
        verdict=verdict,
        noticed=noticed[0][1] if noticed else "",
        noticed_s=noticed[0][0] - from_s if noticed else None,
    )

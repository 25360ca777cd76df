"""`holdfast replay`: put a log through a new safety monitor, with the calls of the run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console

from holdfast.bundle import reader as bundles
from holdfast.errors import ConfigError, HoldfastError, LogError
from holdfast.log import reader as logs
from holdfast.log.audit import require_bundle, require_log_prob
from holdfast.log.evidence import count
from holdfast.log.format import NO_STEP, TORN, WITHOUT_RETURN, RunInfo, signal_sizes
from holdfast.log.reader import Event, Log
from holdfast.plain import counted
from holdfast.robot import config as configs
from holdfast.robot.run.reward import RewardModel
from holdfast.safety_monitor.evidence import Evidence
from holdfast.safety_monitor.limits import Limits
from holdfast.safety_monitor.messages import Proposal, Reading, Reason, State
from holdfast.safety_monitor.monitor import Monitor
from holdfast.signals import Array


@dataclass(frozen=True)
class Replayed:
    """The verdicts of a new monitor on a log: a row for each row of `Log.steps`.

    Attributes:
        observation: (rows, n). applied: (rows, actions). costs: (rows, costs).
        state, intervened: (rows,). reasons: codes of each row's verdict.
        refusals: first code of each reset and arm that is now answered otherwise; "" if it is
            now allowed.
        complaints: why the log's limits would be refused today, a sentence each.
        returns: reward return of each episode by its number, computed from the logged signals;
            None where it is not known.
    """

    observation: Array
    applied: Array
    costs: Array
    state: NDArray[np.uint8]
    intervened: NDArray[np.bool_]
    reasons: tuple[tuple[str, ...], ...]
    refusals: Mapping[Event, str]
    complaints: tuple[str, ...]
    returns: Mapping[int, float | None]

    def differs(self, log: Log) -> NDArray[np.bool_]:
        """Return, per row, whether the new verdict differs from the logged one."""
        steps = log.steps
        different: NDArray[np.bool_] = steps["state"] != self.state
        different |= steps["intervened"] != self.intervened
        reasons = zip(log.reasons, self.reasons, strict=True)
        different |= np.array([old != new for old, new in reasons], dtype=bool)
        for name in ("observation", "applied", "costs"):
            different |= _unequal(steps[name], getattr(self, name))
        different[[event.before for event in self.refusals]] = True
        return different

    def acts_otherwise(self, log: Log) -> NDArray[np.bool_]:
        """Return, per row, whether the action let through differs from the logged one."""
        return _unequal(log.steps["applied"], self.applied)


def _unequal(a: Array, b: Array) -> NDArray[np.bool_]:
    """Return which rows of (rows, size) differ in a bit; two NaNs do not differ."""
    unequal: NDArray[np.bool_] = ((a != b) & ~(np.isnan(a) & np.isnan(b))).any(axis=1)
    return unequal


@dataclass
class _Replay:
    """A new monitor, and the calls that the run's monitor got."""

    log: Log
    monitor: Monitor
    evidence: Evidence | None
    begun: int = 0
    counted: int = 0
    sources: Mapping[str, Reading] = field(default_factory=dict)
    refusals: dict[Event, str] = field(default_factory=dict)
    returns: dict[int, float] = field(default_factory=dict)

    def run(self, complaints: tuple[str, ...]) -> Replayed:
        log, events = self.log, list(reversed(self.log.events))
        observations, verdicts = [], []
        reward = RewardModel(log.info.contract)
        nothing = math.nan if log.info.contract.reward is None else 0.0
        for index, row in enumerate(log.steps):
            while events and events[-1].before <= index:
                self._event(events.pop())
            self.sources = _readings(log.info, row)
            proposal = None
            if row["proposal_present"]:
                proposal = Proposal(
                    float(row["proposal_stamp_s"]),
                    int(row["proposal_sequence"]),
                    row["proposed"].copy(),
                    log.info.contract.hash,
                )
            cost_to_go = row["cost_to_go"].copy() if log.info.critics else None
            look = self.monitor.look(float(row["now_s"]), self.sources)
            observations.append(look.observation)
            if row["step"] != NO_STEP:
                number = int(row["episode"])
                total = self.returns.setdefault(number, nothing)
                if row["step"] > 0:  # no action of this episode led to its first reading
                    self.returns[number] = total + reward.step(self.sources)
            verdicts.append(self.monitor.step(look, proposal, cost_to_go))
        contract, rows = log.info.contract, len(verdicts)
        return Replayed(
            observation=np.array(observations).reshape(rows, contract.observation_size),
            applied=np.array([v.action for v in verdicts]).reshape(rows, contract.action_size),
            costs=np.array([v.costs for v in verdicts]).reshape(rows, len(contract.costs)),
            state=np.array([v.state for v in verdicts], dtype=np.uint8),
            intervened=np.array([v.intervened for v in verdicts], dtype=bool),
            reasons=tuple(tuple(reason.code for reason in v.reasons) for v in verdicts),
            refusals=self.refusals,
            complaints=complaints,
            returns={n: x if math.isfinite(x) else None for n, x in self.returns.items()},
        )

    def _event(self, event: Event) -> None:
        monitor = self.monitor
        if event.name == "begin_episode":
            if monitor.state > State.READY:
                raise LogError("an episode begins while the one before it goes on")
            self._count_episodes()
            monitor.begin_episode(event.now_s)
        elif event.name == "disarm":
            monitor.disarm()
        elif event.name == "stop":
            monitor.stop(event.code, event.text)
        elif event.name in ("reset", "arm"):
            refused: tuple[Reason, ...] = ()
            look = monitor.look(event.now_s, self.sources)
            if event.name == "reset" or monitor.state is State.STOPPED:
                # STOPPED at an arm: the new monitor stopped the last episode where the run's
                # did not, and the run would have reset it.
                refused = monitor.reset(look)
            if event.name == "arm":
                refused = refused or monitor.arm(look)
            code = refused[0].code if refused else ""
            if code != event.code:
                self.refusals[event] = code
        else:
            raise LogError(f"its event '{event.name}' is not known")

    def _count_episodes(self) -> None:
        """Add the episodes that ended before this one to the evidence, as the run did."""
        results = [episode.result for episode in self.log.episodes]
        while self.counted < len(results) and results[self.counted].episode < self.begun:
            if self.evidence is not None:
                count(self.evidence, results[self.counted])
            self.counted += 1
        self.begun += 1


def _readings(info: RunInfo, row: np.void) -> dict[str, Reading]:
    signals: dict[str, dict[str, Array]] = {source: {} for source in info.sources}
    start = 0
    for (source, name), size in signal_sizes(info.sources).items():
        signals[source][name] = row["signals"][start : start + size].copy()
        start += size
    stamps, sequences = row["signal_stamps_s"].tolist(), row["signal_sequences"].tolist()
    heard = zip(info.sources, stamps, sequences, strict=True)
    return {
        name: Reading(stamp, number, signals[name])
        for name, stamp, number in heard
        if not math.isnan(stamp)
    }


def replay(log: Log, limits: Limits | None = None) -> Replayed:
    """Put a log through a new monitor, with the run's calls in their order.

    A log's own limits were legal in its day: where they contradict its contract by what is asked
    of limits now, they are used all the same.

    Args:
        limits: limits of the new monitor; None: the run's.

    Raises:
        LogError: steps are missing in the log, or its limits are not known any more.
        ConfigError: the given limits contradict the log's contract.
    """
    info = log.info
    if not len(log.steps):
        raise LogError(f"{log.path}: holds no period, so there is nothing to replay{log.remarks}")
    if log.lost_steps:
        raise LogError(
            f"{log.path}: {log.lost_steps} periods were not logged, so a monitor cannot be "
            "told all that the run's was"
        )
    try:
        evidence = None
        if info.evidence is not None:
            evidence = Evidence(info.contract, info.episode_cap)
            evidence.restore(info.evidence)
        complaints: list[str] = []
        used = limits or Limits.from_mapping(info.limits)
        complain = None if limits else complaints.append
        monitor = Monitor(
            info.contract,
            used,
            info.episode_cap,
            info.familiarity,
            evidence,
            info.prediction,
            complain,
        )
        return _Replay(log, monitor, evidence).run(tuple(complaints))
    except (HoldfastError, ValueError, TypeError, KeyError) as error:
        # Errors other than ours: metadata of the right types with contents that no run writes.
        kind = LogError if limits is None else ConfigError
        raise kind(f"{log.path}: cannot be replayed ({error})") from None


def command(
    log: Annotated[tuple[Path, ...], tyro.conf.Positional],
    limits: Path | None = None,
    policy: Path | None = None,
) -> int:
    """Put logged runs through today's safety monitor, and compare the verdicts.

    Exit status: 0 when all verdicts agree; 1 when a verdict differs. With --limits it is 0 in both
    cases.

    Args:
        log: directories of runs, or log files; a torn log is replayed up to the tear.
        limits: a robot's configuration file, as for deploy's --config, whose monitor section
            replaces the logged limits. The result holds up to the first action that differs: after
            it the robot would not have been where the log says it was.
        policy: the bundle that ran, with which the logged log-probabilities are computed again.
    """
    if not log:
        raise LogError("which log? Give a run's directory or its .mcap file")
    console = Console(highlight=False, soft_wrap=True, markup=False)
    config = None if limits is None else configs.load(limits)
    bundle = None if policy is None else bundles.load(policy)
    agree = True
    for path in log:
        held = logs.read(path)
        if bundle is not None:
            _compare_log_prob(held, bundle, console)
        if config is None:
            agree &= _compare(held, replay(held), console)
        else:
            config.require_fit(held.info.contract)
            _suppose(held, replay(held, config.monitor), console)
    return 0 if agree or config is not None else 1


def _compare_log_prob(log: Log, bundle: bundles.Bundle, console: Console) -> None:
    """Print that the logged log-probabilities are the bundle's, or raise LogError."""
    require_bundle(log, bundle)
    sampled = sum(require_log_prob(log, episode, bundle) for episode in log.episodes)
    console.print(f"{log.path}: {sampled} log-probabilities are those of {bundle.path}")


def _compare(log: Log, now: Replayed, console: Console) -> bool:
    """Print where verdicts differ; return whether all verdicts agree."""
    for complaint in now.complaints:
        console.print(f"{log.path}: its limits would be refused today ({complaint})")
    steps, differs = log.steps, now.differs(log)
    numbers = np.unique(steps["episode"][differs]).tolist()
    for number in numbers:
        rows = np.flatnonzero(steps["episode"] == number)
        odd = rows[differs[rows]]
        first = int(odd[0])
        step, seconds = int(steps["step"][first]), float(steps["now_s"][first] - steps["now_s"][0])
        where = "before its first step" if step == NO_STEP else f"at step {step}"
        console.print(
            f"episode {number}: {len(odd)} of {len(rows)} periods differ, first {where}, "
            f"{seconds:.2f} s into the log"
        )
        said = (steps["state"][first], log.reasons[first], steps["applied"][first])
        says = (now.state[first], now.reasons[first], now.applied[first])
        console.print(f"  logged: {_say(*said)}\n  now:    {_say(*says)}")
        for event, code in now.refusals.items():
            if event.before == first:
                told = f"{event.name} was {_allowed(event.code)}, is now {_allowed(code)}"
                console.print(f"  {told}")
    wrong = list(_wrong_returns(log, now.returns))
    for sentence in wrong:
        console.print(sentence)
    total = (
        f"{log.path}: {counted(len(log.episodes), 'episode')}, {len(steps)} periods{log.remarks}: "
    )
    if numbers:
        total += f"{differs.sum()} differ, in {len(numbers)} of the episodes"
    else:
        total += "every verdict is as logged"
    console.print(total)
    return not numbers and not wrong


def _wrong_returns(log: Log, returns: Mapping[int, float | None]) -> Iterator[str]:
    """Yield a sentence for each episode whose logged return is not that of its signals."""
    for result in (episode.result for episode in log.episodes):
        if result.ended == TORN or log.info.format in WITHOUT_RETURN:
            continue
        logged, now = result.reward_return, returns.get(result.episode)
        if not _alike(logged, now):
            yield (
                f"episode {result.episode}: its return should be {_number(now)}, as its signals "
                f"say, received {_number(logged)}"
            )


def _alike(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    # The last bit of a sine may differ between two computers.
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.9g}"


def _say(state: int, reasons: tuple[str, ...], action: Array) -> str:
    values = ", ".join(f"{value:g}" for value in action)
    name = State(state).name if state in tuple(State) else f"state {state}, which is none"
    return f"{name}, action [{values}]" + (f": {', '.join(reasons)}" if reasons else "")


def _allowed(code: str) -> str:
    return f"refused ({code})" if code else "allowed"


def _suppose(log: Log, now: Replayed, console: Console) -> None:
    """Print a table: each episode under the logged limits, and under other limits."""
    steps, otherwise = log.steps, now.acts_otherwise(log)
    console.print(f"{log.path}: {counted(len(log.episodes), 'episode')}{log.remarks}")
    console.print(
        "episode  limits  ACTIVE  LIMITED  FALLBACK  interventions  stopped at  holds to  reasons"
    )
    for episode in log.episodes:
        number = episode.result.episode
        rows = np.flatnonzero((steps["episode"] == number) & (steps["step"] != NO_STEP))
        changed = steps["step"][rows][otherwise[rows]]
        holds = f"step {changed[0]}" if len(changed) else "its end"
        was = _row(rows, steps, steps["state"], steps["intervened"], log.reasons, "")
        new = _row(rows, steps, now.state, now.intervened, now.reasons, holds)
        console.print(f"{number:7}  logged{was}")
        console.print(f"{'':7}  new   {new}")
    console.print(
        "What the new limits say holds up to the step in 'holds to', the first whose action "
        "differs: after it the robot would not have been where the log says it was."
    )


def _row(
    rows: NDArray[np.intp],
    steps: NDArray[np.void],
    state: NDArray[np.uint8],
    intervened: NDArray[np.bool_],
    reasons: tuple[tuple[str, ...], ...],
    holds: str,
) -> str:
    """Return a line of the table: the verdicts on an episode's rows up to a stop."""
    stopped = np.flatnonzero(state[rows] == State.STOPPED)
    where = "-"
    if len(stopped):
        where = f"step {steps['step'][rows[stopped[0]]]}"
        rows = rows[: stopped[0] + 1]
    active, limited, fallback = (
        int((state[rows] == s).sum()) for s in (State.ACTIVE, State.LIMITED, State.FALLBACK)
    )
    codes = Counter(code for row in rows for code in reasons[row])
    said = ", ".join(f"{code} {times}" for code, times in codes.most_common())
    return (
        f"{active:8}{limited:9}{fallback:10}{int(intervened[rows].sum()):15}{where:>12}"
        f"{holds:>10}  {said}"
    )

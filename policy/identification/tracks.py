"""Recorded motion: what a robot was told and what its sensors said, from logs, cut to pieces.

A piece begins at rest. One from the midst of a motion begins a second early, so that the simulated
robot has come to the same motion when the comparison starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from holdfast.contract import Contract
from holdfast.errors import ConfigError, LogError
from holdfast.log.episodes import LoggedEpisode, episodes, runs
from holdfast.log.reader import Log
from holdfast.plain import counted
from holdfast.signals import Array
from holdfast.sim.registry import trained_on
from holdfast.sim.task_spec import TaskSpec
from holdfast.sim.tasks.task import Task

PIECE_S = 12.5
"""Longest time that is simulated at once without a look at the log."""

WARM_UP_S = 1.0
"""Time that a simulated robot is given to come to a motion that begins in the midst."""

WINDOW_S = 2.0
"""Time over which recorded and simulated motion are compared at once."""

LEAST_READ = 4
"""Poses in a window below which it tells too little."""

SHORTEST_S = 1.0
"""Motion that is shorter than this tells nothing."""

AT_REST = 0.05
"""Largest speed, m/s or rad/s, with which a robot counts as at rest."""

SPEEDS = ("forward_speed", "lateral_speed", "yaw_rate", "linear_velocity")


@dataclass(frozen=True, eq=False)
class Track:
    """One uninterrupted motion.

    Attributes:
        name: where it is from.
        actions: (K, actions), physical units, each held for one control period.
        signals: by name, (K + 1, size), as measured before the first and after each action.
        at_rest: the robot stood when it began.
    """

    name: str
    actions: Array
    signals: Mapping[str, Array]
    at_rest: bool

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of a track; `first` is the first row of the signals that is compared."""

    track: Track
    actions: Array
    signals: Mapping[str, Array]
    first: int

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class Recorded:
    """All motion of a robot.

    Attributes:
        sources: lines that say what was read, for the profile.
        left_out: sentences on what was not used.
    """

    task: Task
    tracks: tuple[Track, ...]
    sources: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def signals(self) -> dict[str, int]:
        """Names and sizes of the signals that all tracks have."""
        sizes = {n: v.shape[1] for n, v in self.tracks[0].signals.items()}
        return {n: s for n, s in sizes.items() if all(n in t.signals for t in self.tracks)}

    @property
    def seconds(self) -> float:
        """Length of all motion, s."""
        return sum(map(len, self.tracks)) * self.task.contract.period_s


def from_logs(paths: Sequence[Path], given: TaskSpec | None, any_robot: bool) -> Recorded:
    """Read the motion of logs.

    Args:
        given: the task, where it is no part of Holdfast.
        any_robot: logs of several robots may be mixed.

    Raises:
        LogError: a path is no log, a run is given twice, the logs are of several robots, or they
            hold no motion.
        ConfigError: the task has to be given, or another one was given.
    """
    tracks: list[Track] = []
    sources, said, disobeyed, short = [], [], 0, 0
    first: Log | None = None
    for run in runs(paths):
        first = first or run
        _require_same_robot(first, run, any_robot)
        task = _task_of(run.info.contract, given)
        if run.lost_steps:
            said.append(f"{counted(run.lost_steps, 'period')} of {run.path} that are not logged")
        for episode in episodes(run, task):
            if not episode.obeyed:
                disobeyed += 1
                continue
            parts = list(_parts(run, episode, task))
            tracks += parts
            short += not parts
        sources.append(f"{run.info.run} (SHA-256 {run.sha256()[:16]}){run.remarks}")
    if first is None or not tracks:
        raise LogError(
            f"{', '.join(map(str, paths))}: should hold an episode of {SHORTEST_S:g} s or more in "
            "which the robot obeyed"
        )
    names = [set(track.signals) for track in tracks]
    if missing := names[0].union(*names) - names[0].intersection(*names):
        said.append(f"signals that not every log has: {', '.join(sorted(missing))}")
    if disobeyed:
        said.append(f"{counted(disobeyed, 'episode')}, in which the robot may not have obeyed")
    if short:
        said.append(f"{counted(short, 'episode')} shorter than {SHORTEST_S:g} s")
    return Recorded(task, tuple(tracks), tuple(sources), tuple(said))


def _require_same_robot(first: Log, run: Log, any_robot: bool) -> None:
    """Raise LogError unless two runs are of one robot, told in the same way."""
    one, other = first.info.contract, run.info.contract
    for name in ("robot", "action", "period_s"):
        if getattr(one, name) != getattr(other, name):
            raise LogError(
                f"{first.path} and {run.path}: should be logs of one robot; their contracts differ "
                f"in {name}"
            )
    ids = [str(log.info.identity.get("hardware_id", "")) for log in (first, run)]
    if ids[0] != ids[1] and not any_robot:
        raise LogError(
            f"{first.path} and {run.path}: should be logs of one robot, received {ids[0]} and "
            f"{ids[1]}; give --any-robot if these are one robot, or alike"
        )


def _task_of(contract: Contract, given: TaskSpec | None) -> Task:
    spec = trained_on(contract.task, given)
    task = spec.make()
    for name in ("robot", "action", "period_s"):
        if getattr(task.contract, name) != getattr(contract, name):
            raise ConfigError(f"{spec}: its {name} should be as in the log's contract")
    return task


def _parts(run: Log, episode: LoggedEpisode, task: Task) -> Iterator[Track]:
    """Yield the parts of an episode between missed periods and readings that are not finite."""
    signals = {
        name: np.concatenate((episode.signals_at_start[name][None], values))
        for name, values in episode.signals.items()
        if not name.startswith("commanded_")
    }
    period_s = task.contract.period_s
    known = np.all([np.isfinite(values).all(axis=1) for values in signals.values()], axis=0)
    late = np.abs(np.diff(episode.now_s) - period_s) > 0.5 * period_s
    joined = known[:-1] & known[1:] & ~late & np.isfinite(episode.applied).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], joined.astype(np.int8), [0]))))
    for begin, end in edges.reshape(-1, 2).tolist():
        if (end - begin) * period_s < SHORTEST_S:
            continue
        part = {name: values[begin : end + 1] for name, values in signals.items()}
        yield Track(
            f"{run.info.run} episode {episode.result.episode}",
            episode.applied[begin:end],
            part,
            begin == 0 and stands(part),
        )


def stands(signals: Mapping[str, Array]) -> bool:
    """Return whether the first readings are of a robot at rest, as far as they tell."""
    speeds = [np.abs(signals[name][0]).max() for name in SPEEDS if name in signals]
    return bool(max(speeds, default=0.0) <= AT_REST)


def pieces(tracks: Sequence[Track], period_s: float, first_s: float | None) -> list[Piece]:
    """Cut tracks to pieces that are simulated at once.

    Args:
        first_s: only so much of each track's beginning is used, s; None: all of it.
    """
    longest, warm = round(PIECE_S / period_s), round(WARM_UP_S / period_s)
    if is_sparse(tracks, period_s):
        longest = max(map(len, tracks))
    shortest = round(SHORTEST_S / period_s)
    found = []
    for track in tracks:
        end = len(track) if first_s is None else min(len(track), round(first_s / period_s))
        first = 0 if track.at_rest else 1 + warm
        begin = 0
        while end - begin - first + 1 >= shortest:
            until = min(begin + longest + max(first - 1, 0), end)
            signals = {name: values[begin : until + 1] for name, values in track.signals.items()}
            found.append(Piece(track, track.actions[begin:until], signals, first))
            begin, first = until - warm, 1 + warm
    return found


def is_sparse(parts: Sequence[Track | Piece], period_s: float, window_s: float = WINDOW_S) -> bool:
    """Return whether less than four poses were read in most windows of a length."""
    name = "position" if "position" in parts[0].signals else next(iter(parts[0].signals))
    read = sum(int(np.isfinite(part.signals[name][:, 0]).sum()) for part in parts)
    return read * window_s < LEAST_READ * sum(map(len, parts)) * period_s


def require_motion(recorded: Recorded, paths: str) -> None:
    """Raise LogError if the robot hardly moved in all of its tracks."""
    window = round(WINDOW_S / recorded.task.contract.period_s)
    if is_sparse(recorded.tracks, recorded.task.contract.period_s):
        window = max(map(len, recorded.tracks))
    moved, turned = 0.0, 0.0
    for track in recorded.tracks:
        for begin in range(0, max(len(track) - window, 0) + 1, window):
            part = slice(begin, begin + window + 1)
            read = {name: values[part] for name, values in track.signals.items()}
            moved = max(moved, _range(read.get("position")))
            turned = max(turned, _range(read.get("heading")))
            if not {"position", "heading"} & read.keys():
                speeds = [np.abs(read[name]).mean() for name in SPEEDS if name in read]
                moved = max(moved, *speeds, 0.0)
    if moved < LEAST_MOVED and turned < LEAST_MOVED:
        raise LogError(
            f"{paths}: should hold motion, because what stands still tells nothing of mass, "
            f"friction, size, gain or delay; within {WINDOW_S:g} s the robot moved at most "
            f"{moved:.3f} m and turned at most {turned:.3f} rad"
        )


def _range(values: Array | None) -> float:
    """Return the largest difference of readings (rows, size), 0 without any."""
    if values is None:
        return 0.0
    values = values[np.isfinite(values).all(axis=1)]
    if values.shape[1] == 1:
        values = np.unwrap(values, axis=0)
    return float(np.ptp(values, axis=0).max()) if len(values) else 0.0


LEAST_MOVED = 0.1
"""Motion within two seconds, m or rad, below which it may be noise alone."""

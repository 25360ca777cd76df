"""Motion from a CSV file: stamps, commands, and whatever was measured.

    time,episode,command.forward_speed,command.yaw_rate,position.x,position.y,heading
    0.00,0,0.0,0.0,1.20,0.45,1.571
    0.05,0,0.1,0.0,,,

A command holds until the next one; an empty cell is nothing new. Each episode begins at rest.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from holdfast import files
from holdfast.errors import LogError
from holdfast.plain import counted, meant, shown
from holdfast.policy.identification.tracks import SHORTEST_S, Recorded, Track, stands
from holdfast.signals import CATALOGUE, Array
from holdfast.sim.tasks.task import Task

SUFFIX = ".csv"
MOST_BYTES = 2**28
COMMAND = "command."
NEAR = 2.5
"""Control periods between two readings up to which what lies between is interpolated."""

MOST_PERIODS = 1_000_000
"""Longest episode, in control periods: a longer one has a wrong stamp, or one in milliseconds."""

LARGEST = 1e9
"""Largest size of a number, in SI units; what is larger was not measured."""

_SIGNAL = re.compile(r"(?P<name>\w+)(\.(?P<axis>[xyz])|\[(?P<index>\d+)\])?")


def from_csv(paths: Sequence[Path], task: Task) -> Recorded:
    """Read the motion of CSV files.

    Raises:
        LogError: a file is no such table, lacks a command of the task's robot, or its times do not
            rise.
        FileError: a file cannot be read.
    """
    found = [track for path in paths for track in _tracks(path, task)]
    tracks = tuple(track for track in found if track is not None)
    if not tracks:
        raise LogError(
            f"{', '.join(map(str, paths))}: should hold an episode of {SHORTEST_S:g} s or more"
        )
    short = len(found) - len(tracks)
    left_out = (f"{counted(short, 'episode')} shorter than {SHORTEST_S:g} s",) if short else ()
    return Recorded(task, tracks, tuple(path.name for path in paths), left_out)


def _tracks(path: Path, task: Task) -> Iterator[Track | None]:
    """Yield the episodes of a file; None for one that is too short."""
    names, rows = _table(path)
    if "time" not in names:
        raise LogError(f"{path}: should have a column time, it has {shown(', '.join(names))}")
    commands = [COMMAND + channel.name for channel in task.contract.action]
    if missing := [name for name in commands if name not in names]:
        raise LogError(f"{path}: should have a column {missing[0]}, for robot {task.robot.name}")
    signals = _signals(path, [n for n in names if n not in ("time", "episode", *commands)])
    labels = [row[names.index("episode")] if "episode" in names else "" for row in rows]
    for label in dict.fromkeys(labels):
        part = [(i, row) for i, row in enumerate(rows) if labels[i] == label]
        lines = [i + 2 for i, _ in part]
        columns = {
            name: np.array([
                _number(path, line, name, row[names.index(name)])
                for line, (_, row) in zip(lines, part, strict=True)
            ])
            for name in names
            if name != "episode"
        }  # fmt: skip
        time = columns["time"]
        rises = np.diff(time) > 0.0
        if not np.isfinite(time).all() or not rises.all():
            at = lines[int(rises.argmin()) + 1] if np.isfinite(time).all() else lines[0]
            raise LogError(f"{path}: line {at}: time should rise within an episode")
        period_s = task.contract.period_s
        _require_together(path, lines, time, MOST_PERIODS * period_s)
        grid = time[0] + period_s * np.arange(int((time[-1] - time[0]) / period_s + 1e-6) + 1)
        if grid[-1] - grid[0] < SHORTEST_S:
            yield None
            continue
        told = np.stack([_held(time, columns[name], grid[:-1]) for name in commands], axis=1)
        read = {
            name: np.stack(
                [_read(time, columns[c], grid, period_s, name == "heading") for c in of], axis=1
            )
            for name, of in signals.items()
        }
        yield Track(f"{path.name} episode {label}".strip(), told, read, stands(read))


def _require_together(path: Path, lines: Sequence[int], time: Array, most_s: float) -> None:
    """Raise LogError if an episode is longer than any is, because of a wrong stamp."""
    if time[-1] - time[0] > most_s:
        at = int(np.diff(time).argmax()) + 1
        raise LogError(
            f"{path}: line {lines[at]}: time should be in seconds, within {most_s:g} s of the "
            f"episode's first; received {time[at]:g} after {time[at - 1]:g}"
        )


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        text = files.read(path, MOST_BYTES).decode("utf-8-sig")
        rows = [row for row in csv.reader(text.splitlines(), strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise LogError(f"{path}: should be a CSV table in UTF-8 ({error})") from None
    if len(rows) < 2:
        raise LogError(f"{path}: should have a line of column names and lines of numbers")
    names = [name.strip() for name in rows[0]]
    if len(set(names)) < len(names):
        raise LogError(f"{path}: each column should have a name of its own")
    for i, row in enumerate(rows[1:]):
        if len(row) != len(names):
            raise LogError(
                f"{path}: line {i + 2} should have {len(names)} cells, received {len(row)}"
            )
    return names, rows[1:]


def _signals(path: Path, columns: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns of each signal, in the order of its numbers."""
    found: dict[str, dict[int, str]] = {}
    for column in columns:
        match = _SIGNAL.fullmatch(column)
        if match is None or column.startswith(COMMAND):
            raise LogError(
                f"{path}: a column should be time, episode, command.CHANNEL, or a signal as "
                f"heading, position.x or joint_position[0]; received {shown(repr(column))}"
            )
        if match["name"] not in CATALOGUE and (guess := meant(match["name"], CATALOGUE)):
            raise LogError(f"{path}: unknown signal {shown(match['name'])}{guess}")
        index = "xyz".index(match["axis"]) if match["axis"] else int(match["index"] or 0)
        found.setdefault(match["name"], {})[index] = column
    for name, by_index in found.items():
        if sorted(by_index) != list(range(len(by_index))):
            raise LogError(f"{path}: {name} lacks one of its numbers")
    if not found:
        raise LogError(f"{path}: should have a column of a signal, as position.x or heading")
    return {name: [by_index[i] for i in sorted(by_index)] for name, by_index in found.items()}


def _number(path: Path, line: int, name: str, cell: str) -> float:
    if not cell.strip():
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise LogError(f"{path}: line {line}: {name} should be a number, received {shown(cell)}")
    if abs(value) > LARGEST and name != "time":
        raise LogError(
            f"{path}: line {line}: {name} should be at most {LARGEST:g} in size, in SI units, "
            f"received {shown(cell)}"
        )
    return value


def _held(time: Array, values: Array, grid: Array) -> Array:
    """Return the newest command at each time of a grid; 0 before the first."""
    given = np.isfinite(values)
    at = np.searchsorted(time[given], grid + 1e-9, side="right") - 1
    return np.where(at >= 0, np.append(values[given], 0.0)[at], 0.0)


def _read(time: Array, values: Array, grid: Array, period_s: float, angle: bool) -> Array:
    """Return what was read at each time of a grid; NaN where nothing was.

    Between two readings that are near each other it is interpolated; one that stands alone is
    taken for the nearest time.
    """
    read = np.isfinite(values)
    stamps, values = time[read], values[read]
    if not len(stamps):
        return np.full(len(grid), np.nan)
    values = np.unwrap(values) if angle else values
    found: Array = np.interp(grid, stamps, values)
    after = np.clip(np.searchsorted(stamps, grid), 1, max(len(stamps) - 1, 1))
    near = np.full(len(grid), len(stamps) > 1)
    if len(stamps) > 1:
        near = stamps[after] - stamps[after - 1] <= NEAR * period_s
    near &= (grid >= stamps[0] - 1e-9) & (grid <= stamps[-1] + 1e-9)
    found[~near] = np.nan
    nearest = np.clip(np.rint((stamps - grid[0]) / period_s).astype(int), 0, len(grid) - 1)
    alone = np.isnan(found[nearest])
    found[nearest[alone]] = values[alone]
    return found

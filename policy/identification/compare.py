"""How far simulated motion is from recorded motion, signal by signal, window by window.

Where a robot is does not matter to how it moves on level ground, and where it faces only a little.
So within each window the simulated pose is first laid over the measured one (a rotation and a
shift), which averages the sensors' noise; what is then left is the mismatch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import ConfigError, LogError
from holdfast.plain import meant
from holdfast.policy.identification.tracks import WINDOW_S, Piece, is_sparse
from holdfast.signals import Array
from holdfast.sim.tasks.task import Task

USUAL = (
    *("position", "heading", "linear_velocity", "forward_speed", "lateral_speed", "yaw_rate"),
    *("joint_position", "joint_velocity"),
)
"""Signals that are compared where none are named: those of the motion in the plane."""

FLOOR = 1e-3
"""Least scale of a mismatch, in SI units: no model is better."""

AVERAGED_S = 0.5
"""Time over which the pose at the start of a prediction is averaged."""

Mismatch = dict[str, Array]
"""By signal, (C, windows, rows, size); 0 where a window has no row."""


def compared(task: Task, measured: Mapping[str, int], named: Sequence[str]) -> dict[str, int]:
    """Return the names and sizes of the signals to compare.

    Raises:
        ConfigError: the recording or the simulated robot lacks a named signal, or there is none.
    """
    model = task.robot.load_model()
    body = task.robot.signals(np.zeros((1, model.nq)), np.zeros((1, model.nv)))
    body |= task.robot.sensed(np.zeros((1, model.nsensordata)))
    known = {n: s for n, s in measured.items() if n in body and body[n].shape[-1] == s}
    for name in named:
        if name not in known:
            guess = meant(name, known) or f"; both have {', '.join(known)}"
            raise ConfigError(
                f"signals: '{name}' should be in the recording and of the simulated robot{guess}"
            )
    names = tuple(named) or tuple(name for name in USUAL if name in known)
    if not names:
        raise ConfigError(
            f"signals: the recording should hold one of {', '.join(USUAL)} that the simulated "
            f"robot has too; it holds {', '.join(measured)}"
        )
    return {name: known[name] for name in names}


@dataclass(frozen=True)
class Windows:
    """The windows of some pieces.

    Attributes:
        piece: (windows,), which piece each is of.
        rows: (windows, rows), rows of the piece's signals.
        valid: by signal, (windows, rows, 1), whether there is such a row, with a reading.
    """

    piece: NDArray[np.intp]
    rows: NDArray[np.intp]
    valid: Mapping[str, NDArray[np.bool_]]


class Comparison:
    """Recorded pieces, and the mismatch of simulated ones.

    Args:
        task: the robot.
        pieces: T of them.
        names: names and sizes of the signals that are compared.
        window_s: length of a window, s.

    Raises:
        LogError: there is nothing to compare.

    Attributes:
        actions: (T, K, actions).
        measured: by signal, (T, K + 1, size), NaN where nothing was read.
        windows: where they are compared. numbers: by signal, how many numbers are compared that a
            shift of the window does not make alike.
    """

    def __init__(
        self,
        task: Task,
        pieces: Sequence[Piece],
        names: Mapping[str, int],
        window_s: float = WINDOW_S,
    ) -> None:
        self.task, self.pieces, self.names = task, tuple(pieces), dict(names)
        self.window_s = window_s
        self.period_s = task.contract.period_s
        longest = max(map(len, pieces))
        self.actions = np.zeros((len(pieces), longest, task.contract.action_size))
        shape = (len(pieces), longest + 1)
        self.measured = {n: np.full((*shape, s), np.nan) for n, s in names.items()}
        for i, piece in enumerate(pieces):
            self.actions[i, : len(piece)] = piece.actions
            for name, values in self.measured.items():
                values[i, : len(piece) + 1] = piece.signals[name]
        for name in task.robot.sensed(np.zeros((1, task.robot.load_model().nsensordata))):
            if name in self.measured:  # a simulation has no sensor's reading before its first step
                self.measured[name][:, 0] = np.nan
        self.windows = self._windows()
        self.numbers = {name: self._numbers(name) for name in names}
        if not sum(self.numbers.values()):
            raise LogError(
                "the recording holds less than two readings in each motion; nothing can be compared"
            )

    def turns(self, every_s: float) -> Array:
        """Return the measured headings (T, K + 1) at the start of each piece, and then every so
        many seconds; NaN at other times.

        A simulated robot is turned to them, so that it does not face elsewhere in the long run.
        """
        found = np.full((len(self.pieces), self.actions.shape[1] + 1), np.nan)
        once = self.sparse or np.isinf(every_s)
        for i, piece in enumerate(self.pieces):
            step = len(piece) if once else round(every_s / self.period_s)
            rows = range(piece.first, len(piece), step)
            for row in (0, *rows):
                if "heading" in piece.signals:
                    found[i, row] = piece.signals["heading"][row, 0]
        return found

    def _windows(self) -> Windows:
        width = max(round(self.window_s / self.period_s), 2)
        if self.sparse:
            width = max(map(len, self.pieces)) + 1
        found = [
            (i, begin, min(width, len(piece) + 1 - begin))
            for i, piece in enumerate(self.pieces)
            for begin in range(piece.first, len(piece) + 1, width)
        ]
        found = [each for each in found if each[2] * 2 >= width] or found
        piece, begin, length = (np.array(column, np.intp) for column in zip(*found, strict=True))
        offset = np.arange(width)
        inside = offset < length[:, None]
        rows = begin[:, None] + np.minimum(offset, length[:, None] - 1)
        read = {name: np.isfinite(values).all(axis=-1) for name, values in self.measured.items()}
        valid = {name: (inside & at[piece[:, None], rows])[..., None] for name, at in read.items()}
        return Windows(piece, rows, valid)

    def _numbers(self, name: str) -> int:
        readings = self.windows.valid[name].sum(axis=(1, 2))
        if name in ("position", "heading") or (name == "joint_position" and self._endless.any()):
            readings = np.maximum(readings - 1, 0)
        return int(readings.sum()) * self.names[name]

    @cached_property
    def sparse(self) -> bool:
        """Whether the pose was read so seldom that whole pieces have to be compared."""
        return is_sparse(self.pieces, self.period_s)

    @cached_property
    def _has_heading(self) -> bool:
        """Whether a motion looks the same to this robot in all directions."""
        model = self.task.robot.load_model()
        body = self.task.robot.signals(np.zeros((1, model.nq)), np.zeros((1, model.nv)))
        return "heading" in body

    @cached_property
    def _endless(self) -> NDArray[np.bool_]:
        """Which of the robot's joints turn without limits: their zero is anywhere."""
        model = self.task.robot.load_model()
        names = self.task.robot.joint_names
        limited = [bool(model.jnt_limited[model.joint(name).id]) for name in names]
        return ~np.array(limited or [True] * self.names.get("joint_position", 0), dtype=bool)

    def mismatch(self, simulated: Mapping[str, Array]) -> Mismatch:
        """Return measured minus simulated signals, poses laid over each other in each window.

        Args:
            simulated: by name, (C, T, K + 1, size).
        """
        at = self.windows
        said = {n: np.nan_to_num(v[at.piece[:, None], at.rows]) for n, v in self.measured.items()}
        told = {n: simulated[n][:, at.piece[:, None], at.rows] for n in self.names}
        turn = self._turn(said, told)
        found: Mismatch = {}
        for name in self.names:
            seen, own = said[name], told[name]
            if name == "heading":
                difference = _wrapped(seen - own - turn)
            elif name in ("position", "linear_velocity"):
                difference = seen - rotated(own, turn)
            else:
                difference = seen - own
            if name == "position":
                difference = difference - self._mean(name, difference)
            if name == "joint_position":
                shift = np.where(self._endless, self._mean(name, difference), 0.0)
                difference = difference - shift
            found[name] = np.where(at.valid[name], difference, 0.0)
        return found

    def _mean(self, name: str, values: Array) -> Array:
        """Return the means of a signal's values over the rows of each window that have one."""
        valid = self.windows.valid[name]
        count = np.maximum(valid.sum(axis=1, keepdims=True), 1)
        averaged: Array = (values * valid).sum(axis=-2, keepdims=True) / count
        return averaged

    def _turn(self, said: Mapping[str, Array], told: Mapping[str, Array]) -> Array:
        """Return by how much each window (C, windows, 1, 1) is turned, rad."""
        if "heading" in said:
            angle = said["heading"] - told["heading"]
            sin, cos = (self._mean("heading", f(angle)) for f in (np.sin, np.cos))
            turn: Array = np.arctan2(sin, cos)
            return turn
        if "position" not in said or not self._has_heading:
            return np.zeros((1, 1, 1, 1))
        seen, own = said["position"], told["position"]
        seen, own = seen - self._mean("position", seen), own - self._mean("position", own)
        dot = self._mean("position", (own * seen).sum(axis=-1, keepdims=True))
        cross = own[..., :1] * seen[..., 1:] - own[..., 1:] * seen[..., :1]
        angle = np.arctan2(self._mean("position", cross), dot)
        return np.asarray(angle, np.float64)

    def predictions(self, simulated: Mapping[str, Array], horizon_s: float) -> dict[str, Array]:
        """Return the errors of predictions, by signal (N,): as lengths for a signal of several
        numbers. Each begins at a measured pose, averaged over half a second.

        Args:
            simulated: by name, (T, K + 1, size), of one robot, turned every `span_s(horizon_s)`.
            horizon_s: length of the predictions; 0: one control period; infinity: from the first
                to the last pose of each piece.
        """
        back = max(round(AVERAGED_S / self.period_s), 1)
        found: dict[str, list[Array]] = {name: [] for name in self.names}
        for i, piece in enumerate(self.pieces):
            if np.isinf(horizon_s):
                spans = [(slice(piece.first, piece.first + back + 1), self._last_pose(i))]
            else:
                spans = self._spans(piece, horizon_s, back)
            for before, end in spans:
                for name, error in self._prediction(simulated, i, before, end).items():
                    found[name].append(error)
        lengths = {n: np.linalg.norm(v, axis=-1) if v else np.zeros(0) for n, v in found.items()}
        return {name: values[np.isfinite(values)] for name, values in lengths.items()}

    def span_s(self, horizon_s: float) -> float:
        """Return how long a simulation goes on as it is, for predictions of a length."""
        return max(WINDOW_S, horizon_s + AVERAGED_S + self.period_s)

    def _spans(self, piece: Piece, horizon_s: float, back: int) -> list[tuple[slice, int]]:
        """Return the rows before each prediction and its last row: never across a turn."""
        ahead = max(round(horizon_s / self.period_s), 1)
        span, found = round(self.span_s(horizon_s) / self.period_s), []
        for begin in range(piece.first, len(piece), span):
            until = min(begin + span, len(piece) + 1)
            for start in range(begin + back, until - ahead, back):
                found.append((slice(start - back, start + 1), start + ahead))
        return found

    def laid_over(self, simulated: Mapping[str, Array], i: int) -> Array:
        """Return the simulated path (K + 1, 2) of a piece, moved to the measured first pose.

        Args:
            simulated: by name, (T, K + 1, size), of one robot that was turned at its start alone.
        """
        first, end = self.pieces[i].first, len(self.pieces[i]) + 1
        path, seen = simulated["position"][i, first:end], self.measured["position"][i, first:end]
        turn = np.zeros(1)
        if "heading" in self.measured:
            angle = (self.measured["heading"][i] - simulated["heading"][i])[first:end]
            turn = angle[np.isfinite(angle[:, 0])][0]
        turned = rotated(path, turn)
        at = int(np.isfinite(seen[:, 0]).argmax())
        moved: Array = turned + seen[at] - turned[at]
        return moved

    def _last_pose(self, i: int) -> int:
        name = "position" if "position" in self.measured else next(iter(self.measured))
        return int(np.flatnonzero(np.isfinite(self.measured[name][i, :, 0])).max(initial=0))

    def _prediction(
        self, simulated: Mapping[str, Array], i: int, before: slice, end: int
    ) -> dict[str, Array]:
        seen = {name: values[i] for name, values in self.measured.items()}
        own = {name: simulated[name][i] for name in self.names}
        turn = np.zeros(1)
        if "heading" in seen:
            angle = seen["heading"][before] - own["heading"][before]
            angle = angle[np.isfinite(angle[:, 0])]
            turn = np.arctan2(np.sin(angle).sum(axis=0), np.cos(angle).sum(axis=0))
        found = {}
        for name in self.names:
            if name in ("position", "linear_velocity"):
                difference = seen[name] - rotated(own[name], turn)
            elif name == "heading":
                difference = _wrapped(seen[name] - own[name] - turn)
            else:
                difference = seen[name] - own[name]
            if name == "position" or (name == "joint_position" and self._endless.any()):
                near = difference[before]
                near = near[np.isfinite(near).all(axis=-1)]
                difference = difference - (near.mean(axis=0) if len(near) else np.nan)
            found[name] = difference[end]
        return found

    def noise(self, mismatch: Mismatch) -> dict[str, float]:
        """Return the standard deviation of each signal's noise, from what differs between one
        reading and its neighbours in the middle one of all windows: a model's error changes more
        slowly, but where the robot slips.

        Args:
            mismatch: of one robot, (1, windows, rows, size).
        """
        found = {}
        for name, values in mismatch.items():
            valid = self.windows.valid[name]
            inner = valid[:, 2:] & valid[:, 1:-1] & valid[:, :-2]
            bend = values[0, :, :-2] - 2.0 * values[0, :, 1:-1] + values[0, :, 2:]
            count = inner.sum(axis=(1, 2)) * bend.shape[-1]
            if (full := count > 0).any():
                squares = (bend**2 * inner).sum(axis=(1, 2))[full] / (6.0 * count[full])
                found[name] = float(np.sqrt(np.median(squares)))
        return found


def rotated(values: Array, turn: Array) -> Array:
    """Return vectors (..., 2) turned by angles (..., 1)."""
    x, y, cos, sin = values[..., :1], values[..., 1:2], np.cos(turn), np.sin(turn)
    return np.concatenate((x * cos - y * sin, x * sin + y * cos), axis=-1)


def _wrapped(angle: Array) -> Array:
    found: Array = np.remainder(angle + np.pi, 2.0 * np.pi) - np.pi
    return found

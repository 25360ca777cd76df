"""A training as its records tell it so far, as JSON data for the page."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from holdfast import plain
from holdfast.errors import LogError
from holdfast.log.format import PROGRESS
from holdfast.robot.view.watched import Watched, age_s
from holdfast.schema import FINITE, NOT_NEGATIVE, WHOLE, Range, Rule

LAST = 20
"""Number of iterations whose mean the page compares with the limits."""

NUMBERS: Mapping[str, Rule] = {
    "steps": NOT_NEGATIVE,
    "return": FINITE,
    "kl": FINITE,
    "steps_per_s": NOT_NEGATIVE,
}
"""Entries of a record that the page shows as they are, with their ranges."""


class WatchedTraining(Watched):
    """Reads the records that `holdfast train` adds to, one line for each iteration.

    Args:
        folder: the training's folder, which holds its records.
    """

    page = Path(__file__).with_name("training.html")

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._name, self._path = str(folder), folder / PROGRESS
        self._heard_s = time.monotonic() - age_s(self._path)
        self._first: dict[str, Any] = {}
        self._limits: dict[str, float] = {}
        self._shown: list[dict[str, Any]] = []
        self._goal: int | None = None
        self._lasts_s = 0.0
        self._file, self._offset, self._restarts = -1, 0, 0

    def look(self) -> bool:
        """Read the lines that are whole and were not read before."""
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                # A training that is resumed writes its records anew, up to its checkpoint.
                renewed = found.st_ino != self._file or found.st_size < self._offset
                start = 0 if renewed else self._offset
                file.seek(start)
                lines = file.read(plain.MAX_BYTES)
        except OSError as error:
            raise LogError(f"{self._path}: cannot be read ({error.strerror})") from None
        whole = lines.rfind(b"\n") + 1
        if not whole and len(lines) == plain.MAX_BYTES:
            raise LogError(f"{self._path}: should have shorter lines than {plain.MAX_BYTES} bytes")
        if not whole and not (renewed and self._shown):
            return False
        with self.changed:
            if renewed:
                self._file, self._shown = found.st_ino, []
                self._restarts += 1
            self._offset = start + whole
            self._heard_s = time.monotonic() - age_s(self._path)
            for line in lines[:whole].splitlines():
                self._add(line)
        return True

    def _add(self, line: bytes) -> None:
        where = f"{self._path}, iteration {len(self._shown) + 1}"
        with plain.well_formed(where, LogError):
            record = plain.from_json(line.decode())
            if not isinstance(record, dict):
                raise ValueError(f"should be a mapping, received {plain.written(record)}")
            before = self._shown[-1]["iteration"] if self._shown else 0
            accepted, goal = record["accepted"], record.get("iterations")
            shown: dict[str, Any] = {
                "iteration": _whole(record["iteration"], "iteration", before + 1),
                **{name: _number(record[name], name, rule) for name, rule in NUMBERS.items()},
                "costs": _numbers(record["costs"], "costs"),
                "case": str(record["case"]),
                "accepted": None if accepted is None else _whole(accepted, "accepted", 0),
            }
            if not self._shown:
                self._first = {name: str(record.get(name, "")) for name in ("task", "algorithm")}
                limits = _numbers(record.get("limits", {}), "limits")
                # A training for a range of limits records the mean of the limits that it drew.
                self._limits = {} if "by_limit" in record else limits
            elif shown["costs"].keys() != self._shown[0]["costs"].keys():
                raise ValueError("costs should be those of the first iteration")
            self._goal = None if goal is None else _whole(goal, "iterations", 1)
            lasts_s = sum(_numbers(record["seconds"], "seconds").values())
            self._lasts_s = _number(lasts_s, "the sum of seconds")  # may be beyond all numbers
        self._shown.append(shown)

    # Answers, as JSON data.

    def about(self) -> dict[str, Any] | None:
        """Return what is trained; None before the first iteration has ended."""
        with self.changed:
            if not self._shown:
                return None
            costs = self._shown[0]["costs"]
            return {
                "name": self._name,
                **self._first,
                "last": LAST,
                "costs": [{"name": name, "limit": self._limits.get(name)} for name in costs],
            }

    def status(self) -> dict[str, Any]:
        """Return how far the training is, and how long ago its newest iteration ended."""
        with self.changed:
            done = self._shown[-1]["iteration"] if self._shown else 0
            return {
                "iteration": done,
                "iterations": self._goal,
                "over": not self.problem and self._goal is not None and done >= self._goal,
                "lasts_s": self._lasts_s,
                "problem": self.problem,
                "quiet_s": round(time.monotonic() - self._heard_s, 3),
            }

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what a page is told: first all, then what is new, or that nothing is.

        Each has `status`; and where there is more `about`, and `records` with the position of the
        first of them, `from`.
        """
        sent, restarts = 0, -1
        for _ in self.changes():
            message: dict[str, Any] = {"status": self.status()}
            with self.changed:
                first = sent if restarts == self._restarts else 0
                new, restarts = self._shown[first:], self._restarts
            if new:
                about = {"about": self.about()} if first == 0 else {}
                message |= {**about, "from": first, "records": new}
            sent = first + len(new)
            yield message


def _number(value: Any, name: str, rule: Rule = FINITE) -> float:
    """Return a number of a record; raise ValueError if it is none, or out of its range."""
    if isinstance(value, bool) or not rule.allows(value):
        raise ValueError(f"{name} should be {rule}, received {plain.written(value)}")
    return float(value)


def _whole(value: Any, name: str, least: int) -> int:
    if not WHOLE.allows(value) or value < least:
        said = f"{name} should be a whole number, {Range(least)}"
        raise ValueError(f"{said}, received {plain.written(value)}")
    return int(value)


def _numbers(values: Any, name: str) -> dict[str, float]:
    if not isinstance(values, dict):
        raise ValueError(f"{name} should be a mapping, received {plain.written(values)}")
    return {key: _number(value, f"{name}.{key}") for key, value in values.items()}

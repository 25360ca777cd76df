"""Reads a run's log without ROS: episodes as NumPy arrays, whatever became of its writer."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from holdfast.bundle.limit_range import covers
from holdfast.contract import Contract
from holdfast.errors import LogError
from holdfast.log import format as log_format
from holdfast.log.cdr import Layout
from holdfast.log.format import EpisodeResult, RunInfo
from holdfast.log.mcap_file import MAGIC, McapReader
from holdfast.plain import counted
from holdfast.signals import Array

_TOPICS = tuple(topic for topic in log_format.SCHEMAS if topic.startswith("holdfast/"))
_PART = re.compile(r"(?P<bag>.+)_(?P<number>\d+)\.mcap")


@dataclass(frozen=True)
class Event:
    """What the run asked of the monitor before the step with index `before` in `Log.steps`."""

    before: int
    now_s: float
    name: str
    code: str
    text: str


@dataclass(frozen=True)
class Episode:
    """One episode, one row per reading: index k is what was seen before action k.

    What the last row applies was not sent, or nobody saw where it led: it is there for its
    reading. So there is a transition per row but the last, and costs[k + 1] is what action k cost.

    Attributes:
        observation: shape (rows, n). proposed, applied: (rows, actions), physical units.
        log_prob: (rows,), of the proposed action; NaN where the policy did not explore.
        costs, cost_to_go: (rows, costs). state: (rows,), `messages.State` numbers.
        intervened: (rows,), where applied is not what the policy chose at this reading: the
            monitor changed it, or no proposal came in time and the last one went on.
        signals: by catalogue name, (rows, size). reasons: the verdict's codes per row.
    """

    result: EpisodeResult
    now_s: Array
    observation: Array
    proposed: Array
    applied: Array
    log_prob: Array
    costs: Array
    cost_to_go: Array
    state: NDArray[np.uint8]
    intervened: NDArray[np.bool_]
    signals: Mapping[str, Array]
    reasons: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Log:
    """A run.

    Attributes:
        paths: its files; a bag may be split.
        started_ns: wall-clock time at which the log begins, ns.
        tear: why the log cannot be read to its end; everything up to there is here. "" if it can.
        checked: every record stood under a checksum, and that was right.
        lost_steps: periods that the recorder had no room for. An episode that lacks one ends
            before it, as torn.
        steps: every period, also those between episodes: a record array with the fields of
            `log_format.STEP`. reasons: the verdict's codes for each.
        events: what was asked of the monitor between steps.
    """

    paths: tuple[Path, ...]
    info: RunInfo
    started_ns: int
    tear: str
    checked: bool
    lost_steps: int
    episodes: tuple[Episode, ...]
    steps: NDArray[Any]
    reasons: tuple[tuple[str, ...], ...]
    events: tuple[Event, ...]

    @property
    def path(self) -> Path:
        return self.paths[0]

    @property
    def torn(self) -> bool:
        return bool(self.tear)

    @property
    def remarks(self) -> str:
        """What a reader should know of the file, "" or a text in brackets."""
        remarks = [f"torn: {self.tear}"] * self.torn + ["without checksums"] * (not self.checked)
        if self.lost_steps:
            remarks.append(f"{counted(self.lost_steps, 'period')} not logged")
        return f" ({'; '.join(remarks)})" if remarks else ""

    @property
    def identity(self) -> str:
        """Hash of the run's start: equal in all copies of a log, also in torn and in mended ones.

        A run's name alone is its folder's, which another run may have too.
        """
        return hashlib.sha256(f"{self.started_ns} {self.info.to_json()}".encode()).hexdigest()

    @property
    def content(self) -> str:
        """Hash of all periods, whatever the log says of the run; "" without a period."""
        return hashlib.sha256(self.steps.tobytes()).hexdigest() if len(self.steps) else ""

    def sha256(self) -> str:
        """Return the SHA-256 of its files, one after another, in hex."""
        digest = hashlib.sha256()
        for path in self.paths:
            with path.open("rb") as file:
                for block in iter(partial(file.read, 2**20), b""):
                    digest.update(block)
        return digest.hexdigest()


def read(path: Path | str, contract: Contract | None = None) -> Log:
    """Read a log, given as the run's directory or as the file.

    Args:
        contract: the one that the log must have been made under; None for any.

    Raises:
        LogError: no log there, an unknown format, another contract, or damage that cannot be told
            from what was written.
    """
    paths = _find(Path(path))
    try:
        return _read(paths, contract)
    except LogError as error:
        raise LogError(f"{paths[0]}: {error}") from None
    except OSError as error:
        raise LogError(f"{paths[0]}: cannot be read ({error.strerror})") from None
    except MemoryError:
        raise LogError(f"{paths[0]}: needs more memory than there is") from None


def _find(path: Path) -> tuple[Path, ...]:
    """Return a bag's files in order: `ros2 bag` may split one."""
    if not path.is_dir():
        _require_file(path)
        return (path,)
    names = [match for file in path.iterdir() if (match := _PART.fullmatch(file.name))]
    bags = {match["bag"] for match in names}
    if len(bags) != 1:
        raise LogError(f"{path}: should hold one log (*_0.mcap), found {len(bags)}")
    names.sort(key=lambda match: int(match["number"]))
    numbers = [int(match["number"]) for match in names]
    if numbers != list(range(len(numbers))):
        raise LogError(f"{path}: should hold the parts 0 to {numbers[-1]}, received {numbers}")
    for match in names:
        _require_file(path / match.string)
    return tuple(path / match.string for match in names)


def is_bag(folder: Path) -> bool:
    """Return whether all MCAP files of a folder are the parts of one bag."""
    names = [file.name for file in folder.glob("*.mcap")]
    bags = {match["bag"] if (match := _PART.fullmatch(name)) else "" for name in names}
    return len(bags) == 1 and "" not in bags


def _require_file(path: Path) -> None:
    """Raise LogError for what may never end, or never begin, as a pipe or a device."""
    if path.exists() and not path.is_file():
        raise LogError(f"{path}: should be a run's folder or a log file")


def _read(paths: Sequence[Path], contract: Contract | None) -> Log:
    messages: dict[str, list[bytes]] = {topic: [] for topic in _TOPICS}
    steps_before: list[int] = []  # of each event
    tear, checked = "", True
    for path in paths:
        with path.open("rb") as file:
            reader = McapReader(file, _TOPICS)
            for topic, body in reader.messages():
                messages[topic].append(body)
                if topic == log_format.EVENT_TOPIC:
                    steps_before.append(len(messages[log_format.STEP_TOPIC]))
        tear, checked = reader.tear, checked and reader.checked
        if tear:
            break
    try:
        info = _info(messages[log_format.RUN_TOPIC], tear)
        started_ns = _started_ns(messages[log_format.RUN_TOPIC])
        _require_contract(info, contract)
        steps, reasons = _steps(info, messages[log_format.STEP_TOPIC])
        results = _results(info, messages[log_format.EPISODE_TOPIC])
        events = _events(info, messages[log_format.EVENT_TOPIC], steps_before)
    except ValueError as error:
        raise LogError(f"holds what no run of its contract logs ({error})") from None
    episodes = _episodes(info, steps, reasons, results)
    lost_steps = int(steps["sequence"][-1]) + 1 - len(steps) if len(steps) else 0
    return Log(
        tuple(paths), info, started_ns, tear, checked, lost_steps, episodes, steps, reasons, events
    )


def _info(messages: Sequence[bytes], tear: str) -> RunInfo:
    layout = Layout(log_format.RUN, {})
    texts = [str(layout.unpack_tail(message)[0]) for message in messages]
    infos = [RunInfo.from_json(text) for text in dict.fromkeys(texts)]
    if len(infos) > 1:
        names = ", ".join(info.run for info in infos)
        raise LogError(f"holds {len(infos)} runs ({names}) in one; give each as a log of its own")
    if not infos:
        lacks = (
            f"not a log of format {log_format.FORMAT} of Holdfast's: no message says of which run"
        )
        raise LogError(f"{lacks}, up to where it is torn: {tear}" if tear else lacks)
    return infos[0]


def _started_ns(messages: Sequence[bytes]) -> int:
    """Return the stamp of the first `holdfast/run` message; 0 without one."""
    stamps = Layout(log_format.RUN, {}).unpack(messages[:1])
    return sum(int(s) * 10**9 + int(ns) for s, ns in stamps[["stamp.sec", "stamp.nanosec"]])


def _require_contract(info: RunInfo, contract: Contract | None) -> None:
    if contract is not None and not covers(contract, info.contract):
        raise LogError(
            f"its contract is {log_format.titled(info.contract)}, not {log_format.titled(contract)}"
        )


def _steps(
    info: RunInfo, messages: Sequence[bytes]
) -> tuple[NDArray[Any], tuple[tuple[str, ...], ...]]:
    layout = log_format.layout(log_format.STEP_TOPIC, info)
    steps = layout.unpack(messages)
    rises = steps["sequence"][1:] > steps["sequence"][:-1]
    if not rises.all():
        later, earlier = steps["sequence"][int(rises.argmin()) :][:2].tolist()
        raise LogError(f"its periods are not in order: number {earlier} follows number {later}")
    tails = [message[layout.dtype.itemsize :] for message in messages]
    known = {
        tail: tuple(layout.unpack_tail(message)[0])
        for tail, message in dict(zip(tails, messages, strict=True)).items()
    }
    return steps, tuple(map(known.__getitem__, tails))


def _events(info: RunInfo, messages: Sequence[bytes], before: Sequence[int]) -> tuple[Event, ...]:
    layout = log_format.layout(log_format.EVENT_TOPIC, info)
    times = layout.unpack(messages)["now_s"].tolist()
    texts = [tuple(map(str, layout.unpack_tail(message))) for message in messages]
    return tuple(
        Event(index, now_s, *text) for index, now_s, text in zip(before, times, texts, strict=True)
    )


def _results(info: RunInfo, messages: Sequence[bytes]) -> dict[int, EpisodeResult]:
    layout = log_format.layout(log_format.EPISODE_TOPIC, info)
    results = {}
    for message, row in zip(messages, layout.unpack(messages), strict=True):
        ended, code, text = map(str, layout.unpack_tail(message))
        total = float(row["reward_return"]) if "reward_return" in row.dtype.names else np.nan
        results[int(row["episode"])] = EpisodeResult(
            episode=int(row["episode"]),
            steps=int(row["steps"]),
            costs=tuple(row["costs"].tolist()),
            interventions=int(row["interventions"]),
            deadline_misses=int(row["deadline_misses"]),
            ended=ended,
            code=code,
            text=text,
            reward_return=total if np.isfinite(total) else None,
        )
    return results


def _episodes(
    info: RunInfo,
    steps: NDArray[Any],
    reasons: Sequence[tuple[str, ...]],
    results: Mapping[int, EpisodeResult],
) -> tuple[Episode, ...]:
    armed = np.flatnonzero(steps["step"] != log_format.NO_STEP)
    armed = armed[np.argsort(steps["episode"][armed], kind="stable")]
    numbers = steps["episode"][armed]
    episodes = []
    for all_rows in np.split(armed, np.flatnonzero(np.diff(numbers)) + 1):
        rows = all_rows
        in_order = steps["step"][rows] == np.arange(len(rows))
        if not in_order.all():  # some are lost, and rows must follow each other
            rows = rows[: in_order.argmin()]
        if not len(rows):
            continue
        number = int(steps["episode"][rows[0]])
        result = results.get(number)
        if result is not None:
            _require_counts(info, result)
            if len(rows) < result.steps:
                result = None
        part = steps[rows]
        names = ("now_s", "observation", "proposed", "applied", "log_prob")
        arrays = {name: np.ascontiguousarray(part[name]) for name in names}
        arrays |= {name: np.ascontiguousarray(part[name]) for name in ("costs", "cost_to_go")}
        signals, start = {}, 0
        for (_, name), size in log_format.signal_sizes(info.sources).items():
            signals[name] = np.ascontiguousarray(part["signals"][:, start : start + size])
            start += size
        episodes.append(
            Episode(
                result=result or _torn_result(number, part),
                state=np.ascontiguousarray(part["state"]),
                intervened=part["intervened"] | ~part["proposal_present"],
                signals=signals,
                reasons=tuple(reasons[row] for row in rows.tolist()),
                **arrays,
            )
        )
    return tuple(episodes)


def _require_counts(info: RunInfo, result: EpisodeResult) -> None:
    """Raise LogError unless an episode can have ended so."""
    where = f"episode {result.episode}: "
    if result.ended not in (log_format.COMPLETED, log_format.STOPPED):
        raise LogError(
            f"{where}ended should be {log_format.COMPLETED} or {log_format.STOPPED}, received "
            f"'{result.ended}'"
        )
    most = {
        "steps": info.contract.episode_steps,
        "interventions": result.steps + 1,  # the last reading is judged too
        "deadline_misses": result.steps + 2,  # and one period may be missed after it
    }
    for name, limit in most.items():
        count = getattr(result, name)
        if count > limit:
            raise LogError(f"{where}{name} should be at most {limit}, received {count}")
    if min(result.costs) < 0.0:
        raise LogError(f"{where}costs should be at least 0, received {min(result.costs):g}")


def _torn_result(number: int, part: NDArray[Any]) -> EpisodeResult:
    """What can be said of an episode whose end was never logged."""
    return EpisodeResult(
        episode=number,
        steps=len(part) - 1,
        costs=tuple(part["costs"].sum(axis=0).tolist()),
        interventions=int(part["intervened"][:-1].sum()),
        deadline_misses=0,
        ended=log_format.TORN,
    )


@dataclass(frozen=True)
class News:
    """What a log holds beyond what was read of it before; fields as in `Log`."""

    steps: NDArray[Any]
    reasons: tuple[tuple[str, ...], ...]
    events: tuple[Event, ...]
    results: Mapping[int, EpisodeResult]


class Follower:
    """Reads a log from its start to its end, also while a run is writing it.

    Args:
        path: the run's directory or its file.

    Attributes:
        info: the run's settings; None until they were read.
        tear: why the log cannot be read further now; "" at its end.
        unfinished: the log has no end yet; a run may be writing it.
    """

    def __init__(self, path: Path | str) -> None:
        self.paths = _find(Path(path))
        self.info: RunInfo | None = None
        self.tear, self.unfinished = "", True
        self._waiting = list(self.paths)
        self._reader: McapReader | None = None
        self._file: BinaryIO | None = None
        self._found: Iterator[tuple[str, bytes]] = iter(())
        self._size = 0
        self._runs: list[bytes] = []
        self._held: dict[str, list[bytes]] = {topic: [] for topic in _TOPICS}
        self._held_before: list[int] = []  # periods before each event that is held
        self._count = 0  # periods read
        self._sequence = -1  # number of the last of them

    def news(self, most: int = 10_000) -> News | None:
        """Return what was not read before; None if there is nothing.

        Args:
            most: number of messages after which the rest is left for the next call.

        Raises:
            LogError: as for `read`; or the file became shorter.
        """
        try:
            return self._news(most)
        except LogError as error:
            raise LogError(f"{self.paths[0]}: {error}") from None
        except ValueError as error:
            raise LogError(
                f"{self.paths[0]}: holds what no run of its contract logs ({error})"
            ) from None
        except OSError as error:
            raise LogError(f"{self.paths[0]}: cannot be read ({error.strerror})") from None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _news(self, most: int) -> News | None:
        messages, before = self._held, self._held_before
        steps = messages[log_format.STEP_TOPIC]
        for topic, body in self._messages(most):
            messages[topic].append(body)
            if topic == log_format.EVENT_TOPIC:
                before.append(self._count + len(steps))
        if not any(messages.values()) or (self.info is None and self._run_is_to_come(messages)):
            return None
        self._held, self._held_before = {topic: [] for topic in _TOPICS}, []
        if messages[log_format.RUN_TOPIC]:
            self._runs += messages[log_format.RUN_TOPIC]
            self.info = _info(self._runs, self.tear)
        info = self.info or _info((), self.tear)
        rows, reasons = _steps(info, steps)
        if len(rows):
            if rows["sequence"][0] <= self._sequence:
                raise LogError(f"its periods are not in order after number {self._sequence}")
            self._count, self._sequence = self._count + len(rows), int(rows["sequence"][-1])
        told, ends = messages[log_format.EVENT_TOPIC], messages[log_format.EPISODE_TOPIC]
        events = _events(info, told, before) if told else ()  # mostly there is none
        return News(rows, reasons, events, _results(info, ends) if ends else {})

    def _run_is_to_come(self, messages: Mapping[str, list[bytes]]) -> bool:
        """Whether the run's settings may follow: another tool may have put them behind."""
        return not messages[log_format.RUN_TOPIC] and self.unfinished

    def _messages(self, most: int) -> Iterator[tuple[str, bytes]]:
        """Yield messages from where the last call ended."""
        for _ in range(most):
            while (message := next(self._found, None)) is None:
                if not self._read_on():
                    return
            yield message

    def _read_on(self) -> bool:
        """Look whether there is more: in the file that was read, or in the next part."""
        if self._reader is not None:
            self.tear, self.unfinished = self._reader.tear, self._reader.unfinished
            if self.tear and not self.unfinished:  # it is damaged here
                return False
        if self._file is None or (self._reader is not None and not self.tear):
            if not self._waiting:
                return False
            self.close()
            self._file, self._reader, self._size = self._waiting.pop(0).open("rb"), None, 0
        found = os.fstat(self._file.fileno())
        size = found.st_size
        if size < self._size:
            raise LogError(f"should only grow, it became shorter ({self._size} to {size} bytes)")
        if size == self._size or size < len(MAGIC):
            if not found.st_nlink and self.unfinished:
                raise LogError("was deleted while it was read, before its end")
            return False
        self._size = size
        self._reader = self._reader or McapReader(self._file, _TOPICS)
        self._found = self._reader.messages()
        return True

"""Reads a run's log without ROS: episodes as NumPy arrays, whatever became of its writer."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, Metadata
from numpy.typing import NDArray

from holdfast.contract import Contract
from holdfast.errors import LogError
from holdfast.robot import log_format
from holdfast.robot.log_format import EpisodeResult, RunInfo
from holdfast.signals import Array

_MAGIC = b"\x89MCAP0\r\n"
_RECORD = struct.Struct("<BQ")  # opcode, length
_MESSAGE = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time


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
        torn: the log does not end as a log should; everything up to the tear is here.
        lost_steps: periods that the recorder had no room for. An episode that lacks one ends
            before it, as torn.
        steps: every period, also those between episodes: a record array with the fields of
            `log_format.STEP`. reasons: the verdict's codes for each.
        events: what was asked of the monitor between steps.
    """

    path: Path
    info: RunInfo
    torn: bool
    lost_steps: int
    episodes: tuple[Episode, ...]
    steps: NDArray[Any]
    reasons: tuple[tuple[str, ...], ...]
    events: tuple[Event, ...]


def read(path: Path | str, contract: Contract | None = None) -> Log:
    """Read a log, given as the run's directory or as the file.

    Args:
        contract: the one that the log must have been made under; None for any.

    Raises:
        LogError: no log there, an unknown format, or another contract.
    """
    path = _find(Path(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LogError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return _read(path, data, contract)
    except LogError as error:
        raise LogError(f"{path}: {error}") from None


def _find(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("*_0.mcap"))
    if len(found) != 1:
        raise LogError(f"{path}: should hold one log (*_0.mcap), found {len(found)}")
    return found[0]


def _read(path: Path, data: bytes, contract: Contract | None) -> Log:
    if not data.startswith(_MAGIC):
        raise LogError("not an MCAP file")
    info: RunInfo | None = None
    channels: dict[int, str] = {}
    messages: dict[str, list[bytes]] = {topic: [] for topic in log_format.SCHEMAS}
    steps_before: list[int] = []  # of each event
    torn = True
    for opcode, body in _records(data):
        if opcode == Opcode.MESSAGE:
            topic = channels[_MESSAGE.unpack_from(body)[0]]
            if topic == log_format.EVENT_TOPIC:
                steps_before.append(len(messages[log_format.STEP_TOPIC]))
            if topic in messages:
                messages[topic].append(body[_MESSAGE.size :])
        elif opcode == Opcode.CHANNEL:
            channel = Channel.read(ReadDataStream(BytesIO(body)))
            channels[channel.id] = channel.topic
        elif opcode == Opcode.METADATA:
            metadata = Metadata.read(ReadDataStream(BytesIO(body)))
            if metadata.name == log_format.METADATA:
                info = RunInfo.from_metadata(metadata.metadata)
        elif opcode == Opcode.DATA_END:
            torn = False
            break
    if info is None:
        raise LogError("not a log of Holdfast's: it has no 'holdfast' metadata")
    if contract is not None and contract.hash != info.contract.hash:
        raise LogError(
            f"its contract is {info.contract.hash[:12]} ({info.contract.robot}, "
            f"{info.contract.task}), not {contract.hash[:12]} ({contract.robot}, {contract.task})"
        )
    steps, reasons = _steps(info, messages[log_format.STEP_TOPIC])
    results = _results(info, messages[log_format.EPISODE_TOPIC])
    events = _events(info, messages[log_format.EVENT_TOPIC], steps_before)
    episodes = _episodes(info, steps, reasons, results)
    lost_steps = int(steps["sequence"][-1]) + 1 - len(steps) if len(steps) else 0
    return Log(path, info, torn, lost_steps, episodes, steps, reasons, events)


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield opcode and content of each whole record; what a tear cut short is left out."""
    place = len(_MAGIC)
    while place + _RECORD.size <= len(data):
        opcode, length = _RECORD.unpack_from(data, place)
        place += _RECORD.size
        if place + length > len(data):
            return
        yield opcode, data[place : place + length]
        place += length


def _steps(
    info: RunInfo, messages: Sequence[bytes]
) -> tuple[NDArray[Any], tuple[tuple[str, ...], ...]]:
    layout = log_format.layout(log_format.STEP_TOPIC, info.contract, info.sources)
    known: dict[bytes, tuple[str, ...]] = {}
    reasons = []
    for message in messages:
        tail = message[layout.dtype.itemsize :]
        if tail not in known:
            (codes,) = layout.unpack_tail(message)
            known[tail] = tuple(codes)
        reasons.append(known[tail])
    return layout.unpack(messages), tuple(reasons)


def _events(info: RunInfo, messages: Sequence[bytes], before: Sequence[int]) -> tuple[Event, ...]:
    layout = log_format.layout(log_format.EVENT_TOPIC, info.contract, info.sources)
    times = layout.unpack(messages)["now_s"].tolist()
    texts = [tuple(map(str, layout.unpack_tail(message))) for message in messages]
    return tuple(
        Event(index, now_s, *text) for index, now_s, text in zip(before, times, texts, strict=True)
    )


def _results(info: RunInfo, messages: Sequence[bytes]) -> dict[int, EpisodeResult]:
    layout = log_format.layout(log_format.EPISODE_TOPIC, info.contract, info.sources)
    results = {}
    for message, row in zip(messages, layout.unpack(messages), strict=True):
        ended, code, text = map(str, layout.unpack_tail(message))
        results[int(row["episode"])] = EpisodeResult(
            episode=int(row["episode"]),
            steps=int(row["steps"]),
            costs=tuple(row["costs"].tolist()),
            interventions=int(row["interventions"]),
            deadline_misses=int(row["deadline_misses"]),
            ended=ended,
            code=code,
            text=text,
        )
    return results


def _episodes(
    info: RunInfo,
    steps: NDArray[Any],
    reasons: Sequence[tuple[str, ...]],
    results: Mapping[int, EpisodeResult],
) -> tuple[Episode, ...]:
    armed = np.flatnonzero(steps["step"] != log_format.NO_STEP)
    episodes = []
    for number in np.unique(steps["episode"][armed]).tolist():
        rows = armed[steps["episode"][armed] == number]
        in_order = steps["step"][rows] == np.arange(len(rows))
        if not in_order.all():  # some are lost, and rows must follow each other
            rows = rows[: in_order.argmin()]
        if not len(rows):
            continue
        result = results.get(number)
        if result is not None and len(rows) < result.steps:
            result = None
        part = steps[rows]
        names = ("now_s", "observation", "proposed", "applied", "log_prob")
        arrays = {name: np.ascontiguousarray(part[name]) for name in names}
        arrays |= {name: np.ascontiguousarray(part[name]) for name in ("costs", "cost_to_go")}
        signals, start = {}, 0
        for (_, name), size in log_format.signal_sizes(info.sources, info.contract).items():
            signals[name] = np.ascontiguousarray(part["signals"][:, start : start + size])
            start += size
        episodes.append(
            Episode(
                result=result or _torn_result(number, part),
                state=np.ascontiguousarray(part["state"]),
                intervened=part["intervened"] | ~part["proposal_present"],
                signals=signals,
                reasons=tuple(reasons[row] for row in rows),
                **arrays,
            )
        )
    return tuple(episodes)


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

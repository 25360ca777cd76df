"""The recorder writes a run's log in a thread, so that the control loop never waits for a disk."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mcap.writer import CompressionType, Writer

from holdfast.errors import LogError
from holdfast.log import format as log_format
from holdfast.log.cdr import Layout, pack_strings
from holdfast.log.format import EpisodeResult, RunInfo
from holdfast.safety_monitor.messages import Proposal, Reading, Verdict
from holdfast.signals import Array

CHUNK_S = 0.25
"""Time after which waiting records become a chunk with a checksum and are forced to the disk: a
killed process or a power failure loses at most this much. With a shorter time, the index of an
hour's chunks would fill memory."""

MAX_CHUNK = 2**16
"""Bytes after which a chunk ends although more records wait: a tear loses at most one chunk."""

MAX_WAITING = 200_000
"""Largest number of waiting records: half an hour at 20 Hz, about 100 MB. More are dropped."""

SILENT = Reading(np.nan, 0, {})
"""The logged reading of a source without a reading yet."""

TWIST_FIELDS = {
    "forward_speed": "twist.linear.x",
    "lateral_speed": "twist.linear.y",
    "velocity_x": "twist.linear.x",
    "velocity_y": "twist.linear.y",
    "yaw_rate": "twist.angular.z",
}
"""Field of a velocity command for an action channel; other channels are in the step alone."""


@dataclass(slots=True)
class Tick:
    """One period of a run; shapes and meaning as in `log_format.STEP`."""

    now_s: float
    sources: Mapping[str, Reading]
    observation: Array
    proposal: Proposal | None
    log_prob: float
    cost_to_go: Array
    verdict: Verdict
    episode: int
    step: int
    final: bool


class _Message:
    """A topic's message that is filled in place: a buffer and its fields."""

    def __init__(self, channel: int, layout: Layout) -> None:
        self.channel = channel
        self.buffer, self.fields = layout.record()
        self._stamp = "stamp" if "stamp.sec" in (layout.dtype.names or ()) else "header.stamp"

    def pack(self, stamp_ns: int, tail: bytes) -> bytes:
        """Return the message with its stamp and its last strings."""
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        self.fields[f"{self._stamp}.sec"] = seconds
        self.fields[f"{self._stamp}.nanosec"] = nanoseconds
        return bytes(self.buffer) + tail


class Recorder:
    """Writes `<directory>/<directory's name>_0.mcap`, as `ros2 bag record` names its files.

    Args:
        directory: made if missing.
        info: the run's settings; they are on the disk when this returns.
        now_s: start of the log on the run's clock.

    Attributes:
        lost: number of records dropped because too many were waiting.

    Raises:
        LogError: the file exists or cannot be made.
    """

    def __init__(self, directory: Path, info: RunInfo, now_s: float = 0.0) -> None:
        self.path = directory / f"{directory.resolve().name}_0.mcap"
        self.lost = 0
        self._info = info
        self._sequence = 0
        self._failure: OSError | None = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("xb")
            self._start(info, now_s)
        except FileExistsError:
            raise LogError(
                f"{self.path} exists; a log is never overwritten, give another --out"
            ) from None
        except OSError as error:
            raise LogError(f"{self.path} cannot be written ({error.strerror})") from None
        self._closing = False
        self._wake = threading.Event()  # an episode or the log ended
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    def _start(self, info: RunInfo, now_s: float) -> None:
        self._writer = Writer(
            self._file,
            chunk_size=MAX_CHUNK,
            compression=CompressionType.NONE,
            enable_data_crcs=True,
        )
        self._writer.start(profile="ros2", library="holdfast")
        schemas: dict[str, int] = {}
        self._messages: dict[str, _Message] = {}
        for topic, (name, definition) in log_format.SCHEMAS.items():
            if name not in schemas:
                schemas[name] = self._writer.register_schema(name, "ros2msg", definition.encode())
            channel = self._writer.register_channel(topic, "cdr", schemas[name])
            self._messages[topic] = _Message(channel, log_format.layout(topic, info))
        self._offset_ns = round(info.clock_offset_s * 1e9)
        self._waiting: deque[tuple[int, int, int, bytes]] = deque()
        self._append(log_format.RUN_TOPIC, now_s, pack_strings([info.to_json()]))
        self._write_waiting()
        self._twist_fields = [TWIST_FIELDS.get(channel.name) for channel in info.contract.action]
        self._signals: list[tuple[str, str, slice]] = []
        start = 0
        for (source, name), size in log_format.signal_sizes(info.sources).items():
            self._signals.append((source, name, slice(start, start + size)))
            start += size
        self._reasons: dict[tuple[str, ...], bytes] = {}

    def step(self, tick: Tick) -> None:
        """Record one period.

        Raises:
            LogError: the log can no longer be written.
        """
        fields = self._messages[log_format.STEP_TOPIC].fields
        verdict, proposal = tick.verdict, tick.proposal
        fields["sequence"] = self._sequence
        fields["episode"], fields["step"], fields["final"] = tick.episode, tick.step, tick.final
        fields["now_s"] = tick.now_s
        readings = [tick.sources.get(name, SILENT) for name in self._info.sources]
        fields["signal_stamps_s"] = [reading.stamp_s for reading in readings]
        fields["signal_sequences"] = [reading.sequence for reading in readings]
        signals = fields["signals"]
        for source, name, place in self._signals:
            signals[place] = tick.sources.get(source, SILENT).signals.get(name, np.nan)
        fields["proposal_present"] = proposal is not None
        fields["proposal_stamp_s"] = proposal.stamp_s if proposal else np.nan
        fields["proposal_sequence"] = proposal.sequence if proposal else 0
        fields["proposed"] = proposal.action if proposal else np.nan
        fields["observation"] = tick.observation
        fields["applied"] = verdict.action
        fields["log_prob"] = tick.log_prob
        fields["costs"], fields["cost_to_go"] = verdict.costs, tick.cost_to_go
        fields["state"], fields["intervened"] = verdict.state, verdict.intervened
        codes = tuple(reason.code for reason in verdict.reasons)
        tail = self._reasons.get(codes)
        if tail is None:
            tail = self._reasons[codes] = pack_strings([codes])
        self._put(log_format.STEP_TOPIC, tick.now_s, tail)
        self._put_odometry(tick.now_s, {name: signals[place] for _, name, place in self._signals})
        if proposal is not None:
            self._put_twist(log_format.PROPOSED_TOPIC, tick.now_s, proposal.action)
        self._put_twist(log_format.APPLIED_TOPIC, tick.now_s, verdict.action)
        self._sequence += 1

    def event(self, now_s: float, name: str, code: str = "", text: str = "") -> None:
        """Record a request to the monitor, so that the run can be replayed."""
        self._messages[log_format.EVENT_TOPIC].fields["now_s"] = now_s
        self._put(log_format.EVENT_TOPIC, now_s, pack_strings([name, code, text]))
        if name == "stop":
            self._wake.set()  # who watches the log learns of a stop at once

    def episode(self, now_s: float, result: EpisodeResult) -> None:
        """Record the end of an episode."""
        fields = self._messages[log_format.EPISODE_TOPIC].fields
        for name in ("episode", "steps", "interventions", "deadline_misses", "costs"):
            fields[name] = getattr(result, name)
        known = result.reward_return is not None
        fields["reward_return"] = result.reward_return if known else np.nan
        tail = pack_strings([result.ended, result.code, result.text])
        self._put(log_format.EPISODE_TOPIC, now_s, tail)
        self._wake.set()  # a finished episode is not lost with the process

    def close(self) -> None:
        """Write the waiting records and the file's end.

        Raises:
            LogError: the log could not be written to its end.
        """
        self._closing = True
        self._wake.set()
        self._thread.join()
        try:
            self._file.close()
        except OSError as error:
            self._failure = self._failure or error
        self._check()

    def _put_odometry(self, now_s: float, signals: Mapping[str, Array]) -> None:
        if "position" not in signals or "heading" not in signals:
            return
        fields = self._messages[log_format.ODOM_TOPIC].fields
        half = signals["heading"][0] / 2.0
        fields["pose.pose.position.x"], fields["pose.pose.position.y"] = signals["position"]
        fields["pose.pose.orientation.z"] = np.sin(half)
        fields["pose.pose.orientation.w"] = np.cos(half)
        if "forward_speed" in signals:
            fields["twist.twist.linear.x"] = signals["forward_speed"][0]
        if "lateral_speed" in signals:
            fields["twist.twist.linear.y"] = signals["lateral_speed"][0]
        if "yaw_rate" in signals:
            fields["twist.twist.angular.z"] = signals["yaw_rate"][0]
        self._put(log_format.ODOM_TOPIC, now_s)

    def _put_twist(self, topic: str, now_s: float, action: Array) -> None:
        fields = self._messages[topic].fields
        for name, value in zip(self._twist_fields, action, strict=True):
            if name is not None:
                fields[name] = value
        self._put(topic, now_s)

    def _put(self, topic: str, now_s: float, tail: bytes = b"") -> None:
        self._check()
        if len(self._waiting) >= MAX_WAITING:
            self.lost += 1
            return
        self._append(topic, now_s, tail)

    def _append(self, topic: str, now_s: float, tail: bytes) -> None:
        message = self._messages[topic]
        stamp_ns = self._offset_ns + round(now_s * 1e9)
        data = message.pack(stamp_ns, tail)
        self._waiting.append((message.channel, stamp_ns, self._sequence, data))

    def _check(self) -> None:
        if self._failure is not None:
            raise LogError(f"{self.path} cannot be written ({self._failure.strerror})")

    def _write(self) -> None:
        """Write waiting records until the log ends; runs in the writer's thread."""
        closing = False
        try:
            while not closing:
                self._wake.wait(CHUNK_S)
                self._wake.clear()
                closing = self._closing
                if self._waiting:
                    self._write_waiting()
            self._writer.finish()  # type: ignore[no-untyped-call]
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            self._failure = error

    def _write_waiting(self) -> None:
        """Write the waiting records as a chunk; it is on the disk when this returns."""
        while self._waiting:
            channel, stamp_ns, sequence, data = self._waiting.popleft()
            self._writer.add_message(channel, stamp_ns, data, stamp_ns, sequence)
        self._writer.flush()  # type: ignore[no-untyped-call]
        os.fsync(self._file.fileno())

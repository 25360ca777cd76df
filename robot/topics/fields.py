"""Reading signals and actions from the fields of messages, and writing them.

The message classes may be rclpy's or those of `robot.dds`; their instances have defaults.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, MutableSequence, Sequence
from operator import attrgetter
from typing import SupportsFloat, cast

import numpy as np

from holdfast.errors import ConfigError
from holdfast.robot.topics.config import ActionTopic, Joints, Ranges, SignalField, Source
from holdfast.robot.topics.graph import Graph
from holdfast.robot.topics.message_types import (
    ChildFramed,
    JointState,
    LaserScan,
    Message,
    Quaternion,
    Stamped,
    Time,
)
from holdfast.signals import CATALOGUE, Array

_PATH = re.compile(r"\w+(\.\w+)*(\[\d+\])?")
_UNIT_NORM = 0.01  # a norm further from 1 is no orientation: many drivers send zeros

FAR_M = 1000.0
"""Range of a scan without a largest range, m: infinity cannot be computed with."""

MAX_VARIANCE = 1e4
"""A value with a larger variance, SI units, is not measured: drivers then write 1e6 and more."""

UNSEEN = -1.0
"""The distance in a sector without a ray of this lidar; another lidar may have one."""

_ZERO = {"stop": math.nan, "near": -math.inf, "far": math.inf}
"""The reading of REP 117 that replaces a reading of 0, by `Ranges.no_return`."""


class SourceReader:
    """Reads the messages of one source.

    Raises:
        ConfigError: a type or a field does not exist.
    """

    def __init__(self, name: str, source: Source, graph: Graph) -> None:
        self._source = source
        example = graph.message_class(source.message_type)()
        self._stamped = hasattr(example, "header")
        self._has_child = hasattr(example, "child_frame_id")
        self._name = name
        self._parts = [
            (signal, _reader(f"ros.sources.{name}.signals.{signal}", field, example))
            for signal, field in source.signals.items()
        ]
        self._variances = [
            (signal, variance)
            for signal, field in source.signals.items()
            for path in field.paths
            if (variance := _Variances.of(path, field.how, example)) is not None
        ]

    def read(self, message: Message) -> dict[str, Array]:
        """Return a message's signals; a value that is missing or not measured is NaN."""
        found = {signal: read(message) for signal, read in self._parts}
        for signal, variances in self._variances:
            if variances.problem(message):
                found[signal] = np.full_like(found[signal], math.nan)
        return found

    def stamp_s(self, message: Message, now_s: float) -> float:
        """Return the time of a message's measurement, s; a zero stamp, or none, means now."""
        return message_stamp_s(message, now_s) if self._stamped else now_s

    def problem(self, message: Message) -> str:
        """Return why a message may not be used, as a sentence, or ""."""
        if wrong := self.wrong_frame(message):
            return wrong
        for signal, variances in self._variances:
            if problem := variances.problem(message):
                return f"{self._source.topic}: {problem}, so it does not measure {signal}"
        return ""

    def wrong_frame(self, message: Message) -> str:
        """Return why a message's frames are wrong, as a sentence, or ""."""
        frames = []
        if self._stamped:
            frame_id = cast("Stamped", message).header.frame_id
            frames.append(("frame_id", frame_id, self._source.frame))
        if self._has_child:
            frame_id = cast("ChildFramed", message).child_frame_id
            frames.append(("child_frame_id", frame_id, self._source.child_frame))
        for field, found, wanted in frames:
            if wanted and found.lstrip("/") != wanted.lstrip("/"):
                key = f"ros.sources.{self._name}.{field.removesuffix('_id')}"
                advice = "" if found else f"; for a driver that leaves it empty, write {key}: ''"
                return (
                    f"{self._source.topic}: {field} should be '{wanted}' as the robot's "
                    f"configuration says, received '{found}'{advice}"
                )
        return ""


class SourceWriter:
    """Writes the messages of one source.

    Raises:
        ConfigError: a type or a field does not exist, or a signal is not made of fields.
    """

    def __init__(self, name: str, source: Source, graph: Graph) -> None:
        where = f"ros.sources.{name}.signals"
        paths: dict[str, str] = {}
        for signal, field in source.signals.items():
            if field.fields is None:
                raise ConfigError(f"{where}.{signal}: only fields can be written, not {field.how}")
            paths |= {f"{signal}[{i}]": path for i, path in enumerate(field.fields)}
        frame = source.frame or ""
        topic = ActionTopic(topic=source.topic, type=source.type, frame=frame, fields=paths)
        self._codec = ActionCodec(where, topic, graph, paths)
        self._signals = tuple(source.signals)

    def message(self, signals: Mapping[str, Array], time_s: float) -> Message:
        """Return a message with the source's signals."""
        values = np.concatenate([signals[name] for name in self._signals])
        return self._codec.message(values, time_s)


def stamp_s(stamp: Time) -> float:
    """Return a builtin_interfaces/Time in seconds."""
    return float(stamp.sec) + float(stamp.nanosec) * 1e-9


def message_stamp_s(message: Message, now_s: float) -> float:
    """Return the stamp of a message that has a header, in seconds; a zero stamp means now."""
    return stamp_s(cast("Stamped", message).header.stamp) or now_s


def set_stamp(stamp: Time, time_s: float) -> None:
    """Set a builtin_interfaces/Time."""
    stamp.sec, stamp.nanosec = divmod(round(time_s * 1e9), 1_000_000_000)


class ActionCodec:
    """Writes actions to messages, and reads actions from messages.

    Args:
        where: key of the section in the configuration file, for errors.
        channels: names of the action channels, in the action's order.

    Attributes:
        stamped: the messages have a stamp.

    Raises:
        ConfigError: a type or a field does not exist.
    """

    def __init__(
        self, where: str, topic: ActionTopic, graph: Graph, channels: Iterable[str]
    ) -> None:
        self._frame, self._class = topic.frame, graph.message_class(topic.message_type)
        self._paths = [topic.fields[name] for name in channels]
        example = self._blank()
        self.stamped = hasattr(example, "header")
        self._get = [_float_getter(f"{where}.{path}", path, example) for path in self._paths]
        self._set = [_setter(path) for path in self._paths]

    def message(self, action: Array, time_s: float) -> Message:
        """Return a message with an action."""
        message = self._blank()
        if self.stamped:
            header = cast("Stamped", message).header
            set_stamp(header.stamp, time_s)
            header.frame_id = self._frame
        for put, value in zip(self._set, action.tolist(), strict=True):
            put(message, value)
        return message

    def action(self, message: Message) -> Array:
        """Return the action in a message; a value that is missing is NaN."""
        return np.array([_or_nan(get, message) for get in self._get])

    def stamp_s(self, message: Message, now_s: float) -> float:
        """Return the time of a message, s; a zero stamp, or none, means now."""
        return message_stamp_s(message, now_s) if self.stamped else now_s

    def _blank(self) -> Message:
        message = self._class()
        for path in self._paths:
            _make_room(message, path)
        return message


# Below: paths into messages.


def _reader(where: str, field: SignalField, example: Message) -> Callable[[Message], Array]:
    """Return a function that reads a signal from a message; paths are tried on an example."""
    if field.fields is not None:
        for path in field.fields:
            _make_room(example, path)
        getters = [_float_getter(f"{where}.{path}", path, example) for path in field.fields]
        return lambda message: np.array([_or_nan(get, message) for get in getters])
    if field.ranges is not None:
        return _scan_reader(where, field.ranges, example)
    if field.joints is not None:
        return _joint_reader(where, field.joints, example)
    (path,) = field.paths
    get = cast("Callable[[Message], Quaternion]", _getter(f"{where}.{path}", path, example))
    for part in "wxyz":
        _float_getter(f"{where}.{path}.{part}", f"{path}.{part}", example)
    make = {"yaw": _yaw, "roll_pitch": _roll_pitch, "wxyz": _wxyz}[field.how]

    def read(message: Message) -> Array:
        q = get(message)
        norm = math.sqrt(q.w * q.w + q.x * q.x + q.y * q.y + q.z * q.z)
        if not abs(norm - 1.0) <= _UNIT_NORM:
            return np.full(len(make(1.0, 0.0, 0.0, 0.0)), math.nan)
        return np.array(make(q.w / norm, q.x / norm, q.y / norm, q.z / norm))

    return read


class _Variances:
    """The variances of a value in a message.

    By REP 103 and the comments of the message definitions, zeros mean unknown, and -1 in the first
    place means that the message does not measure the value. Only the value's own entries of the
    diagonal are judged: drivers write variances like 1e6 for axes that a robot does not have.
    """

    def __init__(self, path: str, entries: tuple[int, ...]) -> None:
        self._path, self._get, self._entries = path, attrgetter(path), entries

    @staticmethod
    def of(path: str, how: str, example: Message) -> _Variances | None:
        """Return the variances of the value at a path; None if the message has none."""
        names = path.partition("[")[0].split(".")
        for i, name in enumerate(names):
            holder = attrgetter(".".join(names[:i]))(example) if i else example
            for sibling in (f"{name}_covariance", "covariance"):
                count = len(getattr(holder, sibling, ()))
                if count in (9, 36):
                    where = ".".join((*names[:i], sibling))
                    return _Variances(where, _entries(names, how, count))
        return None

    def problem(self, message: Message) -> str:
        """Return why the value is not measured, as a part of a sentence, or ""."""
        covariance = self._get(message)
        if covariance[0] == -1.0:
            return f"{self._path}[0] is -1, which means not measured"
        for entry in self._entries:
            value = float(covariance[entry])
            if not 0.0 <= value <= MAX_VARIANCE:
                return (
                    f"{self._path}[{entry}] should be a variance from 0 to {MAX_VARIANCE:g}, "
                    f"received {value:g}"
                )
        return ""


def _entries(names: Sequence[str], how: str, count: int) -> tuple[int, ...]:
    """Return the indices of a value's own variances in a covariance of 3 by 3 or 6 by 6."""
    side = 6 if count == 36 else 3
    axes = {"yaw": "z", "roll_pitch": "xy", "wxyz": "xyz"}.get(how, names[-1])
    turns = side == 6 and (how != "fields" or not {"angular", "orientation"}.isdisjoint(names))
    return tuple((side + 1) * ("xyz".index(axis) + 3 * turns) for axis in axes if axis in "xyz")


def _yaw(w: float, x: float, y: float, z: float) -> tuple[float, ...]:
    return (math.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)),)


def _roll_pitch(w: float, x: float, y: float, z: float) -> tuple[float, ...]:
    roll = math.atan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y))
    return roll, math.asin(min(max(2.0 * (w * y - z * x), -1.0), 1.0))


def _wxyz(w: float, x: float, y: float, z: float) -> tuple[float, ...]:
    return w, x, y, z


def _scan_reader(where: str, ranges: Ranges, example: Message) -> Callable[[Message], Array]:
    needed = ("angle_min", "angle_increment", "range_min", "range_max")
    for path in needed:
        _float_getter(f"{where}.{path}", path, example)
    get = _getter(f"{where}.{ranges.field}", ranges.field, example)

    def read(message: Message) -> Array:
        scan, measured = cast("LaserScan", message), cast("Sequence[float]", get(message))
        limits = scan.range_min, scan.range_max
        array = np.asarray(measured, dtype=np.float64)
        return sectors(array, scan.angle_min, scan.angle_increment, limits, ranges)

    return read


def sectors(
    measured: Array,
    angle_min: float,
    angle_increment: float,
    limits: tuple[float, float],
    how: Ranges,
) -> Array:
    """Return the distance of the nearest thing in each of the catalogue's sectors, m.

    `UNSEEN`: the sector has no ray. NaN: blind, no ray of the sector has a valid range. All sectors
    are blind if no ray of the scan has a valid range: a room has walls, which a lidar whose motor
    stands does not see.

    Args:
        measured: ranges (rays,), m, from `angle_min` on, by REP 117: +inf means free, -inf means
            nearer than the sensor can measure and is taken for 0, NaN and negative ranges are
            invalid. A range below the sensor's least range is near. `how` gives the meaning of 0,
            which REP 117 does not define.
        limits: least and largest range of the sensor; a range beyond the largest means free.
        how: pose of the sensor on the base, and the meaning of 0 and of sectors without rays.
    """
    count = CATALOGUE["scan"].size
    assert count is not None
    far_m, nobody = min(limits[1], FAR_M), np.full(count, math.nan)
    if not (far_m > 0.0 and math.isfinite(angle_min) and math.isfinite(angle_increment)):
        return nobody
    zero = measured == 0.0
    range_m = np.where(zero, _ZERO[how.no_return], measured)
    range_m[(range_m < 0.0) & (range_m != -math.inf)] = math.nan
    blind = np.isnan(range_m)
    if (blind | zero).all():
        return nobody
    angle = angle_min + angle_increment * np.arange(len(measured))
    angle = how.yaw_rad + (-angle if how.upside_down else angle)
    seen = (range_m > 0.0) & (range_m <= far_m)
    range_m = np.clip(range_m, 0.0, far_m)
    x = how.position_m[0] + range_m * np.cos(angle)
    y = how.position_m[1] + range_m * np.sin(angle)
    # A ray without a range counts for the sector of its own angle.
    bearing = np.where(seen, np.arctan2(y, x), angle)
    from_base_m = np.where(seen, np.hypot(x, y), range_m)
    sector = np.floor(bearing * count / math.tau + 0.5).astype(int) % count
    result = np.full(count, math.inf)
    np.minimum.at(result, sector[~blind], from_base_m[~blind])
    result[np.isinf(result)] = far_m if how.unseen == "far" else UNSEEN
    result[np.setdiff1d(sector[blind], sector[~blind])] = math.nan
    within: Array = np.minimum(result, far_m)
    return within


def nearest(scans: Sequence[Array]) -> Array:
    """Return the `sectors` of all lidars of a robot as one scan, m.

    NaN: the sector is blind, because one lidar is blind there, or no lidar has a ray there.
    """
    result: Array = np.where(np.equal(scans, UNSEEN), math.inf, scans).min(axis=0)
    result[np.isinf(result)] = math.nan
    return result


def _joint_reader(where: str, joints: Joints, example: Message) -> Callable[[Message], Array]:
    get = _getter(f"{where}.{joints.field}", joints.field, example)
    _getter(f"{where}.name", "name", example)

    def read(message: Message) -> Array:
        found = cast("Sequence[float]", get(message))
        values = dict(zip(cast("JointState", message).name, found, strict=False))
        return np.array([float(values.get(name, math.nan)) for name in joints.names])

    return read


def _getter(where: str, path: str, example: Message) -> Callable[[Message], object]:
    """Return a function that reads the field at a path; the path is tried on an example.

    Raises:
        ConfigError: the path is malformed, or there is no such field.
    """
    if not _PATH.fullmatch(path):
        raise ConfigError(f"{where}: should be a path like pose.pose.position.x or data[0]")
    names, _, index = path.rstrip("]").partition("[")
    follow = attrgetter(names)

    def get(message: Message) -> object:
        return follow(message)[int(index)] if index else follow(message)

    try:
        get(example)
    except (AttributeError, IndexError, TypeError):
        kind = type(example).__name__
        raise ConfigError(f"{where}: there is no such field in {kind}") from None
    return get


def _float_getter(where: str, path: str, example: Message) -> Callable[[Message], SupportsFloat]:
    get = cast("Callable[[Message], SupportsFloat]", _getter(where, path, example))
    if not isinstance(get(example), float):
        raise ConfigError(f"{where}: should be a number with a fraction")
    return get


def _or_nan(get: Callable[[Message], SupportsFloat], message: Message) -> float:
    """Return a field's number; NaN if the list in the message is shorter than the index."""
    try:
        return float(get(message))
    except IndexError:
        return math.nan


def _setter(path: str) -> Callable[[Message, float], None]:
    names, _, index = path.rstrip("]").partition("[")
    holder, _, last = names.rpartition(".")
    follow: Callable[[Message], object] = attrgetter(holder) if holder else lambda message: message

    def put(message: Message, value: float) -> None:
        if index:
            cast("MutableSequence[float]", getattr(follow(message), last))[int(index)] = value
        else:
            setattr(follow(message), last, value)

    return put


def _make_room(message: Message, path: str) -> None:
    """Lengthen the list of a path like "data[3]" until the index exists."""
    names, bracket, index = path.rstrip("]").partition("[")
    if not bracket or not index.isdecimal():
        return
    try:
        values = attrgetter(names)(message)
        while len(values) <= int(index):
            values.append(0.0)
    except (AttributeError, TypeError):
        return  # no list, or a list of fixed length: the getter of the path reports it

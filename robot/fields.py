"""Fields: what a robot's signals and actions are in messages, read and written.

Works on any message class whose instances have defaults: rclpy's, or those of `robot.dds`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

import numpy as np

from holdfast.errors import ConfigError
from holdfast.robot.graph import Graph
from holdfast.robot.topics import ActionTopic, Joints, Ranges, SignalField, Source
from holdfast.signals import CATALOGUE, Array

_PATH = re.compile(r"\w+(\.\w+)*(\[\d+\])?")
_UNIT_NORM = 0.01  # a quaternion further from 1 is no orientation: many drivers send zeros


class SourceReader:
    """Reads one source's messages.

    Raises:
        ConfigError: a type or a field that does not exist.
    """

    def __init__(self, name: str, source: Source, graph: Graph) -> None:
        self._source = source
        example = graph.message_class(source.type)()
        self._stamped = hasattr(example, "header")
        self._has_child = hasattr(example, "child_frame_id")
        self._parts = [
            (signal, _reader(f"ros.sources.{name}.signals.{signal}", field, example))
            for signal, field in source.signals.items()
        ]

    def read(self, message: Any) -> dict[str, Array]:
        """Return the message's signals; what it does not hold is NaN."""
        return {signal: read(message) for signal, read in self._parts}

    def stamp_s(self, message: Any, now_s: float) -> float:
        """Return when it was measured: a zero stamp, or none, means now."""
        return stamp_s(message.header.stamp) or now_s if self._stamped else now_s

    def wrong_frame(self, message: Any) -> str:
        """Return what is wrong with its frames as a sentence, or ""."""
        frames = []
        if self._stamped:
            frames.append(("frame_id", message.header.frame_id, self._source.frame))
        if self._has_child:
            frames.append(("child_frame_id", message.child_frame_id, self._source.child_frame))
        for field, found, wanted in frames:
            if wanted and found.lstrip("/") != wanted.lstrip("/"):
                return (
                    f"{self._source.topic}: {field} should be '{wanted}' as the robot's "
                    f"configuration says, received '{found}'"
                )
        return ""


class SourceWriter:
    """Makes messages of one source's signals.

    Raises:
        ConfigError: a type or a field that does not exist, or a signal that is not made of fields.
    """

    def __init__(self, name: str, source: Source, graph: Graph) -> None:
        where = f"ros.sources.{name}.signals"
        paths: dict[str, str] = {}
        for signal, field in source.signals.items():
            if field.fields is None:
                raise ConfigError(f"{where}.{signal}: only fields can be written, not {field.how}")
            paths |= {f"{signal}[{i}]": path for i, path in enumerate(field.fields)}
        topic = ActionTopic(topic=source.topic, type=source.type, frame=source.frame, fields=paths)
        self._codec = ActionCodec(where, topic, graph, paths)
        self._signals = tuple(source.signals)

    def message(self, signals: Mapping[str, Array], time_s: float) -> Any:
        """Return signals as a message."""
        values = np.concatenate([signals[name] for name in self._signals])
        return self._codec.message(values, time_s)


def stamp_s(stamp: Any) -> float:
    """Return a builtin_interfaces/Time in seconds."""
    return float(stamp.sec) + float(stamp.nanosec) * 1e-9


def set_stamp(stamp: Any, time_s: float) -> None:
    """Set a builtin_interfaces/Time."""
    stamp.sec, stamp.nanosec = divmod(round(time_s * 1e9), 1_000_000_000)


class ActionCodec:
    """Makes messages of actions and actions of messages.

    Args:
        where: the section's key, for errors.
        channels: the action's, in its order.

    Attributes:
        stamped: its messages carry a stamp.

    Raises:
        ConfigError: a type or a field that does not exist.
    """

    def __init__(
        self, where: str, topic: ActionTopic, graph: Graph, channels: Iterable[str]
    ) -> None:
        self._frame, self._class = topic.frame, graph.message_class(topic.type)
        self._paths = [topic.fields[name] for name in channels]
        example = self._blank()
        self.stamped = hasattr(example, "header")
        self._get = [_float_getter(f"{where}.{path}", path, example) for path in self._paths]
        self._set = [_setter(path) for path in self._paths]

    def message(self, action: Array, time_s: float) -> Any:
        """Return an action as a message."""
        message = self._blank()
        if self.stamped:
            set_stamp(message.header.stamp, time_s)
            message.header.frame_id = self._frame
        for put, value in zip(self._set, action.tolist(), strict=True):
            put(message, value)
        return message

    def action(self, message: Any) -> Array:
        """Return a message as an action; what it does not hold is NaN."""
        return np.array([_or_nan(get, message) for get in self._get])

    def stamp_s(self, message: Any, now_s: float) -> float:
        """Return when it was made: a zero stamp, or none, means now."""
        return stamp_s(message.header.stamp) or now_s if self.stamped else now_s

    def _blank(self) -> Any:
        message = self._class()
        for path in self._paths:
            _make_room(message, path)
        return message


# Below: paths into messages.


def _reader(where: str, field: SignalField, example: Any) -> Callable[[Any], Array]:
    """Return what reads a signal from a message; paths are tried on an example."""
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
    get = _getter(f"{where}.{path}", path, example)
    for part in "wxyz":
        _float_getter(f"{where}.{path}.{part}", f"{path}.{part}", example)
    make = {"yaw": _yaw, "roll_pitch": _roll_pitch, "wxyz": _wxyz}[field.how]

    def read(message: Any) -> Array:
        q = get(message)
        norm = math.sqrt(q.w * q.w + q.x * q.x + q.y * q.y + q.z * q.z)
        if not abs(norm - 1.0) <= _UNIT_NORM:
            return np.full(len(make(1.0, 0.0, 0.0, 0.0)), math.nan)
        return np.array(make(q.w / norm, q.x / norm, q.y / norm, q.z / norm))

    return read


def _yaw(w: float, x: float, y: float, z: float) -> tuple[float, ...]:
    return (math.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)),)


def _roll_pitch(w: float, x: float, y: float, z: float) -> tuple[float, ...]:
    roll = math.atan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y))
    return roll, math.asin(min(max(2.0 * (w * y - z * x), -1.0), 1.0))


def _wxyz(w: float, x: float, y: float, z: float) -> tuple[float, ...]:
    return w, x, y, z


def _scan_reader(where: str, ranges: Ranges, example: Any) -> Callable[[Any], Array]:
    needed = ("angle_min", "angle_increment", "range_min", "range_max")
    for path in needed:
        _float_getter(f"{where}.{path}", path, example)
    get = _getter(f"{where}.{ranges.field}", ranges.field, example)

    def read(message: Any) -> Array:
        return sectors(
            np.asarray(get(message), dtype=np.float64),
            message.angle_min,
            message.angle_increment,
            (message.range_min, message.range_max),
            ranges,
        )

    return read


def sectors(
    measured: Array,
    angle_min: float,
    angle_increment: float,
    limits: tuple[float, float],
    how: Ranges,
) -> Array:
    """Return the nearest thing in each of the catalogue's sectors about the base, m.

    Args:
        measured: ranges (rays,), m, counter-clockwise from `angle_min`; +inf is nothing, -inf
            something nearer than the sensor can tell (REP-117).
        limits: the least and the largest range that are valid.
    """
    count = CATALOGUE["scan"].size
    assert count is not None
    least_m, largest_m = limits
    far_m, blind_m = largest_m, math.nan
    valid = (measured >= least_m) & (measured <= largest_m)
    range_m = np.where(valid, measured, far_m if how.no_return == "far" else blind_m)
    range_m[measured == math.inf] = far_m
    range_m[measured == -math.inf] = least_m
    angle = angle_min + how.yaw_rad + angle_increment * np.arange(len(measured))
    x = how.position_m[0] + range_m * np.cos(angle)
    y = how.position_m[1] + range_m * np.sin(angle)
    # A ray that returned nothing still looks into its sector, as far as it reaches.
    bearing = np.where(np.isnan(range_m), angle, np.arctan2(y, x))
    from_base_m = np.where(valid | (measured == -math.inf), np.hypot(x, y), range_m)
    sector = np.floor(bearing * count / math.tau + 0.5).astype(int) % count
    blind = np.isnan(from_base_m)
    result = np.full(count, math.inf)
    np.minimum.at(result, sector[~blind], from_base_m[~blind])
    unseen = np.isinf(result)
    result[unseen] = far_m if how.unseen == "far" else blind_m
    result[sector[blind]] = blind_m
    nearest: Array = np.minimum(result, far_m)
    return nearest


def _joint_reader(where: str, joints: Joints, example: Any) -> Callable[[Any], Array]:
    get = _getter(f"{where}.{joints.field}", joints.field, example)
    _getter(f"{where}.name", "name", example)

    def read(message: Any) -> Array:
        values = dict(zip(message.name, get(message), strict=False))
        return np.array([float(values.get(name, math.nan)) for name in joints.names])

    return read


def _getter(where: str, path: str, example: Any) -> Callable[[Any], Any]:
    """Return what follows a path into a message, tried on an example.

    Raises:
        ConfigError: the path is malformed, or leads nowhere.
    """
    if not _PATH.fullmatch(path):
        raise ConfigError(f"{where}: should be a path like pose.pose.position.x or data[0]")
    names, _, index = path.rstrip("]").partition("[")
    follow = attrgetter(names)

    def get(message: Any) -> Any:
        return follow(message)[int(index)] if index else follow(message)

    try:
        get(example)
    except (AttributeError, IndexError, TypeError):
        kind = type(example).__name__
        raise ConfigError(f"{where}: there is no such field in {kind}") from None
    return get


def _float_getter(where: str, path: str, example: Any) -> Callable[[Any], Any]:
    get = _getter(where, path, example)
    if not isinstance(get(example), float):
        raise ConfigError(f"{where}: should be a number with a fraction")
    return get


def _or_nan(get: Callable[[Any], Any], message: Any) -> float:
    """A list in a message may be shorter than what is read from it."""
    try:
        return float(get(message))
    except IndexError:
        return math.nan


def _setter(path: str) -> Callable[[Any, float], None]:
    names, _, index = path.rstrip("]").partition("[")
    holder, _, last = names.rpartition(".")
    follow: Callable[[Any], Any] = attrgetter(holder) if holder else lambda message: message

    def put(message: Any, value: float) -> None:
        if index:
            getattr(follow(message), last)[int(index)] = value
        else:
            setattr(follow(message), last, value)

    return put


def _make_room(message: Any, path: str) -> None:
    """Lengthen the list that a path like "data[3]" leads into."""
    names, bracket, index = path.rstrip("]").partition("[")
    if not bracket or not index.isdecimal():
        return
    try:
        values = attrgetter(names)(message)
        while len(values) <= int(index):
            values.append(0.0)
    except (AttributeError, TypeError):
        return  # no list, or one of fixed length: what follows the path will say so

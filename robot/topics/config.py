"""The `ros` section of a robot's configuration file: topic, type and field of each signal.

The section is checked against the contract here, and against the message types in `topics.fields`,
so that every mistake is found before the robot moves. docs/start/ROS.md explains the section.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from holdfast.contract import Contract
from holdfast.errors import ConfigError
from holdfast.robot.topics.message_types import Message, MessageType
from holdfast.safety_monitor.look import require_velocity
from holdfast.schema import POSITIVE, Matching
from holdfast.signals import CATALOGUE

Name = Annotated[
    str, Matching(re.compile(r"[~/]?\w[\w/]*"), "a topic's name, as odom or /base/odom")
]
TypeName = Annotated[str, Matching(re.compile(r"\w+/msg/\w+"), "a type, as nav_msgs/msg/Odometry")]

HOWS = ("fields", "yaw", "roll_pitch", "wxyz", "ranges", "joints")

ALL = "+"
"""Joins the names of several lidars to the name of the source of their common scan."""

CHILD_FRAME = {"nav_msgs/msg/Odometry": "twist."}
"""Prefix of the fields that are along `child_frame_id` instead of the header's frame."""


@dataclass(frozen=True)
class Joints:
    """Joints of a JointState, in the contract's order; the message may have another order."""

    field: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Ranges:
    """How a LaserScan becomes the signal `scan`: nearest things by sector, seen from the base.

    Attributes:
        position_m, yaw_rad: pose of the sensor on the base.
        upside_down: the sensor hangs, so that its rays are clockwise as seen from above.
        no_return: the meaning of a reading of exactly 0, which REP 117 does not define. "stop": the
            ray is invalid, like NaN; a sector without a valid ray is blind, which stops the robot.
            "near": something touches the sensor. "far": nothing is there; a sensor that reads 0
            for things that are too near does not see these. A scan of zeros and invalid rays alone
            is blind, with "far" too.
        unseen: the meaning of a sector without rays. "stop": blind, unless another lidar looks
            there. "far": free.
    """

    field: str = "ranges"
    position_m: tuple[float, float] = (0.0, 0.0)
    yaw_rad: float = 0.0
    upside_down: bool = False
    no_return: Literal["far", "near", "stop"] = "stop"
    unseen: Literal["far", "stop"] = "stop"


@dataclass(frozen=True)
class SignalField:
    """The unit of a signal and its place in a message, given in exactly one of the ways below.

    Attributes:
        fields: a path for each value, as "pose.pose.position.x" or "data[3]".
        yaw, roll_pitch, wxyz: path of a quaternion, from which an angle, two angles or four
            numbers are made.
        ranges: a LaserScan.
        joints: a JointState.
    """

    unit: str
    fields: tuple[str, ...] | None = None
    yaw: str | None = None
    roll_pitch: str | None = None
    wxyz: str | None = None
    ranges: Ranges | None = None
    joints: Joints | None = None

    def __post_init__(self) -> None:
        if sum(getattr(self, how) is not None for how in HOWS) != 1:
            raise ValueError(f"should have exactly one of {', '.join(HOWS)}")

    @property
    def how(self) -> str:
        """The name of the way in which the signal is read."""
        return next(how for how in HOWS if getattr(self, how) is not None)

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the fields that are read."""
        if self.fields is not None:
            return self.fields
        part = self.ranges or self.joints
        return (part.field if part else getattr(self, self.how),)

    @property
    def size(self) -> int:
        """The number of values of the signal."""
        if self.fields is not None:
            return len(self.fields)
        if self.joints is not None:
            return len(self.joints.names)
        return {"yaw": 1, "roll_pitch": 2, "wxyz": 4}.get(self.how, CATALOGUE["scan"].size or 0)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A topic that carries signals.

    Attributes:
        frame, child_frame: the frames that its messages should name; "": any, for drivers that
            leave the frame empty; None: not given, which is refused for a signal along a frame.
        reliable: lost messages are sent again; a best-effort publisher is not heard then.
    """

    topic: Name
    type: TypeName
    frame: str | None = None
    child_frame: str | None = None
    reliable: bool = False
    signals: Mapping[str, SignalField]

    @property
    def message_type(self) -> MessageType[Message]:
        """The type of its messages, for a graph."""
        return MessageType[Message](self.type)


@dataclass(frozen=True, kw_only=True)
class ActionTopic:
    """A topic that carries actions: the path of each action channel, by the channel's name."""

    topic: Name
    type: TypeName
    frame: str = ""
    fields: Mapping[str, str]

    @property
    def message_type(self) -> MessageType[Message]:
        """The type of its messages, for a graph."""
        return MessageType[Message](self.type)


@dataclass(frozen=True)
class Frames:
    """Names of the frames of REP-105, and of the frames of sensors parallel to the base."""

    odom: str = "odom"
    base: str = "base_link"
    aligned: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RosSection:
    """The topics of a robot.

    Attributes:
        frames: names of frames.
        sources: the topics that carry signals, by name.
        command: the topic of the commands that the robot's driver obeys.
        proposal: the topic of the proposals of a policy, a teleoperation or a navigation.
        command_timeout_s: the driver stops the robot by itself after so long without a command, s.
        stop_topics: std_msgs/Bool topics that are true while the robot's own hardware is stopped,
            each "latched" (transient local) or "plain". A robot of which one such topic has not
            spoken yet counts as stopped.
    """

    frames: Frames = Frames()
    sources: Mapping[str, Source]
    command: ActionTopic
    proposal: ActionTopic
    command_timeout_s: Annotated[float, POSITIVE]
    stop_topics: Mapping[Name, Literal["latched", "plain"]] = dataclasses.field(
        default_factory=dict
    )

    @property
    def lidars(self) -> tuple[str, ...]:
        """The sources that carry `scan`."""
        return tuple(name for name, source in self.sources.items() if "scan" in source.signals)

    def signals(self) -> dict[str, dict[str, int]]:
        """Return the signals of each source, with their sizes.

        Several lidars are one more source, which has their common scan; each of them has none.
        """
        found = {
            name: {signal: field.size for signal, field in source.signals.items()}
            for name, source in self.sources.items()
        }
        if len(self.lidars) > 1:
            for name in self.lidars:
                size = found[name].pop("scan")
            found[ALL.join(self.lidars)] = {"scan": size}
        return found

    def require_fit(self, contract: Contract, also: Collection[str] = ()) -> None:
        """Check the section against a contract.

        Args:
            also: names of further signals that are needed.

        Raises:
            ConfigError: a signal is unknown, comes twice or not at all, or has another size, unit
                or frame; the velocity is not measured; the action channels are not the
                contract's; the driver's time limit is not longer than a period.
        """
        names: list[str] = []
        for name, source in self.sources.items():
            for signal, field in source.signals.items():
                where = f"ros.sources.{name}.signals.{signal}"
                check_signal(where, signal, field, contract)
                self._check_frame(where, signal, field, source, contract)
                names.append(signal)
        if twice := sorted({name for name in names if names.count(name) > 1} - {"scan"}):
            raise ConfigError(f"ros.sources: {', '.join(twice)} should come from one source alone")
        if missing := sorted({*contract.observed_signals, *also}.difference(names)):
            raise ConfigError(f"ros.sources: nothing carries {', '.join(missing)}, which is needed")
        require_velocity(contract, names)
        channels = [channel.name for channel in contract.action]
        for key, topic in (("command", self.command), ("proposal", self.proposal)):
            if set(topic.fields) != set(channels):
                raise ConfigError(
                    f"ros.{key}.fields: should name the contract's action channels, "
                    f"{', '.join(channels)}; received {', '.join(topic.fields)}"
                )
        if self.command_timeout_s <= contract.period_s:
            raise ConfigError(
                f"ros.command_timeout_s {self.command_timeout_s} should be above the contract's "
                f"period_s {contract.period_s}"
            )

    def _check_frame(
        self, where: str, signal: str, field: SignalField, source: Source, contract: Contract
    ) -> None:
        """Raise ConfigError unless the source's frame is the frame of the signal."""
        kind = contract.known_signals[signal].frame
        if not kind:
            return
        inner = CHILD_FRAME.get(source.type)
        in_child = inner is not None and all(path.startswith(inner) for path in field.paths)
        key, frame = ("child_frame", source.child_frame) if in_child else ("frame", source.frame)
        names = self.frames
        right = [names.odom] if kind == "odom" else [names.base, *names.aligned]
        if frame != "" and frame not in right:
            received = "received nothing" if frame is None else f"received '{frame}'"
            raise ConfigError(
                f"{where}: is along the {kind} frame, so its source's {key} should be "
                f"{' or '.join(right)}, or '' for a driver that leaves it empty; {received}"
            )


def check_signal(where: str, signal: str, field: SignalField, contract: Contract) -> None:
    """Raise ConfigError unless a field has the signal's unit, size and kind."""
    known = contract.known_signals
    if signal not in known:
        raise ConfigError(f"{where}: signal should be one of {', '.join(known)}")
    unit, size = known[signal].unit, contract.signal_size(signal)
    if field.unit != unit:
        raise ConfigError(
            f"{where}: unit should be '{unit}', received '{field.unit}'; ROS's messages are in SI "
            "units (REP-103)"
        )
    if (field.how == "ranges") != (signal == "scan"):
        raise ConfigError(f"{where}: ranges are for the signal scan, and scan is made of ranges")
    if size is not None and field.size != size:
        raise ConfigError(f"{where}: should give {size} values, received {field.size}")

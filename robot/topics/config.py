"""Topics: which messages of a ROS graph carry a robot's signals and actions.

This is the `ros` section of a robot's configuration file: for each signal its topic, type and
field. It is checked against the contract here, and against the message types when it is bound
to a graph (`robot.fields`), so that nothing is found out while the robot moves. docs/ROS.md
explains the section.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from holdfast.contract import Contract
from holdfast.errors import ConfigError
from holdfast.schema import POSITIVE, Matching
from holdfast.signals import CATALOGUE

Name = Annotated[
    str, Matching(re.compile(r"[~/]?\w[\w/]*"), "a topic's name, as odom or /base/odom")
]
TypeName = Annotated[str, Matching(re.compile(r"\w+/msg/\w+"), "a type, as nav_msgs/msg/Odometry")]

HOWS = ("fields", "yaw", "roll_pitch", "wxyz", "ranges", "joints")

ALL = "+"
"""Between the names of lidars: the name of the source that they are together."""

CHILD_FRAME = {"nav_msgs/msg/Odometry": "twist."}
"""Fields that are given in the message's `child_frame_id`, not in its header's frame."""


@dataclass(frozen=True)
class Joints:
    """Joints of a JointState, in the contract's order: the message's own may be any."""

    field: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Ranges:
    """How a LaserScan becomes the signal `scan`, nearest things by sector as seen from the base.

    Attributes:
        position_m, yaw_rad: of the sensor on the base.
        upside_down: the sensor hangs, so that it counts its rays clockwise as seen from above.
        no_return: what a reading of exactly 0 means, which REP 117 does not say. "stop": the ray
            is invalid, as NaN is; a sector without a valid ray is blind, which stops the robot.
            "near": something touches the sensor. "far": nothing is there; then what is too near
            for a sensor that says 0 of it is not seen. A scan of nothing but zeros and invalid
            rays is blind, with "far" too.
        unseen: what a sector is that no ray looks into: "stop", blind unless another lidar looks
            there; "far", free.
    """

    field: str = "ranges"
    position_m: tuple[float, float] = (0.0, 0.0)
    yaw_rad: float = 0.0
    upside_down: bool = False
    no_return: Literal["far", "near", "stop"] = "stop"
    unseen: Literal["far", "stop"] = "stop"


@dataclass(frozen=True)
class SignalField:
    """Where in a message a signal is, and its unit: exactly one of the following.

    Attributes:
        fields: a path for each value, as "pose.pose.position.x" or "data[3]".
        yaw, roll_pitch, wxyz: path of a quaternion to make an angle, two angles or four
            numbers of.
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
        """Which of the ways it is read in."""
        return next(how for how in HOWS if getattr(self, how) is not None)

    @property
    def paths(self) -> tuple[str, ...]:
        """The fields that it reads."""
        if self.fields is not None:
            return self.fields
        part = self.ranges or self.joints
        return (part.field if part else getattr(self, self.how),)

    @property
    def size(self) -> int:
        """How many values it gives."""
        if self.fields is not None:
            return len(self.fields)
        if self.joints is not None:
            return len(self.joints.names)
        return {"yaw": 1, "roll_pitch": 2, "wxyz": 4}.get(self.how, CATALOGUE["scan"].size or 0)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A topic that signals come from.

    Attributes:
        frame, child_frame: what its messages should say; "" takes any, for drivers that leave it
            empty. None: not said, which a signal along a frame does not allow.
        reliable: ask for lost messages to be sent again; a best-effort publisher does not match
            then.
    """

    topic: Name
    type: TypeName
    frame: str | None = None
    child_frame: str | None = None
    reliable: bool = False
    signals: Mapping[str, SignalField]


@dataclass(frozen=True, kw_only=True)
class ActionTopic:
    """A topic that actions travel on: a path for each action channel, by its name."""

    topic: Name
    type: TypeName
    frame: str = ""
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Frames:
    """Names of frames: REP-105's two, and those of sensors that are parallel to the base."""

    odom: str = "odom"
    base: str = "base_link"
    aligned: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RosSection:
    """A robot as its topics.

    Attributes:
        command: what the robot's driver obeys.
        proposal: what a policy, a teleoperation or a navigation would like to send.
        command_timeout_s: the driver stops the robot by itself when no command came for so long.
        stop_topics: std_msgs/Bool topics that say true while the robot's own hardware is stopped,
            each "latched" (published transient local) or "plain". Until one has spoken, the robot
            counts as stopped.
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

    def signals(self) -> dict[str, tuple[str, ...]]:
        """Return the signals of each source.

        Of several lidars each is a source without a signal, and all together are one more.
        """
        found = {name: tuple(source.signals) for name, source in self.sources.items()}
        if len(self.lidars) > 1:
            for name in self.lidars:
                found[name] = tuple(signal for signal in found[name] if signal != "scan")
            found[ALL.join(self.lidars)] = ("scan",)
        return found

    def require_fit(self, contract: Contract, also: Collection[str] = ()) -> None:
        """Check the section against a contract.

        Args:
            also: signals that are needed beside those that the contract observes.

        Raises:
            ConfigError: a signal that is unknown, comes twice or not at all, has another size,
                unit or frame; action channels that are not the contract's; a robot that would
                stop itself between two commands.
        """
        names: list[str] = []
        for name, source in self.sources.items():
            for signal, field in source.signals.items():
                where = f"ros.sources.{name}.signals.{signal}"
                check_signal(where, signal, field, contract)
                self._check_frame(where, signal, field, source)
                names.append(signal)
        if twice := sorted({name for name in names if names.count(name) > 1} - {"scan"}):
            raise ConfigError(f"ros.sources: {', '.join(twice)} should come from one source alone")
        if missing := sorted({*contract.signals, *also}.difference(names)):
            raise ConfigError(f"ros.sources: nothing carries {', '.join(missing)}, which is needed")
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

    def _check_frame(self, where: str, signal: str, field: SignalField, source: Source) -> None:
        """Is the frame that the source says it is in the one that the signal is of?"""
        kind = CATALOGUE[signal].frame
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
    """Raise ConfigError unless a field gives the signal as the catalogue and the contract say."""
    if signal not in CATALOGUE:
        raise ConfigError(f"{where}: signal should be one of {', '.join(CATALOGUE)}")
    unit, size = CATALOGUE[signal].unit, contract.signal_size(signal)
    if field.unit != unit:
        raise ConfigError(
            f"{where}: unit should be '{unit}', received '{field.unit}'; ROS's messages are in SI "
            "units (REP-103)"
        )
    if (field.how == "ranges") != (signal == "scan"):
        raise ConfigError(f"{where}: ranges are for the signal scan, and scan is made of ranges")
    if size is not None and field.size != size:
        raise ConfigError(f"{where}: should give {size} values, received {field.size}")

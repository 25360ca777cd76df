"""The interface to a ROS graph, which rclpy and plain DDS implement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from holdfast.robot.topics.message_types import M, MessageType


@dataclass(frozen=True)
class Qos:
    """Quality of service; the history is keep-last.

    Attributes:
        reliable: lost messages are sent again; otherwise best effort.
        latched: a later subscriber gets the last message too (transient local).
        depth: number of messages that are kept.
    """

    reliable: bool
    latched: bool
    depth: int


SENSOR = Qos(reliable=False, latched=False, depth=5)
"""ROS's sensor data profile: the newest message counts; matches every publisher."""

COMMAND = Qos(reliable=True, latched=False, depth=1)
"""An old command is worth nothing."""

STATUS = Qos(reliable=True, latched=True, depth=1)
"""A status, which holds until the next message."""

PLAIN = Qos(reliable=True, latched=False, depth=10)
"""ROS's default profile."""


LONGEST_SLEEP_S = 0.1
"""Longest sleep, s: after a clock was set back, nothing sleeps for an hour."""


def names(publishers: Mapping[str, str]) -> str:
    """Return the publishers that `Graph.publishers` found, for people."""
    return ", ".join(sorted(name or f"node unknown ({key})" for key, name in publishers.items()))


class Graph(Protocol):
    """A node in a ROS graph. Names are relative unless they begin with "/" or "~/".

    Callbacks come on threads of the graph's own, one at a time for topics and one at a time for
    services, so that a service may wait for a topic.
    """

    def now_s(self) -> float:
        """Return the time on the clock of stamps: Unix time, or simulated time where it is used."""

    def sleep(self, until_s: float) -> None:
        """Return at a time on that clock, or earlier, because the clock may stand still or jump.

        The sleep is measured on monotonic time and is never longer than `LONGEST_SLEEP_S`.
        """

    def message_class(self, kind: MessageType[M]) -> type[M]:
        """Return the class of a message type; its instances have defaults.

        Raises:
            ConfigError: the type is not known here.
        """

    def subscribe(
        self, topic: str, kind: MessageType[M], qos: Qos, callback: Callable[[M], None]
    ) -> None:
        """Call back with every message that arrives."""

    def advertise(self, topic: str, kind: MessageType[M], qos: Qos) -> Callable[[M], None]:
        """Return a function that publishes a message, from any thread."""

    def publishers(self, topic: str) -> Mapping[str, str]:
        """Return the publishers of a topic that this node did not make, as discovery knows them.

        A publisher is discovered before its first message arrives. A publisher whose process was
        killed is known for some seconds more.

        Returns:
            Node name by id: the id (DDS's GUID) tells publishers apart; the name, like
            "/robot/teleop", is for people, and "" where it is not known.
        """

    def serve(self, name: str, answer: Callable[[], tuple[bool, str]]) -> None:
        """Offer a std_srvs/srv/Trigger: `answer` returns success and a sentence."""

    def flush(self) -> None:
        """Wait, within a limit, until published messages have arrived."""

    def warn(self, sentence: str) -> None:
        """Log a warning; the same sentence at most once in a few seconds."""

"""What Holdfast needs of a ROS graph, whatever carries its messages: rclpy, or DDS without ROS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from holdfast.robot.topics.message_types import M, MessageType


@dataclass(frozen=True)
class Qos:
    """Quality of service, as far as it is used here; history is keep-last.

    Attributes:
        reliable: lost messages are sent again; else best effort.
        latched: who subscribes later gets the last message (transient local).
        depth: messages kept.
    """

    reliable: bool
    latched: bool
    depth: int


SENSOR = Qos(reliable=False, latched=False, depth=5)
"""ROS's sensor data profile: the newest counts; matches every publisher."""

COMMAND = Qos(reliable=True, latched=False, depth=1)
"""An old command is worth nothing."""

STATUS = Qos(reliable=True, latched=True, depth=1)
"""What is so until something else is said."""

PLAIN = Qos(reliable=True, latched=False, depth=10)
"""ROS's default profile."""


LONGEST_SLEEP_S = 0.1
"""A sleep ends by then, so that a clock that was set back makes nobody wait for an hour."""


def names(publishers: Mapping[str, str]) -> str:
    """Return publishers, as `Graph.publishers` has them, for people."""
    return ", ".join(sorted(name or f"node unknown ({key})" for key, name in publishers.items()))


class Graph(Protocol):
    """A node in a ROS graph. Names are relative unless they begin with "/" or "~/".

    Callbacks come on threads of the graph's own, one at a time for topics and one at a time for
    services, so that a service may wait for a topic.
    """

    def now_s(self) -> float:
        """Return the time that stamps are on: Unix time, or simulated time where that is used."""

    def sleep(self, until_s: float) -> None:
        """Return at a time on that clock, or earlier: it may stand still, or jump.

        Measured on monotonic time, and never longer than `LONGEST_SLEEP_S`.
        """

    def message_class(self, kind: MessageType[M]) -> type[M]:
        """Return the class of a message type; its instances have defaults.

        Raises:
            ConfigError: there is no such type here.
        """

    def subscribe(
        self, topic: str, kind: MessageType[M], qos: Qos, callback: Callable[[M], None]
    ) -> None:
        """Call back with every message that arrives."""

    def advertise(self, topic: str, kind: MessageType[M], qos: Qos) -> Callable[[M], None]:
        """Return what publishes a message, from any thread."""

    def publishers(self, topic: str) -> Mapping[str, str]:
        """Return the publishers of a topic beside this node's own, as discovery knows them now.

        A publisher is discovered before its first message arrives. One whose process was killed
        is known for some seconds more.

        Returns:
            Node name by id: the id (DDS's GUID) tells publishers apart; the name, like
            "/robot/teleop", is for people, and "" where it is not known.
        """

    def serve(self, name: str, answer: Callable[[], tuple[bool, str]]) -> None:
        """Offer a std_srvs/srv/Trigger: `answer` returns success and a sentence."""

    def flush(self) -> None:
        """Wait, within a limit, until what was published has arrived."""

    def warn(self, sentence: str) -> None:
        """Say what somebody should know; at most once in a few seconds for each sentence."""

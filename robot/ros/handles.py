"""The part of rclpy's nodes and of their handles that Holdfast uses.

rclpy is not installed wherever types are checked, so that a type checker skips its classes; these
protocols let our calls be checked all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from holdfast.robot.topics.message_types import Message
from holdfast.robot.topics.message_types import Time as TimeMessage


class Time(Protocol):
    """A time on a node's clock: Unix time, or simulated time."""

    nanoseconds: int

    def to_msg(self) -> TimeMessage:
        """Return it as a builtin_interfaces/Time."""


class Clock(Protocol):
    """A node's clock."""

    ros_time_is_active: bool

    def now(self) -> Time:
        """Return the time."""


class Logger(Protocol):
    """A node's logger."""

    def warning(self, message: str) -> bool:
        """Log a warning."""


class Publisher(Protocol):
    """A publisher of one topic.

    Attributes:
        topic_name: the topic's name, resolved.
    """

    topic_name: str

    def publish(self, message: Message) -> None:
        """Publish a message."""

    def wait_for_all_acked(self, timeout: object) -> bool:
        """Wait for a `rclpy.duration.Duration` until every reliable reader has everything."""


class EndpointInfo(Protocol):
    """A publisher that discovery has found."""

    node_name: str
    node_namespace: str
    endpoint_gid: Sequence[int]


class Handle(Protocol):
    """A subscription, a service or a timer: only kept, and given back."""


class Node(Protocol):
    """A node, as far as a graph and the diagnostics need one."""

    def get_fully_qualified_name(self) -> str:
        """Return the node's name with its namespace."""

    def get_clock(self) -> Clock:
        """Return the node's clock."""

    def get_logger(self) -> Logger:
        """Return the node's logger."""

    def resolve_topic_name(self, topic: str) -> str:
        """Return the full name of a topic, as remappings have it."""

    def get_publishers_info_by_topic(self, topic_name: str) -> Sequence[EndpointInfo]:
        """Return the publishers of a topic."""

    def create_publisher(
        self, msg_type: type, topic: str, qos_profile: object, **options: object
    ) -> Publisher:
        """Make a publisher."""

    def create_subscription(
        self,
        msg_type: type,
        topic: str,
        callback: Callable[..., None],
        qos_profile: object,
        **options: object,
    ) -> Handle:
        """Make a subscription."""

    def create_service(
        self, srv_type: type, srv_name: str, callback: Callable[..., object], **options: object
    ) -> Handle:
        """Offer a service."""

    def create_timer(
        self, timer_period_sec: float, callback: Callable[[], None], **options: object
    ) -> Handle:
        """Call back again and again."""

    def destroy_publisher(self, publisher: Publisher) -> bool:
        """Take a publisher back."""

    def destroy_subscription(self, subscription: Handle) -> bool:
        """Take a subscription back."""

    def destroy_service(self, service: Handle) -> bool:
        """Take a service back."""

"""`RosGraph`: a node in a ROS graph, by way of rclpy."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_srvs.srv import Trigger

from holdfast.errors import ConfigError
from holdfast.robot.ros.handles import Node, Publisher
from holdfast.robot.topics.graph import LONGEST_SLEEP_S, Qos
from holdfast.robot.topics.message_types import M, MessageType

SIM_STEP_S = 1e-3
"""Longest wait between two looks at simulated time, s."""

FLUSH_S = 0.2
WARN_EVERY_S = 5.0


class RosGraph:
    """A `holdfast.robot.topics.graph.Graph` over an rclpy node.

    Publishers, subscriptions and services belong to the node until `close`.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._clock: Callable[[], float] | None = None
        self._topics = MutuallyExclusiveCallbackGroup()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._take_back: list[Callable[[], bool]] = []
        self._publishers: list[Publisher] = []
        self._warned_s: dict[str, float] = {}

    def use_clock(self, now_s: Callable[[], float]) -> None:
        """Take the time from a function instead of the node: for the node that publishes time."""
        self._clock = now_s

    def now_s(self) -> float:
        """Return the node's time: Unix time, or simulated time under use_sim_time."""
        if self._clock is not None:
            return self._clock()
        return float(self._node.get_clock().now().nanoseconds) * 1e-9

    def sleep(self, until_s: float) -> None:
        """Return at a time or earlier; under use_sim_time soon, for that time may stand still."""
        left_s = until_s - self.now_s()
        if left_s > 0.0:
            simulated = self._node.get_clock().ros_time_is_active
            self._closing.wait(min(left_s, SIM_STEP_S if simulated else LONGEST_SLEEP_S))

    def message_class(self, kind: MessageType[M]) -> type[M]:
        """Return the class of a message type.

        Raises:
            ConfigError: there is no such type, or its package is not installed.
        """
        package, _, name = kind.partition("/msg/")
        try:
            found: type[M] = getattr(importlib.import_module(f"{package}.msg"), name)
        except (ValueError, AttributeError, ModuleNotFoundError) as error:
            raise ConfigError(f"message type '{kind}': is not installed ({error})") from None
        return found

    def subscribe(
        self, topic: str, kind: MessageType[M], qos: Qos, callback: Callable[[M], None]
    ) -> None:
        """Call back with every message that arrives."""
        made = self._node.create_subscription(
            self.message_class(kind),
            topic,
            callback,
            _profile(qos),
            callback_group=self._topics,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._take_back.append(partial(self._node.destroy_subscription, made))

    def advertise(self, topic: str, kind: MessageType[M], qos: Qos) -> Callable[[M], None]:
        """Return a function that publishes a message, from any thread."""
        made = self._node.create_publisher(
            self.message_class(kind),
            topic,
            _profile(qos),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._take_back.append(partial(self._node.destroy_publisher, made))
        self._publishers.append(made)

        def publish(message: M) -> None:
            with self._lock:  # a callback may be under way when the graph is closed
                if not self._closing.is_set():
                    made.publish(message)

        return publish

    def publishers(self, topic: str) -> Mapping[str, str]:
        """Return the node names, by GUID, of a topic's publishers that this node did not make.

        Another node may have this node's name: as many publishers of that name as were made here
        are this node's own.
        """
        resolved, own = self._node.resolve_topic_name(topic), self._node.get_fully_qualified_name()
        mine = sum(made.topic_name == resolved for made in self._publishers)
        others: dict[str, str] = {}
        for info in self._node.get_publishers_info_by_topic(resolved):
            name = f"{info.node_namespace.rstrip('/')}/{info.node_name}"
            if name == own and mine:
                mine -= 1
            else:
                others[bytes(info.endpoint_gid).hex()] = name
        return others

    def serve(self, name: str, answer: Callable[[], tuple[bool, str]]) -> None:
        """Offer a std_srvs/srv/Trigger that waits for no other service."""

        def respond(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            response.success, response.message = answer()
            return response

        group = MutuallyExclusiveCallbackGroup()
        made = self._node.create_service(Trigger, name, respond, callback_group=group)
        self._take_back.append(partial(self._node.destroy_service, made))

    def flush(self) -> None:
        """Wait, within a limit, until published messages have arrived."""
        deadline_s = time.monotonic() + FLUSH_S
        for publisher in self._publishers:
            left_s = max(deadline_s - time.monotonic(), 0.0)
            publisher.wait_for_all_acked(Duration(nanoseconds=round(left_s * 1e9)))

    def warn(self, sentence: str) -> None:
        """Log a warning, at most once in five seconds for each sentence."""
        now_s = time.monotonic()
        recent = {s: at_s for s, at_s in self._warned_s.items() if now_s - at_s < WARN_EVERY_S}
        if sentence not in recent:
            self._node.get_logger().warning(sentence)
            recent[sentence] = now_s
        self._warned_s = recent

    def close(self) -> None:
        """Take publishers, subscriptions and services back."""
        with self._lock:
            self._closing.set()
        for take_back in reversed(self._take_back):
            take_back()
        self._take_back.clear()
        self._publishers.clear()


def _profile(qos: Qos) -> QoSProfile:
    return QoSProfile(
        depth=qos.depth,
        reliability=ReliabilityPolicy.RELIABLE if qos.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=(DurabilityPolicy.TRANSIENT_LOCAL if qos.latched else DurabilityPolicy.VOLATILE),
    )

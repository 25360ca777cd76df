"""A node's health on `/diagnostics`: each second of wall time, and at once on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType

from holdfast.robot.ros.handles import Node

TOPIC = "/diagnostics"
PERIOD_S = 1.0


@dataclass(frozen=True)
class Health:
    """The health of a node.

    Attributes:
        level: 0 ok, 1 warning, 2 error, as in DiagnosticStatus.
        sentence: the health in words.
        values: further values by name.
    """

    level: int
    sentence: str
    values: Mapping[str, str] = field(default_factory=dict)

    def status(self, name: str, hardware_id: str) -> DiagnosticStatus:
        """Return the health as a message."""
        return DiagnosticStatus(
            level=bytes([self.level]),
            name=name,
            message=self.sentence,
            hardware_id=hardware_id,
            values=[KeyValue(key=key, value=value) for key, value in self.values.items()],
        )


class Diagnostics:
    """Publishes a node's health.

    Attributes:
        hardware_id: name of the unit that the node belongs to.
    """

    def __init__(self, node: Node, health: Callable[[], Health]) -> None:
        self._node, self._health = node, health
        self.hardware_id = "none"
        self._publisher = node.create_publisher(DiagnosticArray, TOPIC, 10)
        # A timer on the node's own clock would stand still when that clock is set back.
        self._timer = node.create_timer(
            PERIOD_S,
            self.publish,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def publish(self) -> None:
        """Publish the health now; may be called from any thread."""
        name = f"{self._node.get_fully_qualified_name().lstrip('/')}: state"
        message = DiagnosticArray(status=[self._health().status(name, self.hardware_id)])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

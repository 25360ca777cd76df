"""`base_node`: the ROS driver of a mobile base that speaks Holdfast's link on a serial port."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping

from holdfast.errors import ConfigError, LinkError
from holdfast.robot import config as configs
from holdfast.robot.ros.node import Health, ManagedNode, Option, run
from holdfast.robot.serial.hardware import SerialHardware
from holdfast.robot.serial.port import BAUD, DEFAULT_BAUD
from holdfast.robot.serial.robot import SerialRobot
from holdfast.robot.topics.config import RosSection, Source
from holdfast.robot.topics.driver import Driver, Hardware, MessageOptions
from holdfast.robot.topics.message_types import TRANSFORMS

MESSAGE_OPTIONS = (
    Option("robot_config", "", "configuration file of the robot; empty: the installed file"),
    Option("odom_frame", "odom", "frame of the odometry"),
    Option("base_frame", "base_link", "frame of the robot"),
    Option("imu_frame", "imu_link", "frame of the IMU; its axes are parallel to the base frame's"),
    Option(
        "wheel_joints",
        ["left_wheel_joint", "right_wheel_joint"],
        "left and right wheel joint names; an empty list: no joint states",
    ),
    Option("publish_tf", True, "also publish the odometry as a transform"),
    Option(
        "pose_covariance_diagonal", [0.0] * 6, "variances of the odometry's pose, SI units squared"
    ),
    Option(
        "twist_covariance_diagonal",
        [0.0] * 6,
        "variances of the odometry's velocity, SI units squared",
    ),
)
"""Parameters of every driver node: frames, covariances and optional messages."""


class DriverNode(ManagedNode):
    """A node that runs a driver in a thread of its own.

    Attributes:
        driver: the driver; None while the node is not configured.
        lost: why the hardware was lost; empty while it is there.
    """

    driver: Driver | None = None
    lost = ""

    def make_driver(
        self,
        hardware: Hardware,
        section: RosSection,
        options: MessageOptions,
        extra_sources: Mapping[str, Source] | None = None,
    ) -> None:
        """Make the driver, which runs while the node is active."""
        self.driver = Driver(self.graph, hardware, section, options, extra_sources)

    def section(self, robot: str) -> RosSection:
        """Return the topics of the robot's configuration file."""
        return configs.load(self.path("robot_config") or configs.find(robot)).topics()

    def message_options(self) -> MessageOptions:
        """Return the options of the driver's messages that the parameters give.

        Raises:
            ConfigError: a diagonal does not have six numbers.
        """
        diagonals = []
        for name in ("pose_covariance_diagonal", "twist_covariance_diagonal"):
            diagonal = self.numbers(name)
            if len(diagonal) != 6:
                raise ConfigError(f"parameter {name} should be six numbers, received {diagonal}")
            diagonals.append(diagonal)
        return MessageOptions(
            odom_frame=self.text("odom_frame"),
            base_frame=self.text("base_frame"),
            imu_frame=self.text("imu_frame"),
            joints=self.texts("wheel_joints"),
            publish_tf=self.flag("publish_tf") and self._knows_transforms(),
            pose_covariance=diagonals[0],
            twist_covariance=diagonals[1],
        )

    def _knows_transforms(self) -> bool:
        """Return whether tf2_msgs is installed; ROS's Python packages on PyPI lack it."""
        try:
            self.graph.message_class(TRANSFORMS)
        except ConfigError as error:
            self.get_logger().warning(f"publish_tf: no transforms are published; {error}")
            return False
        return True

    def activate(self) -> None:
        """Start the driver's thread."""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._drive, name="driver", daemon=True)
        self._thread.start()

    def _drive(self) -> None:
        assert self.driver is not None
        try:
            while not self._ending.is_set():
                self.driver.turn()
        except LinkError as error:
            self.lost = str(error)
            self.get_logger().error(f"{error}; deactivate, clean up and configure again")
            self.say_health()

    def halt(self) -> None:
        """Stop the hardware and the driver's thread."""
        self._ending.set()
        self._thread.join()
        assert self.driver is not None
        with contextlib.suppress(LinkError):  # a device that is lost stops by itself
            self.driver.rest()

    def release(self) -> None:
        """Close the hardware."""
        if self.driver is not None:
            self.driver.close()
            self.driver = None
        self.lost = ""

    def health(self) -> Health:
        """Return whether the hardware is there, and which faults it has latched."""
        if self.lost:
            return Health(2, self.lost)
        if self.driver is not None and self.driver.faults:
            return Health(2, "; ".join(self.driver.faults))
        if self.driver is not None and self.driver.refused:
            return Health(1, self.driver.refused)
        return super().health()


OPTIONS = (
    *MESSAGE_OPTIONS,
    Option("port", "", "serial port of the robot"),
    Option("baud", DEFAULT_BAUD, "speed of the serial port, baud", *BAUD),
)


class BaseNode(DriverNode):
    """The driver node of a robot that speaks Holdfast's link."""

    def __init__(self) -> None:
        super().__init__("base_node", OPTIONS)

    def configure(self) -> None:
        """Open the port and greet the device."""
        port = self.text("port")
        if not port:
            raise ConfigError("parameter port should name a serial port, it is empty")
        robot = SerialRobot.connect(f"serial:{port}?baud={self.whole('baud')}")
        try:
            if robot.identity.lockstep:
                raise ConfigError(f"{port}: a twin in lockstep cannot be driven in real time")
            section, options = self.section(robot.identity.robot), self.message_options()
            self.make_driver(SerialHardware(robot, self.graph.now_s), section, options)
        except BaseException:
            robot.close()
            raise
        self.name_hardware(robot.identity.hardware_id)


def main() -> int:
    """Run the node."""
    return run(BaseNode)

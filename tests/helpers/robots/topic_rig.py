"""A robot of topics for tests: what its driver would say, said by the test, over real sockets."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from holdfast.robot import config as configs
from holdfast.robot.topics.config import RosSection
from holdfast.robot.topics.fields import ActionCodec, set_stamp
from holdfast.robot.topics.graph import COMMAND, PLAIN, STATUS
from tests.helpers.data.bundles import drive_contract
from tests.helpers.ros import graphs

ODOMETRY, IMU, BOOL = "nav_msgs/msg/Odometry", "sensor_msgs/msg/Imu", "std_msgs/msg/Bool"
CONTRACT = drive_contract()


def section(**changes: object) -> RosSection:
    """Return the drive robot's topics; without `stop_topics` the robot has no e-stop of its own."""
    return dataclasses.replace(configs.load(configs.find("drive")).topics(), **changes)


class Body:
    """The robot's side of its topics: it stands at the origin and remembers what it was told."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self._odom = graph.advertise("odom", ODOMETRY, PLAIN)
        self._imu = graph.advertise("imu", IMU, PLAIN)
        self._e_stop = graph.advertise("hardware/e_stop", BOOL, STATUS)
        command = section().command
        self._codec = ActionCodec("command", command, graph, CONTRACT.action_names)
        self.commands: list[np.ndarray] = []
        graph.subscribe(
            command.topic,
            command.type,
            COMMAND,
            lambda message: self.commands.append(self._codec.action(message)),
        )

    def say(self, age_s: float = 0.0, x: float = 0.0, frame: str = "odom") -> None:
        """Publish a measurement that is so old."""
        stamp_s = time.time() - age_s
        odometry = self.graph.message_class(ODOMETRY)()
        set_stamp(odometry.header.stamp, stamp_s)
        odometry.header.frame_id, odometry.child_frame_id = frame, "base_link"
        odometry.pose.pose.position.x = x
        odometry.pose.pose.orientation.w = 1.0
        self._odom(odometry)
        imu = self.graph.message_class(IMU)()
        set_stamp(imu.header.stamp, stamp_s)
        imu.header.frame_id = "imu_link"
        imu.orientation.w = 1.0
        self._imu(imu)

    def press(self, pressed: bool) -> None:
        """Say that the hardware is stopped, or is not."""
        message = self.graph.message_class(BOOL)()
        message.data = pressed
        self._e_stop(message)

    def until_moved(self, value: float) -> None:
        """Wait for a command of this forward speed."""
        graphs.until(lambda: any(command[0] == value for command in self.commands))


def call(graph: Any, name: str, asked: Any = None) -> tuple[bool, str]:
    """Call a std_srvs/Trigger as a ROS client over Cyclone DDS does."""
    from holdfast.robot.dds.types import REQUEST_ID, structure

    request, response = "std_srvs/Trigger_Request", "std_srvs/Trigger_Response"
    answers: list[Any] = []
    base = name if name.startswith("/") else f"/{name}"
    reader = graph._reader(f"rr{base}Reply", response, structure(response, REQUEST_ID), PLAIN)
    graph._topic_reader.add(reader, 10, answers.append)
    asking = structure(request, REQUEST_ID)
    writer = graph._writer(f"rq{base}Request", request, asking, PLAIN)
    graphs.until(writer.get_matched_subscriptions)
    graphs.until(reader.get_matched_publications)
    writer.write(asking(guid=1, seq=len(answers) + 1))
    (answer,) = graphs.until(lambda: answers)
    return answer.success, answer.message

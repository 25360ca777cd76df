"""What the launch tests share: a system to launch, and a client that looks at it and asks.

Runs in ROS's own Python, so it imports ROS and the standard library alone.
"""

from __future__ import annotations

import math
import os
import subprocess
import threading
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from ament_index_python.packages import get_package_share_directory
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_testing.actions import ReadyToTest
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

FOLDER = Path(os.environ.get("HOLDFAST_TEST_FOLDER", "."))
"""Where the bundles lie that the tests run, and where they log."""

LIMIT_S = 40.0
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
MONITOR = "/safety_monitor_node"


def include(name: str, **arguments: str) -> IncludeLaunchDescription:
    """Return one of Holdfast's launch files, with arguments."""
    path = Path(get_package_share_directory("holdfast")) / "launch" / f"{name}.launch.py"
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(path)), launch_arguments=arguments.items()
    )


def described(*parts: Any) -> LaunchDescription:
    """Return a system under test; the tests wait for what they need by themselves."""
    return LaunchDescription([*parts, ReadyToTest()])


def log_dir(name: str) -> str:
    """Return a place for a run's log that no other run has."""
    return str(FOLDER / f"{name}-{time.time_ns()}")


def until(condition: Callable[[], Any], limit_s: float = LIMIT_S) -> Any:
    """Wait until something is so, and return it; fails if it never is."""
    deadline_s = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, "it never came to pass"
        time.sleep(0.02)
    return found


class Client:
    """A node that hears what the system says, and asks things of it."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("tester")
        self.commands: list[TwistStamped] = []
        self.statuses: list[DiagnosticStatus] = []
        self.odometry: list[Odometry] = []
        self.e_stops: list[bool] = []
        self.diagnostics: list[tuple[float, DiagnosticStatus]] = []
        hear = self.node.create_subscription
        hear(TwistStamped, "cmd_vel", self.commands.append, 10)
        hear(Odometry, "odom", self.odometry.append, qos_profile_sensor_data)
        hear(DiagnosticStatus, f"{MONITOR}/status", self.statuses.append, LATCHED)
        hear(Bool, "hardware/e_stop", lambda m: self.e_stops.append(m.data), LATCHED)
        hear(DiagnosticArray, "/diagnostics", self._diagnosed, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def _diagnosed(self, array: DiagnosticArray) -> None:
        self.diagnostics += [(time.monotonic(), status) for status in array.status]

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(2.0)
        self.node.destroy_node()
        rclpy.shutdown()

    # Asking.

    def call(self, kind: Any, name: str, request: Any, limit_s: float = LIMIT_S) -> Any:
        client = self.node.create_client(kind, name)
        try:
            assert client.wait_for_service(limit_s), f"there is no {name}"
            future = client.call_async(request)
            until(future.done, limit_s)
            return future.result()
        finally:
            self.node.destroy_client(client)

    def trigger(self, name: str) -> tuple[bool, str]:
        answer = self.call(Trigger, name, Trigger.Request())
        return answer.success, answer.message

    def lifecycle(self, node: str) -> str:
        return str(self.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label)

    def change(self, node: str, label: str) -> bool:
        request = ChangeState.Request()
        request.transition.label = label
        return bool(self.call(ChangeState, f"{node}/change_state", request).success)

    # Looking.

    @property
    def state(self) -> str:
        """The monitor's, as it last said."""
        return self.statuses[-1].message.partition(":")[0] if self.statuses else ""

    @property
    def codes(self) -> str:
        return {v.key: v.value for v in self.statuses[-1].values}["reasons"]

    def speed(self) -> float:
        """The robot's, by its own newest odometry; nothing heard is fast."""
        if not self.odometry:
            return math.inf
        twist = self.odometry[-1].twist.twist
        return max(abs(twist.linear.x), abs(twist.angular.z))

    def commanded(self) -> float:
        twist = self.commands[-1].twist
        return max(abs(twist.linear.x), abs(twist.angular.z))

    def until_state(self, *states: str) -> None:
        until(lambda: self.state in states)

    def until_stands(self) -> None:
        """Wait until the robot stands, and is still standing a moment later."""
        until(lambda: self.speed() < 0.02)
        time.sleep(0.5)
        assert self.speed() < 0.02

    def up(self) -> None:
        """Wait until the whole system is."""
        until(lambda: self.odometry and self.statuses and self.lifecycle(MONITOR) == "active")

    def ready(self) -> None:
        self.up()
        until(lambda: self.trigger(f"{MONITOR}/reset")[0])
        self.until_state("READY")

    def drives(self) -> None:
        """Reset, arm, and wait until the robot moves."""
        self.ready()
        done, sentence = self.trigger(f"{MONITOR}/arm")
        assert done, sentence
        until(lambda: self.speed() > 0.3)


class Case(unittest.TestCase):
    """Tests with a client each."""

    def setUp(self) -> None:
        self.client = Client()

    def tearDown(self) -> None:
        self.client.close()


def pids(executable: str) -> list[int]:
    """Return the processes of one of our nodes, of this test's system alone."""
    found = subprocess.run(
        ["pgrep", "-f", f"lib/holdfast/{executable} --ros-args"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    own = []
    for pid in map(int, found):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']}".encode() in environment:
            own.append(pid)
    return own


def kill(executable: str, number: int) -> None:
    """Send a real signal to one of our nodes."""
    (pid,) = until(lambda: pids(executable))
    os.kill(pid, number)

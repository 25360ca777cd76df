"""Nodes as processes of their own, and a client that looks at them and asks, as a ROS user does."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import rclpy
import rclpy.parameter
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Odometry
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from tests.helpers.ros import graphs

LIMIT_S = 40.0
DRIVES = ("ACTIVE", "LIMITED")
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
MONITOR, POLICY, TWIN, BASE = "safety_monitor_node", "policy_node", "twin_node", "base_node"
WHERE = {TWIN: "holdfast.sim.twin.node"}
ERROR = DiagnosticStatus.ERROR
DRIVERS = (f"{BASE}: state", f"{TWIN}: state")
FALSE_ALARMS = ("another program", "this program", "did not obey")
"""What a driver says of a device that does not obey it alone; no test here makes one so."""

until = partial(graphs.until, limit_s=LIMIT_S)


def environment() -> dict[str, str]:
    """Return the environment of all processes: this one's ROS, in the tests' domain."""
    here = {k: v for k, v in os.environ.items() if k != "RMW_IMPLEMENTATION"}
    found = {**here, **graphs.ENVIRONMENT, "ROS_PYTHON_CHECK_FIELDS": "1"}
    found["RMW_IMPLEMENTATION"] = rclpy.get_rmw_implementation_identifier()
    return found


class Node:
    """One of our nodes, as a process.

    Args:
        before: Python that the process runs before the node.
    """

    def __init__(
        self, name: str, folder: Path, namespace: str = "", before: str = "", **parameters: Any
    ) -> None:
        self.name = name
        self._out = folder / f"{name}-{time.time_ns()}.txt"
        file = self._out.with_suffix(".yaml")
        file.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
        module = WHERE.get(name, f"holdfast.robot.ros.{name}")
        program = f"{before}\nimport sys; from {module} import main; sys.exit(main())"
        arguments = ["-r", f"__ns:=/{namespace.strip('/')}"]
        if parameters:
            arguments += ["--params-file", str(file)]
        with self._out.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, "--ros-args", *arguments],
                env=environment(),
                cwd=folder,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return self._out.read_text()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self, limit_s: float = 20.0) -> int:
        return self.process.wait(limit_s)

    def close(self) -> None:
        """End it, whatever state it is in."""
        for number in (signal.SIGCONT, signal.SIGINT):
            self.process.send_signal(number)
        try:
            self.process.wait(15.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Client:
    """Hears what the system in a namespace says, and asks things of it."""

    def __init__(self, namespace: str = "") -> None:
        os.environ.update(environment())
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("tester", namespace=namespace, context=self._context)
        self.commands: list[TwistStamped] = []
        self.heard_s: list[float] = []
        self.statuses: list[DiagnosticStatus] = []
        self.odometry: list[Odometry] = []
        self.e_stops: list[bool] = []
        self.diagnostics: list[DiagnosticStatus] = []
        self._clients: dict[str, Any] = {}
        hear = self.node.create_subscription
        hear(TwistStamped, "cmd_vel", self._commanded, 10)
        hear(Odometry, "odom", self.odometry.append, qos_profile_sensor_data)
        hear(DiagnosticStatus, f"{MONITOR}/status", self.statuses.append, LATCHED)
        hear(Bool, "hardware/e_stop", lambda m: self.e_stops.append(m.data), LATCHED)
        hear(DiagnosticArray, "/diagnostics", lambda m: self.diagnostics.extend(m.status), 10)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def _commanded(self, message: TwistStamped) -> None:
        self.heard_s.append(time.monotonic())
        self.commands.append(message)

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(2.0)
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    # Asking.

    def begin(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service; return the future of its answer."""
        client = self.node.create_client(kind, name)
        assert client.wait_for_service(LIMIT_S), f"there is no {name}"
        return client.call_async(request)

    def call(self, kind: Any, name: str, request: Any, limit_s: float = LIMIT_S) -> Any:
        """Call a service; over Fast DDS the first answer to a new client may be lost.

        A service's client is kept: hundreds of them delay whoever joins the graph.
        """
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, name)
        assert self._clients[name].wait_for_service(LIMIT_S), f"there is no {name}"
        for _ in range(3):
            future = self._clients[name].call_async(request)
            deadline_s = time.monotonic() + limit_s / 3
            while not future.done() and time.monotonic() < deadline_s:
                time.sleep(0.005)
            if future.done():
                return future.result()
        raise AssertionError(f"{name} does not answer")

    def trigger(self, name: str, limit_s: float = LIMIT_S) -> tuple[bool, str]:
        answer = self.call(Trigger, name, Trigger.Request(), limit_s)
        return answer.success, answer.message

    def ask(self, what: str, limit_s: float = LIMIT_S) -> tuple[bool, str]:
        return self.trigger(f"{MONITOR}/{what}", limit_s)

    def lifecycle(self, node: str) -> str:
        return str(self.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label)

    def change(self, node: str, label: str) -> bool:
        request = ChangeState.Request()
        request.transition.label = label
        return bool(self.call(ChangeState, f"{node}/change_state", request).success)

    def bring_up(self, *nodes: str) -> None:
        """Configure and activate nodes, one after another."""
        for node in nodes:
            for label, state in (("configure", "inactive"), ("activate", "active")):
                # Asked again because an answer took long, it refuses what it has done already.
                done = self.change(node, label) or self.lifecycle(node) == state
                assert done, f"{node}: {label} failed"

    def set(self, node: str, **parameters: Any) -> tuple[bool, str]:
        """Set parameters; return whether all were, and why not."""
        made = [
            rclpy.parameter.Parameter(name, value=value).to_parameter_msg()
            for name, value in parameters.items()
        ]
        request = SetParameters.Request(parameters=made)
        results = self.call(SetParameters, f"{node}/set_parameters", request).results
        return all(r.successful for r in results), "; ".join(r.reason for r in results)

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
        time.sleep(0.3)
        assert self.speed() < 0.02

    def ready(self) -> None:
        """Reset the monitor, as often as a stall of this computer stops it, rightly."""
        until(lambda: self.odometry and self.statuses)

        def is_ready() -> bool:
            if self.state != "READY":
                if self.e_stops and self.e_stops[-1]:
                    self._release()
                self.ask("disarm" if self.state in DRIVES else "reset")
                time.sleep(0.1)
            return self.state == "READY"

        until(is_ready)

    def _release(self) -> None:
        """Release what a stall or a test latched; a false alarm of the driver is a failure.

        Both topics lag behind the driver: what was released since the driver last said what it
        has latched is never said, and needs no release.
        """
        until(lambda: self._latched() or not self.e_stops[-1])
        if why := self._latched():
            assert not any(alarm in why for alarm in FALSE_ALARMS), why
            self.trigger("hardware/e_stop_reset")

    def _latched(self) -> str:
        """Return what the driver has latched, as it last said; empty: nothing."""
        drivers = [d for d in self.diagnostics if d.name.endswith(DRIVERS)]
        return drivers[-1].message if drivers and drivers[-1].level == ERROR else ""

    def drives(self, speed: float = 0.3) -> None:
        """Reset, arm, and wait until the robot moves."""

        def moves() -> bool:
            if self.state not in DRIVES:
                self.ready()
                self.ask("arm")
                time.sleep(0.1)
            return self.state in DRIVES and self.speed() > speed

        until(moves)


@contextmanager
def system(folder: Path, namespace: str, *nodes: tuple[str, dict[str, Any]]) -> Iterator[Any]:
    """Start nodes and bring them up in order; yield the client and the nodes by name."""
    client = Client(namespace)
    made = {name: Node(name, folder, namespace, **given) for name, given in nodes}
    try:
        client.bring_up(*made)
        yield client, made
    except BaseException:
        for name, node in made.items():
            print(f"--- {name}\n{node.said()}")
        raise
    finally:
        for node in reversed(made.values()):
            node.close()
        client.close()

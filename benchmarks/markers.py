"""How long the safety monitor's thread needs to publish its markers.

    python -m benchmarks.markers

A viewer in this process hears them over DDS. The node publishes at most five times a second; in
all other periods the call returns at once.
"""

from __future__ import annotations

import os
import time

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from visualization_msgs.msg import MarkerArray

from holdfast.robot import config as configs
from holdfast.robot.ros import markers
from holdfast.robot.ros.graph import RosGraph
from holdfast.safety_monitor.messages import Reading
from holdfast.safety_monitor.monitor import Monitor
from tests.helpers.data.bundles import drive_contract

CALLS = 300


def main() -> None:
    """Print the times of calls that publish, and of calls that do not."""
    rclpy.init()
    node, viewer = rclpy.create_node("monitor"), rclpy.create_node("viewer")
    heard: list[MarkerArray] = []
    viewer.create_subscription(MarkerArray, "monitor/markers", heard.append, 10)
    executor = SingleThreadedExecutor()
    executor.add_node(viewer)
    limits, contract = configs.load(configs.find("drive")).monitor, drive_contract()
    monitor, drawing = Monitor(contract, limits), markers.Markers(RosGraph(node), "odom")
    begin_s = time.perf_counter()
    drawing.begin(contract, limits)
    zones_s = time.perf_counter() - begin_s
    values = {"position": [0.1, 0.2], "heading": [0.5], "forward_speed": [0.8], "yaw_rate": [0.0]}
    signals = {name: np.array(value) for name, value in values.items()}
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * CALLS):
        now_s = 100.0 + 0.05 * number
        look = monitor.look(now_s, {"odom": Reading(now_s, number + 1, signals)})
        verdict = monitor.step(look, None)
        publishes = number % 2 == 0
        if publishes:
            time.sleep(markers.LEAST_S)
        begin_s = time.perf_counter()
        drawing.show(look, verdict)
        times[publishes].append(time.perf_counter() - begin_s)
        executor.spin_once(timeout_sec=0.0)
    print(f"load {os.getloadavg()[0]:.1f}; heard {len(heard)}; zones once {1e3 * zones_s:.1f} ms")
    for publishes, name in ((True, "with a message"), (False, "without")):
        half, late, most = 1e3 * np.percentile(times[publishes], [50, 99, 100])
        print(f"{name}: median {half:.3f}, p99 {late:.3f}, most {most:.3f} ms")
    rclpy.shutdown()


if __name__ == "__main__":
    main()

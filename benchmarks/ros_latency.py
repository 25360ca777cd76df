"""From proposal to command: what the safety monitor's node adds, beside a bare relay.

    python -m benchmarks.ros_latency --policy B.onnx

B.onnx is any bundle of robot `drive`; it is run faster than it was made for, which a benchmark
may. One listener hears three topics: the proposal, the monitor's command, and what a bare rclpy
relay in a process of its own makes of the same proposal. Both delays are between two arrivals at
the listener, of the same run, so they compare; a bare relay is the least that ROS in Python takes.
Jitter is that of the time between two commands.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import rclpy
import tyro
import yaml
from geometry_msgs.msg import TwistStamped
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile

from holdfast.bundle import reader as bundles
from holdfast.contract import Contract
from holdfast.robot import config as configs
from tests.helpers.ros.system import MONITOR, POLICY, TWIN, Client, Node, environment

QOS = QoSProfile(depth=10)
RELAYED = "cmd_vel_relayed"


def relay() -> None:
    """The least that passes a proposal on."""
    rclpy.init()
    node = rclpy.create_node("relay")
    publisher = node.create_publisher(TwistStamped, RELAYED, QOS)
    node.create_subscription(TwistStamped, "cmd_vel_proposed", publisher.publish, QOS)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)


def faster(policy: Path, rate_hz: float, folder: Path) -> tuple[Path, Path]:
    """Return the bundle with another period, sealed anew, and a robot configuration for it."""
    model = onnx.load(policy)
    entries = {entry.key: entry for entry in model.metadata_props}
    contract = Contract.from_json(entries["holdfast_contract"].value)
    contract = dataclasses.replace(contract, period_s=1.0 / rate_hz, episode_steps=1_000_000)
    entries["holdfast_contract"].value = contract.to_json()
    entries["holdfast_digest"].value = bundles.PLACEHOLDER
    made = folder / f"{rate_hz:g}.onnx"
    made.write_bytes(bundles.seal(model.SerializeToString(deterministic=True)))
    data = yaml.safe_load(configs.find(contract.robot).read_text())
    data["proposal_wait_s"] = 0.6 / rate_hz
    # It may drive where it will.
    off = ("geofence", "tracking", "following", "consistency", "frozen")
    data["monitor"] |= dict.fromkeys(off)
    config = folder / f"{rate_hz:g}.yaml"
    config.write_text(yaml.safe_dump(data))
    return made, config


class Listener:
    """Hears three topics, with the time of each arrival, and nothing else."""

    def __init__(self) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("listener", context=self._context)
        self.heard: dict[str, list[float]] = {}
        for topic in ("cmd_vel_proposed", "cmd_vel", RELAYED):
            times = self.heard.setdefault(topic, [])
            self._node.create_subscription(
                TwistStamped, topic, lambda _, t=times: t.append(time.perf_counter()), QOS
            )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._thread.join(2.0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def delays_ms(self, topic: str) -> np.ndarray:
        """From each proposal to the first message of a topic after it, if that came in time."""
        proposed, answers = (np.array(self.heard[t]) for t in ("cmd_vel_proposed", topic))
        following = np.searchsorted(answers, proposed)
        good = following < len(answers)
        return 1e3 * (answers[following[good]] - proposed[good])


def drive(nodes: Sequence[Node]) -> None:
    """Bring nodes up, and let the robot drive."""
    client = Client()
    try:
        client.bring_up(*(node.name for node in nodes))
        client.drives()
    finally:
        client.close()


def measure(policy: Path, rate_hz: float, seconds: float) -> list[str]:
    """Run a robot at a rate; return table rows."""
    with contextlib.ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        bundle, config = map(str, faster(policy, rate_hz, folder))
        given = {"policy": bundle, "robot_config": config}
        watch = {**given, "enable_motion": True, "log_dir": str(folder / "run")}
        nodes = []
        for name, parameters in ((TWIN, {"scan_rays": 0}), (MONITOR, watch), (POLICY, given)):
            nodes.append(Node(name, folder, **parameters))
            ending.callback(nodes[-1].close)
        relaying = subprocess.Popen([sys.executable, __file__, "--relay"], env=environment())
        ending.callback(relaying.wait)
        ending.callback(relaying.send_signal, signal.SIGINT)
        drive(nodes)
        listener = Listener()
        ending.callback(listener.close)
        time.sleep(2.0)
        for times in listener.heard.values():
            times.clear()
        time.sleep(seconds)
    rows = []
    for who, topic in (("safety_monitor_node", "cmd_vel"), ("bare relay", RELAYED)):
        delays = listener.delays_ms(topic)
        half, late, worst = np.percentile(delays, [50, 99, 100])
        jitter = 1e3 * np.diff(listener.heard[topic]).std()
        rows.append(
            f"| {rate_hz:g} | {who} | {len(delays)} | {half:.2f} | {late:.2f} | {worst:.2f} | "
            f"{jitter:.2f} |"
        )
    return rows


def main(policy: Path, seconds: float = 30.0, rates_hz: tuple[float, ...] = (50.0, 100.0)) -> None:
    """Print a table.

    Args:
        policy: a bundle of robot `drive`.
        seconds: for each rate.
        rates_hz: of the control loop.
    """
    print(f"{environment()['RMW_IMPLEMENTATION']}, load {os.getloadavg()[0]:.1f}")
    print("| Hz | who | proposals | median, ms | p99, ms | most, ms | jitter (std), ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for rate_hz in rates_hz:
        print("\n".join(measure(policy, rate_hz, seconds)), flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--relay"]:
        relay()
    else:
        tyro.cli(main)

"""From what happens to ROS nodes to the first command of zero, and to a robot that stands.

    python -m benchmarks.ros_stops --tries 6

The twin, the monitor and the policy are processes of their own, over the middleware of this
environment; the robot drives in a circle at 0.9 m/s when it happens. All times are those of arrival
at one listener, from the moment before the signal is sent or the service is asked; for a NaN, from
the arrival of the proposal that holds it. Each try has nodes of its own. Where there is `ros2`, and
the package in a workspace that is sourced, `ros2 launch` starts monitor and policy once more, and
SIGINT is sent to its own process alone.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry
from rclpy.qos import qos_profile_sensor_data
from std_srvs.srv import Trigger

from holdfast.contract import Cost
from holdfast.robot import config as configs
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.ros.system import (
    DRIVES,
    MONITOR,
    POLICY,
    TWIN,
    Client,
    environment,
    system,
    until,
)

SPEED, YAW_RATE = 0.9, 1.0
STANDING = 0.05
"""m/s and rad/s."""
FREE = Cost("outside_corridor", "abs(position.x) > 1e3", 10.0, 30.0, 1.0, 0.95)
Times = dict[str, list[tuple[float, float]]]
"""By what happened: ms to the first zero and to standing; NaN: no command was heard."""


class Watcher:
    """Writes down when what arrives."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.commands: list[tuple[float, bool]] = []  # whether it is zero
        self.speeds: list[tuple[float, float]] = []
        self.nan_s: list[float] = []
        hear = client.node.create_subscription
        hear(TwistStamped, "cmd_vel", self._command, 10)
        hear(TwistStamped, "cmd_vel_proposed", self._proposal, 10)
        hear(Odometry, "odom", self._odometry, qos_profile_sensor_data)

    def _command(self, message: TwistStamped) -> None:
        twist = message.twist
        self.commands.append((time.monotonic(), twist.linear.x == 0.0 == twist.angular.z))

    def _proposal(self, message: TwistStamped) -> None:
        if math.isnan(message.twist.linear.x):
            self.nan_s.append(time.monotonic())

    def _odometry(self, message: Odometry) -> None:
        twist = message.twist.twist
        self.speeds.append((time.monotonic(), max(abs(twist.linear.x), abs(twist.angular.z))))

    def measure(self, what: Callable[[], object]) -> tuple[float, float]:
        """Let something happen at full speed; return ms to zero and to standing."""
        until(self._drives)
        for heard in (self.commands, self.speeds, self.nan_s):
            heard.clear()
        begun_s = time.monotonic()
        what()
        self.client.until_stands()
        begun_s = self.nan_s[0] if what == self.nan and self.nan_s else begun_s
        zeros = [t - begun_s for t, zero in list(self.commands) if zero and t > begun_s]
        moved_s = max(t for t, speed in list(self.speeds) if speed > STANDING)
        stood_s = min(t for t, _ in list(self.speeds) if t > moved_s) - begun_s
        return 1e3 * min(zeros, default=math.nan), 1e3 * stood_s

    def _drives(self) -> bool:
        """Arm the robot; return whether it still drives half a second after it has come to speed,
        which a stall of this computer may prevent."""
        self.client.drives(SPEED - 0.1)
        time.sleep(0.5)
        return self.client.speed() > SPEED - 0.1

    def nan(self) -> None:
        """Wait until the policy says NaN, or the episode has ended without it."""
        until(lambda: self.nan_s or self.client.state not in DRIVES)


def try_all(folder: Path, number: int, times: Times) -> None:
    """Add one time of each kind."""
    plain = yaml.safe_load(configs.find("drive").read_text())
    off = ("geofence", "consistency", "following")  # it may drive on and on
    plain["monitor"] |= dict.fromkeys(off)
    config = folder / "drive.yaml"
    config.write_text(yaml.safe_dump(plain))
    long = drive_contract(episode_steps=72_000, costs=(FREE,))
    good = write_bundle(folder / "good.onnx", long, action=(SPEED, YAW_RATE))
    short = drive_contract(costs=(FREE,))
    bad = write_bundle(folder / "nan.onnx", short, action=(SPEED, YAW_RATE), nan_at=0.7)
    drive = {"enable_motion": True, "robot_config": str(config)}

    def nodes(bundle: Path, name: str) -> tuple[tuple[str, dict[str, object]], ...]:
        given = {"policy": str(bundle)}
        log = {"log_dir": str(folder / f"{name}{number}")}
        return (TWIN, {"scan_rays": 0}), (MONITOR, {**drive, **given, **log}), (POLICY, given)

    with system(folder, f"good{number}", *nodes(good, "good")) as (client, made):
        watcher = Watcher(client)
        times["policy hung"].append(watcher.measure(lambda: made[POLICY].signal(signal.SIGSTOP)))
        made[POLICY].signal(signal.SIGCONT)
        ask = client.node.create_client(Trigger, "hardware/e_stop_trigger")
        until(ask.service_is_ready)
        times["emergency stop"].append(watcher.measure(lambda: ask.call_async(Trigger.Request())))
        change = client.node.create_client(ChangeState, f"{MONITOR}/change_state")
        until(change.service_is_ready)
        request = ChangeState.Request()
        request.transition.label = "deactivate"
        times["monitor deactivated"].append(watcher.measure(lambda: change.call_async(request)))
        until(lambda: client.lifecycle(MONITOR) == "inactive")
        client.statuses.clear()
        assert client.change(MONITOR, "activate")
        times["policy killed"].append(watcher.measure(lambda: made[POLICY].signal(signal.SIGKILL)))
    with system(folder, f"nan{number}", *nodes(bad, "nan")) as (client, made):
        watcher = Watcher(client)
        took = watcher.measure(watcher.nan)
        while not watcher.nan_s or client.state != "STOPPED":  # it was not said, or came too late
            took = watcher.measure(watcher.nan)
        times["NaN proposed"].append(took)
        kill = partial(made[MONITOR].signal, signal.SIGKILL)
        times["monitor killed"].append(watcher.measure(kill))
    if shutil.which("ros2"):
        given = {"policy": good, "robot_config": config, "log_dir": folder / f"launched{number}"}
        times["launch interrupted"].append(interrupt(folder, f"launched{number}", given))


def interrupt(folder: Path, namespace: str, given: Mapping[str, object]) -> tuple[float, float]:
    """Send SIGINT to a deployment's launch, and to no other process; return ms, as `measure`."""
    arguments = [f"{name}:={value}" for name, value in {**given, "namespace": namespace}.items()]
    command = ["ros2", "launch", "holdfast", "deploy.launch.py", "enable_motion:=true", *arguments]
    with system(folder, namespace, (TWIN, {"scan_rays": 0})) as (client, _):
        launch = subprocess.Popen(
            command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            return Watcher(client).measure(partial(launch.send_signal, signal.SIGINT))
        finally:
            launch.send_signal(signal.SIGINT)
            launch.wait(20.0)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tries", type=int, default=6, help="how often each of them happens")
    tries = parser.parse_args().tries
    times: Times = defaultdict(list)
    print(f"load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        for number in range(tries):
            try_all(Path(name), number, times)
            print(f"{number + 1} of {tries}: {dict(times)}", file=sys.stderr, flush=True)
    print("| what happens | n | first zero, ms: median | most | standing, ms: median | most |")
    print("| --- | --- | --- | --- | --- | --- |")
    for what, both in times.items():
        figures = [f(column) for column in np.transpose(both) for f in (np.median, np.max)]
        cells = ["none" if math.isnan(figure) else f"{figure:.0f}" for figure in figures]
        print(f"| {what} | {len(both)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

"""`twin_node`: the twin as a ROS 2 node, with all topics of a real robot."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from holdfast.errors import ConfigError
from holdfast.robot.ros.base_node import LOOK, DriverNode
from holdfast.robot.ros.node import Option, run
from holdfast.robot.topics.fields import set_stamp
from holdfast.robot.topics.graph import Qos
from holdfast.sim.registry import resolve
from holdfast.sim.twin.board import Truth, TwinBoard
from holdfast.sim.twin.gap import Gap, load_gap
from holdfast.sim.twin.hardware import LIDAR_RAYS, MOUNTS, TwinHardware, other_sources
from holdfast.sim.twin.serve import require_drive, require_measured

CLOCK = Qos(reliable=False, latched=False, depth=1)

OPTIONS = (
    *LOOK,
    Option("task", "DriveCircle-v0", "task with the robot and the start poses"),
    Option("gap", "", "YAML file with the differences from the simulator's robot; empty: none"),
    Option("seed", 0, "seed of start poses and of noise", 0, 2**31 - 1),
    Option("rate_hz", 50.0, "rate of measurements, Hz", 1.0, 100.0),
    Option("scan_rays", LIDAR_RAYS, "number of the lidar's rays; 0: no lidar", 0, 3600),
    Option("scan_frame", "base_scan", "frame of the lidar, parallel to the robot's"),
    Option("publish_clock", False, "publish simulated time on /clock, for nodes with use_sim_time"),
    Option("realtime_factor", 1.0, "simulated seconds per second, with publish_clock", 0.01, 100.0),
)


class TwinNode(DriverNode):
    """The node of the twin."""

    def __init__(self) -> None:
        super().__init__("twin_node", OPTIONS)

    def configure(self) -> None:
        """Make the simulated robot and its driver."""
        task = resolve(self.option("task")).make()
        require_drive(task)
        gap = load_gap(Path(self.option("gap"))) if self.option("gap") else Gap()
        seed, factor = self.option("seed"), self.option("realtime_factor")
        simulated = self.option("publish_clock")
        if factor != 1.0 and not simulated:
            raise ConfigError(
                f"parameter realtime_factor {factor} should be 1 unless publish_clock is true"
            )
        board = TwinBoard(task, gap, seed, lockstep=False, truth=Truth(task, seed, None))
        rays, section = self.option("scan_rays"), self.section(board.robot)
        others = other_sources(task, section)
        if simulated:
            self._tick = self.graph.advertise("/clock", "rosgraph_msgs/msg/Clock", CLOCK)
            self.graph.use_clock(lambda: board.now_us() * 1e-6)
        hardware = TwinHardware(
            board,
            self.graph.now_s,
            factor,
            1.0 / self.option("rate_hz"),
            rays,
            extra_sources=others,
            stepped=self._say_time if simulated else None,
        )
        require_measured(task, hardware.signals)
        options = dataclasses.replace(
            self.message_options(),
            scan_frame=self.option("scan_frame"),
            mounts={
                self.option("imu_frame"): MOUNTS["imu_link"],
                self.option("scan_frame"): MOUNTS["base_scan"],
            },
            scan_range_m=hardware.scan_range_m,
        )
        self.make_driver(hardware, section, options, others)
        self.graph.serve("~/place", hardware.place)
        self.name_hardware(board.hardware_id)

    def _say_time(self) -> None:
        message = self.graph.message_class("rosgraph_msgs/msg/Clock")()
        set_stamp(message.clock, self.graph.now_s())
        self._tick(message)


def main() -> int:
    """Run the node."""
    return run(TwinNode)

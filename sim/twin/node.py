"""`twin_node`: the twin as a ROS 2 node, with all topics of a real robot."""

from __future__ import annotations

import dataclasses

from holdfast.errors import ConfigError
from holdfast.robot.ros.base_node import MESSAGE_OPTIONS, DriverNode
from holdfast.robot.ros.node import Option, run
from holdfast.robot.topics.fields import set_stamp
from holdfast.robot.topics.graph import Qos
from holdfast.robot.topics.message_types import CLOCK
from holdfast.sim.parameters.catalogue import Parameters, load_gap
from holdfast.sim.registry import registered
from holdfast.sim.twin.board import TwinBoard
from holdfast.sim.twin.hardware import LIDAR_RAYS, TwinHardware, joint_names, other_sources
from holdfast.sim.twin.serve import require_measured
from holdfast.sim.twin.truth import Truth

TICK = Qos(reliable=False, latched=False, depth=1)

OPTIONS = (
    *MESSAGE_OPTIONS,
    Option("task", "DriveCircle-v0", "task whose robot and start poses are simulated"),
    Option("gap", "", "gap file: how the twin differs from the simulator; empty: none"),
    Option("seed", 0, "random seed of start poses and noise", 0, 2**31 - 1),
    Option("rate_hz", 50.0, "measurements per second", 1.0, 100.0),
    Option("scan_rays", LIDAR_RAYS, "number of rays of the lidar; 0: no lidar", 0, 3600),
    Option("scan_frame", "base_scan", "frame of the lidar; its axes are parallel to the base's"),
    Option("publish_clock", False, "publish simulated time on /clock"),
    Option("realtime_factor", 1.0, "simulated seconds per second, with publish_clock", 0.01, 100.0),
)


class TwinNode(DriverNode):
    """The node of the twin."""

    def __init__(self) -> None:
        super().__init__("twin_node", OPTIONS)

    def configure(self) -> None:
        """Make the simulated robot and its driver."""
        task = registered(self.text("task")).make()  # a parameter may come from a file
        gap = load_gap(path) if (path := self.path("gap")) else Parameters()
        seed, factor = self.whole("seed"), self.number("realtime_factor")
        simulated = self.flag("publish_clock")
        if factor != 1.0 and not simulated:
            raise ConfigError(
                f"parameter realtime_factor {factor} should be 1 unless publish_clock is true"
            )
        board = TwinBoard(task, gap, seed, lockstep=False, truth=Truth(task, seed, None))
        rays, section = self.whole("scan_rays"), self.section(board.robot)
        others = other_sources(task, board, section)
        if simulated:
            self._tick = self.graph.advertise("/clock", CLOCK, TICK)
            self.graph.use_clock(lambda: board.now_us() * 1e-6)
        hardware = TwinHardware(
            board,
            self.graph.now_s,
            factor,
            1.0 / self.number("rate_hz"),
            rays,
            extra_sources=others,
            stepped=self._say_time if simulated else None,
        )
        require_measured(task, hardware.signals)
        options = dataclasses.replace(
            self.message_options(),
            joints=joint_names(task, section, self.texts("wheel_joints")),
            scan_frame=self.text("scan_frame"),
            mounts={
                self.text("imu_frame"): hardware.mounts["imu_link"],
                self.text("scan_frame"): hardware.mounts["base_scan"],
            },
            scan_range_m=hardware.scan_range_m,
        )
        self.make_driver(hardware, section, options, others)
        self.graph.serve("~/place", hardware.place)
        self.name_hardware(board.hardware_id)

    def _say_time(self) -> None:
        message = self.graph.message_class(CLOCK)()
        set_stamp(message.clock, self.graph.now_s())
        self._tick(message)


def main() -> int:
    """Run the node."""
    return run(TwinNode)

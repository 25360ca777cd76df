"""The texts of a new robot's files. Each value comes from the model, or is a default to replace."""

# ruff: noqa: E501 - a line here is longer than the line that it writes

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from holdfast.signals import CATALOGUE
from holdfast.sim.new_robot.sketch import Joints, Sketch, Wheels

DRIVEN = ("position", "heading", "forward_speed", "yaw_rate")
WALKING = (
    "position", "heading", "projected_gravity", "forward_speed", "yaw_rate",
    "joint_position", "joint_velocity",
)  # fmt: skip
"""Signals that are observed."""

FALLEN_COST = "(abs(tilt.roll) > 0.4) or (abs(tilt.pitch) > 0.4)"
CORRIDOR_COST = "abs(position.x) > 1.0"


def task_file(sketch: Sketch, folder: Path) -> str:
    """Return the Python file with the robot's class and a task."""
    name = class_name(sketch.robot)
    wheeled = isinstance(sketch.drive, Wheels)
    cost = ("outside", CORRIDOR_COST) if wheeled else ("tilted", FALLEN_COST)
    return f'''"""The robot '{sketch.robot}' and a first task, written by `holdfast init` from {json.dumps(sketch.model.name)}.

holdfast check --task {sketch.robot}.py:{name}Task
holdfast train --task {sketch.robot}.py:{name}Task --out runs/{sketch.robot}
"""

from pathlib import Path

import numpy as np

from holdfast.contract import ActionChannel, Cost, ObservationChannel
from holdfast.sim.robots.robot import FreeBase
from holdfast.sim.tasks.task import Task, contract_for

{_constants(sketch.drive)}


class {name}(FreeBase):
    """{"Commanded by forward speed and yaw rate" if wheeled else "Commanded by its joints"}."""

    name = "{sketch.robot}"
    model_file = Path(__file__).parent / {json.dumps(os.path.relpath(sketch.model, folder))}
    period_s = {sketch.period_s:g}  # a whole number of the model's time steps of {sketch.timestep_s:g} s
    # Name, unit, lowest and highest value, and the most that the value may change per second.
    action = (
{_channels(sketch)}
    )

    def control(self, action):
        """Return what the actuators are told, in the model's order."""
{_control(sketch.drive)}
{_fallen(sketch.drive)}

class {name}Task(Task):
    """Pays for the way made forward, in metres. Replace reward and cost by your own."""

    def __init__(self):
        self.robot = {name}()
        self.contract = contract_for(
            "{sketch.robot}/{name}-v0",
            self.robot,
            (
{_observation(sketch)}
            ),
            {round(12.5 / sketch.period_s)},  # steps of an episode
            # The cost of one step, in the language of docs/reference/COSTS.md; the limit d of an episode's
            # mean cost, and the cost at which the safety monitor ends an episode.
            Cost(
                "{cost[0]}",
                "{cost[1]}",
                limit=10.0, episode_cap=30.0, gamma=0.99, lam=0.95,
            ),
            # `reward` again, in the same language: a run on the robot shows each episode's return.
            reward=f"{{self.robot.period_s}} * forward_speed",
        )

    def reset(self, rng, n):
        """Start at rest near the origin, turned to any side; there is nothing around."""
        return *self.robot.start(rng, n, within_m=0.3), {{}}

    def reward(self, signals):
        """Return the metres made forward in a period; use signals that are observed or billed."""
        return self.robot.period_s * signals["forward_speed"][..., 0]
'''


def class_name(robot: str) -> str:
    """Return a class's name for a robot: my_robot-2 becomes MyRobot2."""
    words = re.split(r"[_-]", robot)
    name = "".join(word[:1].upper() + word[1:] for word in words)
    return name if name[:1].isalpha() else f"Robot{name}"


def _constants(drive: Wheels | Joints) -> str:
    if isinstance(drive, Wheels):
        return "\n".join(
            (
                "# In the actuators' order. Compare them with your robot's own.",
                f"SIDE_M = np.array({_list(drive.side_m)})  # of a wheel, to the left of the middle",
                f"RADIUS_M = np.array({_list(drive.radius_m)})",
                f"GEAR = np.array({_list(drive.gear)})  # told per rad/s of a wheel rolling forward",
            )
        )
    return "\n".join(
        (
            "# In the actuators' order: what they are told by the action 0, and per unit of the action.",
            f"REST = np.array(\n    {_list(drive.rest)}\n)",
            f"GAIN = np.array(\n    {_list(drive.gain)}\n)",
        )
    )


def _list(values: Iterable[float]) -> str:
    return "[" + ", ".join(repr(float(value)) for value in values) + "]"


def _channels(sketch: Sketch) -> str:
    return "\n".join(
        f'        ActionChannel("{c.name}", "{c.unit}", {c.low:g}, {c.high:g}, '
        f"max_rate_per_s={c.max_rate_per_s:g}),"
        for c in sketch.action
    )


def _control(drive: Wheels | Joints) -> str:
    if isinstance(drive, Wheels):
        return (
            "        forward, turn = action[..., 0:1], action[..., 1:2]\n"
            "        return (forward - turn * SIDE_M) / RADIUS_M * GEAR"
        )
    return "        return REST + GAIN * action"


def _fallen(drive: Wheels | Joints) -> str:
    if isinstance(drive, Wheels):
        return ""
    return '''
    def fallen(self, signals):
        """Return whether the base is tilted by more than 60 degrees, which ends an episode."""
        return signals["projected_gravity"][..., 2] > -0.5
'''


def observed(sketch: Sketch) -> tuple[str, ...]:
    """Return the signals that the task observes."""
    return DRIVEN if isinstance(sketch.drive, Wheels) else WALKING


def size(sketch: Sketch, signal: str) -> int:
    """Return the number of a signal's values."""
    return CATALOGUE[signal].size or len(sketch.joints)


def _observation(sketch: Sketch) -> str:
    lines = []
    for name in observed(sketch):
        values, unit, rest = size(sketch, name), CATALOGUE[name].unit, ""
        if name == "heading":
            values, unit, rest = 2, "1", ', "cos_sin"'
        lines.append(f'ObservationChannel("{name}", {values}, "{unit}", "{name}"{rest}),')
    actions = len(sketch.action)
    lines.append(f'ObservationChannel("applied_action", {actions}, "1", "applied_action"),')
    return "\n".join(" " * 16 + line for line in lines)


def configuration(sketch: Sketch) -> str:
    """Return the YAML file with which `holdfast deploy` runs the robot."""
    period = sketch.period_s
    largest = {c.name: max(-c.low, c.high) for c in sketch.action}
    rate = {c.name: c.max_rate_per_s for c in sketch.action}
    deceleration = rate.get("forward_speed", 1.0)
    blocks = _drive_blocks(largest) if isinstance(sketch.drive, Wheels) else _joint_blocks(sketch)
    return f"""\
# The robot '{sketch.robot}' on its computer, written by `holdfast init` from {json.dumps(sketch.model.name)}:
# holdfast deploy --config {sketch.robot}.yaml ...
# Measure each value on your robot, and replace it. docs/start/ROBOT.md and config/drive.yaml explain them.

robot: {sketch.robot}
proposal_wait_s: {0.6 * period:g}  # of the period of {period:g}
lockstep_wait_s: 2.0  # wall time
command_valid_for_s: {3.0 * period:g}  # three periods; at most the device's watchdog
ready_wait_s: 3.0  # an episode starts when the robot stands still
familiarity: never  # logged: once the policy learned from the robot's logs

monitor:  # a block for each check; a check without its block is off
  motion:
    deceleration_m_s2: {deceleration:g}  # at most the rate at which the contract lets the speed change
    reaction_time_s: {max(0.2, 2.0 * period):g}
    slow_margin_m: 0.3
    standing_speed_m_s: 0.05
    standing_yaw_rate_rad_s: 0.1
    limited_scale: 0.5
  freshness:
    source_max_age_s: {5.0 * period:g}  # five periods: controlled stop
    source_lost_s: {10.0 * period:g}
    proposal_max_age_s: {5.0 * period:g}
    proposal_lost_s: {10.0 * period:g}
    future_tolerance_s: 0.02
    max_step_gap_s: {10.0 * period:g}
    max_skipped: 50
  ladder:
    trigger_steps: 2
    release_steps: 10
    fallback_max_s: 1.5
  budget:
    episode_coverage: 0.5
{blocks}
  # geofence:  # where it may go, in the odom frame
  #   keep_in_m: [[-3.0, -3.0], [3.0, -3.0], [3.0, 3.0], [-3.0, 3.0]]
  #   keep_out_m: []
  # obstacles:  # needs a range scan
  #   footprint_radius_m: {sketch.footprint_m:g}  # holds the whole model

{_topics(period) if isinstance(sketch.drive, Wheels) else _NO_TOPICS}
"""


_NO_TOPICS = "# ros: the robot's topics, where it is a robot of a ROS graph: see docs/start/ROS.md"


def _topics(period_s: float) -> str:
    """Return the section `ros` of a base with the usual topics: odom, imu and cmd_vel."""
    twist = """\
    type: geometry_msgs/msg/TwistStamped  # Twist: the fields then begin with linear and angular
    frame: base_link
    fields: {forward_speed: twist.linear.x, yaw_rate: twist.angular.z}"""
    return f"""\
ros:  # its topics, where it is a robot of a ROS graph: docs/start/ROS.md
  frames: {{odom: odom, base: base_link, aligned: [imu_link]}}
  sources:
    odom:
      topic: odom
      type: nav_msgs/msg/Odometry
      frame: odom
      child_frame: base_link
      signals:
        position: {{unit: m, fields: [pose.pose.position.x, pose.pose.position.y]}}
        heading: {{unit: rad, yaw: pose.pose.orientation}}
        forward_speed: {{unit: m/s, fields: [twist.twist.linear.x]}}
        yaw_rate: {{unit: rad/s, fields: [twist.twist.angular.z]}}
    imu:
      topic: imu
      type: sensor_msgs/msg/Imu
      frame: imu_link
      signals:
        tilt: {{unit: rad, roll_pitch: orientation}}
  command:
    topic: cmd_vel
{twist}
  proposal:
    topic: cmd_vel_proposed
{twist}
  command_timeout_s: {3.0 * period_s:g}  # the driver stops by itself without a command
  stop_topics: {{hardware/e_stop: latched}}  # the driver has the emergency stop"""


def _drive_blocks(largest: dict[str, float]) -> str:
    forward, turn = largest["forward_speed"], largest["yaw_rate"]
    return f"""\
  envelope:  # a measured value above `limited` slows the robot, above `stopped` stops it
    forward_speed_m_s: {{limited: {1.4 * forward:g}, stopped: {2.0 * forward:g}}}
    yaw_rate_rad_s: {{limited: {2.0 * turn:g}, stopped: {3.0 * turn:g}}}
    tilt_rad: {{limited: 0.3, stopped: 0.6}}
  coasting:
    coasting_s: 1.5  # longer than this it does not move while zero is commanded
  tracking:
    tracking_error: {{forward_speed: {0.4 * forward:g}}}
    tracking_s: {{limited: 0.5, stopped: 1.0}}
  frozen:
    pose_frozen_s: 0.5  # while motion is commanded, position and heading change
  # consistency, following: of speeds with positions and commands; see config/drive.yaml"""


def _joint_blocks(sketch: Sketch) -> str:
    lines = [
        "  envelope:  # a measured value above `limited` slows the robot, above `stopped` stops it",
        "    tilt_rad: {limited: 0.5, stopped: 0.8}",
    ]
    if any(sketch.ranges):
        lines.append("    joint_position_rad:  # the model's own ranges, and a margin that slows")
        for name, limits in zip(sketch.joints, sketch.ranges, strict=True):
            span = "null"
            if limits is not None:
                low, high = limits
                margin = min(0.02, 0.1 * (high - low))
                span = f"{{low: {low:.6g}, high: {high:.6g}, margin: {margin:.6g}}}"
            lines.append(f"      - {span}  # {json.dumps(name)}")
    lines.append("  # frozen, coasting, tracking: see config/drive.yaml")
    return "\n".join(lines)


def board(sketch: Sketch, sources: Sequence[str]) -> str:
    """Return the skeleton of the board on the robot's serial link.

    Args:
        sources: the signals that the contract and the monitor need.
    """
    signals = "\n".join(f'        ("{name}", {size(sketch, name)}),  # {CATALOGUE[name].unit}: '
                        f"{CATALOGUE[name].meaning}" for name in sources)  # fmt: skip
    actions = "\n".join(f'        "{c.name}",  # {c.unit}' for c in sketch.action)
    low, high = (_list(v).strip("[]") for v in np.array([(c.low, c.high) for c in sketch.action]).T)
    return f'''"""The board of the robot '{sketch.robot}', written by `holdfast init`: fill in its methods.

Flash this file beside `device.py` (robot/serial/device.py), which decides whether the robot may
move. docs/reference/LINK.md tells the protocol. MicroPython runs both files.
"""

from device import Board, Device


class {class_name(sketch.robot)}Board(Board):
    """Motors and sensors, in SI units."""

    robot = "{sketch.robot}"
    hardware_id = "{sketch.robot}-1"  # the name of this one unit
    signals = (
{signals}
    )
    actions = (
{actions}
    )
    action_low = ({low},)
    action_high = ({high},)
    watchdog_ms = {round(4000.0 * sketch.period_s)}  # it stops after so long without a command
    state_period_us = {round(1e6 * sketch.period_s)}

    def now_us(self):
        """Return the time since boot in us, monotonic."""
        raise NotImplementedError("read the board's clock")

    def actuate(self, values):
        """Set the motors to an action: units and order as in `actions`."""
        raise NotImplementedError("set the motors")

    def halt(self):
        """Bring the robot to a stop now."""
        raise NotImplementedError("stop the motors")

    def measure(self):
        """Return the values of all signals, in the order of `signals`; NaN: not measured now."""
        raise NotImplementedError("read the sensors")

    def replace(self):
        """Set the odometry to 0."""
        raise NotImplementedError("reset the odometry")


def serve(port):
    """Answer the computer for ever. `port` reads what has arrived, without waiting, and writes."""
    device = Device({class_name(sketch.robot)}Board())
    while True:
        device.feed(port.read() or b"")
        port.write(device.poll())
'''

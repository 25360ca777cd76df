"""A robot's velocity as text for reward expressions, of the signals that its contract observes."""

from __future__ import annotations

from holdfast.sim.robots.drive import Drive
from holdfast.sim.robots.robot import FreeBase, RobotModel


def in_odom(robot: RobotModel) -> tuple[str, str] | None:
    """Return expressions of `robot.velocity`, x and y in the odom frame; None where there is none.

    A robot measures what its contract observes, and so these expressions are made of that.
    """
    observed = {channel.signal for channel in (*robot.pose, *robot.motion)}
    if "linear_velocity" in observed:
        return "linear_velocity.x", "linear_velocity.y"
    base = in_base(robot)
    if base is None:
        return None
    ahead, aside = base
    if not aside:
        return f"{ahead} * cos(heading)", f"{ahead} * sin(heading)"
    return (
        f"({ahead} * cos(heading) - {aside} * sin(heading))",
        f"({ahead} * sin(heading) + {aside} * cos(heading))",
    )


def in_base(robot: RobotModel) -> tuple[str, str] | None:
    """Return expressions of `robot.velocity`, ahead and aside in the base's frame; None where there
    is none. The second is empty where the base does not move aside."""
    observed = {channel.signal for channel in (*robot.pose, *robot.motion)}
    if isinstance(robot, Drive):
        return "forward_speed", ""
    if isinstance(robot, FreeBase) and {"forward_speed", "lateral_speed", "heading"} <= observed:
        return "forward_speed", "lateral_speed"
    return None

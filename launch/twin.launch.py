"""A complete robot in simulation, to try everything on: odometry, IMU, lidar, joints, transforms.

ros2 launch holdfast twin.launch.py

Then `deploy.launch.py` drives it as it would drive the real one.
"""

from __future__ import annotations

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from holdfast.robot.ros.bring_up import bring_up, filed, given, node

NODES_FILE = PathJoinSubstitution([FindPackageShare("holdfast"), "config", "nodes.yaml"])
ARGUMENTS = {
    "namespace": ("", "of the node"),
    "params_file": (NODES_FILE, "its parameters"),
    "task": ("", "whose robot, and whose start poses"),
    "gap": ("", "file with how the robot differs from the simulator's; default: not at all"),
    "seed": ("", "of start poses and of noise"),
    "scan_rays": ("", "of its lidar; 0: it has none"),
    "publish_clock": ("", "simulated time on /clock, for all that use_sim_time"),
    "realtime_factor": ("", "simulated seconds per second, with publish_clock"),
    "robot_config": ("", "the robot's configuration file; default: the installed one"),
}


def nodes(context: LaunchContext) -> list[Action]:
    """The twin alone."""
    filed(context, "twin_node", "task")  # or say that it cannot be read
    names = [name for name in ARGUMENTS if name not in ("namespace", "params_file")]
    twin = node("twin_node", given(context, names))
    return bring_up([twin], [twin])


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, then bring the twin up."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=meaning)
        for name, (default, meaning) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=nodes)])

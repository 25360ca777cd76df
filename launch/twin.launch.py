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
    "namespace": ("", "namespace of the node"),
    "params_file": (NODES_FILE, "parameter file of the node"),
    "task": ("", "task whose robot and start poses are simulated"),
    "gap": ("", "gap file: how the twin differs from the simulator; default: none"),
    "seed": ("", "random seed of start poses and noise"),
    "scan_rays": ("", "number of rays of the lidar; 0: no lidar"),
    "publish_clock": ("", "publish simulated time on /clock"),
    "realtime_factor": ("", "simulated seconds per second, with publish_clock"),
    "robot_config": ("", "configuration file of the robot; default: the installed file"),
}


def nodes(context: LaunchContext) -> list[Action]:
    """Return the actions that bring the twin up."""
    filed(context, "twin_node", "task")  # raises if the file cannot be read
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

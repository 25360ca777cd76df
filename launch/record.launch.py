"""Record a robot's topics as a bag, beside the log that the safety monitor writes by itself.

ros2 launch holdfast record.launch.py out:=bags/monday
"""

from __future__ import annotations

import time

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration

TOPICS = (
    *("odom", "imu", "scan", "joint_states", "cmd_vel_proposed", "cmd_vel", "observation"),
    *("policy", "hardware/e_stop", "safety_monitor_node/status", "tf", "tf_static"),
)


def recorder(context: LaunchContext) -> list[Action]:
    """Return `ros2 bag record` of the namespace's topics and of the topics shared by all robots."""
    namespace = LaunchConfiguration("namespace").perform(context).strip("/")
    prefix = f"/{namespace}/" if namespace else "/"
    shared = {"/tf", "/tf_static", "/diagnostics"}
    topics = sorted(shared.union(prefix + topic for topic in TOPICS))
    command = ["ros2", "bag", "record", "--storage", "mcap", "--output"]
    return [
        ExecuteProcess(
            cmd=[*command, LaunchConfiguration("out"), "--topics", *topics],
            name="record",
            output="screen",
            sigterm_timeout="10",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Record until Ctrl-C."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "namespace", default_value="", description="namespace of the robot"
            ),
            DeclareLaunchArgument(
                "out",
                default_value=time.strftime("bags/%Y%m%d-%H%M%S"),
                description="directory of the bag",
            ),
            OpaqueFunction(function=recorder),
        ]
    )

"""Play a bag's sensors to policy and safety monitor; no command is published.

ros2 launch holdfast replay.launch.py bag:=bags/monday policy:=/path/to/policy.onnx

The exact verdicts of a logged run come from `holdfast replay` instead.
"""

from __future__ import annotations

from pathlib import Path

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

DEPLOY = str(Path(__file__).with_name("deploy.launch.py"))
SENSORS = ("odom", "imu", "scan", "joint_states", "hardware/e_stop", "tf", "tf_static")


def player(context: LaunchContext) -> list[Action]:
    """Return `ros2 bag play` of the robot's sensor topics; the end of the bag ends the launch."""
    namespace = LaunchConfiguration("namespace").perform(context).strip("/")
    prefix = f"/{namespace}/" if namespace else "/"
    topics = sorted({"/tf", "/tf_static"}.union(prefix + topic for topic in SENSORS))
    return [
        ExecuteProcess(
            cmd=[
                *("ros2", "bag", "play", LaunchConfiguration("bag"), "--clock", "100"),
                *("--delay", "5", "--topics", *topics),
            ],
            name="play",
            output="screen",
            on_exit=[Shutdown(reason="the bag has ended")],
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Play the bag, with all nodes on the bag's time."""
    deploy = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(DEPLOY),
        launch_arguments={"use_sim_time": "true", "enable_motion": "false"}.items(),
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="bag to play: a directory or an .mcap file"),
            DeclareLaunchArgument("policy", description="bundle to run, an .onnx file"),
            DeclareLaunchArgument(
                "namespace", default_value="", description="namespace of the robot"
            ),
            OpaqueFunction(function=player),
            deploy,
        ]
    )

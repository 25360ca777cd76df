"""Run a policy on the twin: `holdfast twin` behind a serial port, `holdfast deploy` on it.

ros2 launch holdfast twin_deploy.launch.py policy:=/path/to/policy.onnx
"""

import shutil
from pathlib import Path

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration

TWIN_PORT = "/tmp/holdfast_twin"


def holdfast_program() -> str:
    """Return the `holdfast` of the install that this file belongs to.

    colcon puts it into lib/holdfast, pip into bin.
    """
    prefix = Path(__file__).absolute().parents[3]  # <prefix>/share/holdfast/launch/this file
    for place in ("lib/holdfast/holdfast", "bin/holdfast"):
        if (prefix / place).is_file():
            return str(prefix / place)
    return shutil.which("holdfast") or "holdfast"


def generate_launch_description() -> LaunchDescription:
    """Start both; when the deployment has ended, for whatever reason, end the twin too."""
    program = holdfast_program()
    twin = ExecuteProcess(
        cmd=[program, "twin", "--link", TWIN_PORT],
        name="twin",
        output="screen",
    )
    deploy = ExecuteProcess(
        cmd=[
            *(program, "deploy"),
            *("--policy", LaunchConfiguration("policy")),
            *("--robot", LaunchConfiguration("robot")),
            *("--episodes", LaunchConfiguration("episodes")),
            *("--out", LaunchConfiguration("out")),
        ],
        name="deploy",
        output="screen",
    )
    end = EmitEvent(event=Shutdown(reason="the deployment has ended"))
    return LaunchDescription(
        [
            DeclareLaunchArgument("policy", description="the bundle to run, an .onnx file"),
            DeclareLaunchArgument(
                "robot", default_value=f"serial:{TWIN_PORT}", description="where the robot answers"
            ),
            DeclareLaunchArgument("episodes", default_value="5", description="how many to run"),
            DeclareLaunchArgument("out", default_value="runs/launch", description="log folder"),
            twin,
            deploy,
            RegisterEventHandler(OnProcessExit(target_action=deploy, on_exit=[end])),
        ]
    )

"""Run a policy on the twin: `holdfast twin` behind a serial port, `holdfast deploy` on it.

ros2 launch holdfast twin_deploy.launch.py policy:=/path/to/policy.onnx
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessIO
from launch.events.process import ProcessIO
from launch.substitutions import LaunchConfiguration

TWIN_PORT = "/tmp/holdfast_twin"


def holdfast_program() -> str:
    """Return the `holdfast` of the install that this file belongs to.

    It lies in <prefix>/share/holdfast/launch; the program, if colcon installed it, in
    <prefix>/lib/holdfast, if pip did, in <prefix>/bin.
    """
    for prefix in Path(__file__).absolute().parents:
        for place in ("lib/holdfast/holdfast", "bin/holdfast"):
            if (prefix / place).is_file():
                return str(prefix / place)
    return shutil.which("holdfast") or "holdfast"


def generate_launch_description() -> LaunchDescription:
    """Start the twin, then the deployment; when either has ended, for any reason, end both."""
    program = holdfast_program()
    twin = ExecuteProcess(
        cmd=[program, "twin", "--link", TWIN_PORT],
        name="twin",
        output="screen",
        on_exit=[Shutdown(reason="the twin has ended")],
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
        on_exit=[Shutdown(reason="the deployment has ended")],
    )

    def when_it_answers(event: ProcessIO) -> ExecuteProcess | None:
        """The twin's first line is its address; before that there is no port to open."""
        return deploy if event.text.startswith(b"serial:") else None

    return LaunchDescription(
        [
            DeclareLaunchArgument("policy", description="the bundle to run, an .onnx file"),
            DeclareLaunchArgument(
                "robot",
                default_value=f"serial:{TWIN_PORT}",
                description="the robot's address; the default is the twin's",
            ),
            DeclareLaunchArgument("episodes", default_value="5", description="how many to run"),
            DeclareLaunchArgument(
                "out",
                default_value=time.strftime("runs/launch-%Y%m%d-%H%M%S"),
                description="the run's directory, for log and summary; holds no log yet",
            ),
            RegisterEventHandler(OnProcessIO(target_action=twin, on_stdout=when_it_answers)),
            twin,
        ]
    )

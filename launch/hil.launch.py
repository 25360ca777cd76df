"""Hardware in the loop: a twin behind a serial link, under base_node, and a deployment on it.

ros2 launch holdfast hil.launch.py policy:=/path/to/policy.onnx

All that runs on the robot runs here, link and driver too; only the motors are simulated. The launch
file takes the arguments of deploy.launch.py as well.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessIO
from launch.events.process import ProcessIO
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from holdfast.robot.ros.bring_up import filed, over

DEPLOY = str(Path(__file__).with_name("deploy.launch.py"))


def holdfast_program() -> str:
    """Return the program `holdfast` of the install that this file belongs to.

    This file lies in <prefix>/share/holdfast/launch. colcon installs the program into
    <prefix>/lib/holdfast, pip into <prefix>/bin.
    """
    for prefix in Path(__file__).absolute().parents:
        for place in ("lib/holdfast/holdfast", "bin/holdfast"):
            if (prefix / place).is_file():
                return str(prefix / place)
    return shutil.which("holdfast") or "holdfast"


def generate_launch_description() -> LaunchDescription:
    """Start the twin, then the deployment; the end of the twin ends the launch."""
    port, seed = LaunchConfiguration("port"), LaunchConfiguration("twin_seed")
    twin = ExecuteProcess(
        cmd=[holdfast_program(), "twin", "--link", port, "--seed", seed],
        name="twin",
        output="screen",
        on_exit=over,
    )

    def deploy(context: LaunchContext) -> list[Action]:
        """Include the deployment; motion is enabled unless an argument or a file says otherwise."""
        arguments: dict[str, Any] = {"port": port}
        filing = LaunchConfiguration("params_file", default="").perform(context)
        said = filed(context, "safety_monitor_node", "enable_motion") if filing else None
        if said is None and not LaunchConfiguration("enable_motion").perform(context):
            arguments["enable_motion"] = "true"
        source = PythonLaunchDescriptionSource(DEPLOY)
        return [IncludeLaunchDescription(source, launch_arguments=arguments.items())]

    def when_it_answers(event: ProcessIO) -> Action | None:
        """Deploy once the twin has printed its address: then there is a port to open."""
        return OpaqueFunction(function=deploy) if event.text.startswith(b"serial:") else None

    return LaunchDescription(
        [
            DeclareLaunchArgument("policy", description="bundle to run, an .onnx file"),
            DeclareLaunchArgument(
                "port", default_value="/tmp/holdfast_twin", description="path of the twin's port"
            ),
            DeclareLaunchArgument(
                "enable_motion",
                default_value="",
                description="send commands to the twin; default: true",
            ),
            DeclareLaunchArgument(
                "twin_seed", default_value="0", description="random seed of the twin"
            ),
            RegisterEventHandler(OnProcessIO(target_action=twin, on_stdout=when_it_answers)),
            twin,
        ]
    )

"""Run a policy on a robot, behind the safety monitor.

ros2 launch holdfast deploy.launch.py policy:=/path/to/policy.onnx enable_motion:=true

A robot with ROS drivers keeps its drivers. A robot that speaks Holdfast's link needs `port` too.
Without `enable_motion:=true` everything runs, and no command is sent. The robot stands until
`ros2 service call /safety_monitor_node/reset` and `/safety_monitor_node/arm`.

An argument that is given has precedence over the parameter file, the file over the nodes' defaults.
"""

from __future__ import annotations

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from holdfast.robot.ros.bring_up import bring_up, filed, given, node

NODES_FILE = PathJoinSubstitution([FindPackageShare("holdfast"), "config", "nodes.yaml"])
ARGUMENTS = {
    "policy": ("", "bundle (.onnx) to run, or contract (.yaml) for external proposals"),
    "robot_config": ("", "configuration file of the robot; default: the installed file"),
    "namespace": ("", "namespace of all nodes"),
    "params_file": (NODES_FILE, "parameter file of all nodes"),
    "port": ("", "serial port of a robot that speaks Holdfast's link; default: none"),
    "baud": ("", "speed of the serial port, baud"),
    "use_sim_time": ("", "take the time from /clock; default: false"),
    "enable_motion": ("", "publish commands; default: false, everything else runs"),
    "proposals": (
        "",
        "source of proposals: policy, Holdfast's policy node; external, a teleoperation or a "
        "navigation; default: policy",
    ),
    "explore": ("", "sample actions, to learn from the log; default: false, the mean action"),
    "seed": ("", "random seed of the sampled actions"),
    "episodes": ("", "number of episodes that follow one another after an arming"),
    "limit": ("", "limit d in force, for each cost with a range; default: the contract's own"),
    "evidence": ("", "file with the evidence of all runs on the mean cost; default: none"),
    "log_dir": ("", "directory of the log; default: runs/<task>-<date>-<time>"),
    "hardware_id": ("", "name of this unit; default: the robot's name and namespace"),
}
MONITOR = (
    *("policy", "robot_config", "use_sim_time", "enable_motion", "proposals", "explore", "seed"),
    *("episodes", "limit", "evidence", "log_dir", "hardware_id"),
)


def nodes(context: LaunchContext) -> list[Action]:
    """Return the actions that bring up base, monitor and policy, where the arguments need them."""
    monitor = node("safety_monitor_node", given(context, MONITOR))
    vital, everyone = [monitor], [monitor]
    base = given(context, ("robot_config", "port", "baud", "use_sim_time"))
    if "port" in base:
        vital.insert(0, node("base_node", base))
        everyone.insert(0, vital[0])
    said = filed(context, "safety_monitor_node", "proposals") or "policy"
    if given(context, ("proposals",)).get("proposals", said) == "policy":
        shared = ("policy", "robot_config", "limit", "explore", "seed", "use_sim_time")
        policy = given(context, shared)
        everyone.append(node("policy_node", policy))
    return bring_up(everyone, vital)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, then bring the nodes up."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=meaning)
        for name, (default, meaning) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=nodes)])

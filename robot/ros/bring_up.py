"""Bringing nodes up one after another, for launch files; needs only `launch_ros`.

Each node is configured and activated before the next node is. A node that cannot be configured or
activated ends the launch, and so does the end of a vital node's process. No node is started again:
a person has to look at a node that died while the robot moved. Once all nodes are up, the launch
requests no transition any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.action import Action
from launch.actions import (
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
    UnregisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import matches_action
from launch.events.process import ProcessExited
from launch.launch_context import LaunchContext
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from holdfast import yaml_file
from holdfast.errors import HoldfastError

TEXTS = frozenset(
    {
        "policy",
        "robot_config",
        "port",
        "proposals",
        "limit",
        "evidence",
        "log_dir",
        "hardware_id",
        "task",
        "gap",
    }
)
"""Arguments whose values are always texts: `hardware_id:=42` is the text "42"."""


def node(executable: str, parameters: Mapping[str, object]) -> LifecycleNode:
    """Return one of Holdfast's nodes, in the launch's namespace, named as its executable.

    Args:
        parameters: values by name, which have precedence over the parameter file.
    """
    return LifecycleNode(
        package="holdfast",
        executable=executable,
        name=executable,
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        emulate_tty=True,
        parameters=[LaunchConfiguration("params_file"), parameters],
    )


def given(context: LaunchContext, names: Sequence[str]) -> dict[str, object]:
    """Return the launch arguments that were given, each with the type that YAML gives its value.

    Raises:
        RuntimeError: a value is not YAML.
    """
    values = {name: LaunchConfiguration(name).perform(context) for name in names}
    return {
        name: value if name in TEXTS else _typed(name, value)
        for name, value in values.items()
        if value != ""
    }


def _typed(name: str, value: str) -> object:
    try:
        return yaml_file.parse(value).data
    except ValueError as error:
        raise RuntimeError(f"{name}:={value}: {error}") from None


def filed(context: LaunchContext, executable: str, name: str) -> object:
    """Return the value of a node's parameter in the parameter file; None if it has none.

    Raises:
        RuntimeError: the file does not exist or cannot be read.
    """
    path = Path(LaunchConfiguration("params_file").perform(context))
    try:
        data = yaml_file.read(path).data
    except HoldfastError as error:
        raise RuntimeError(f"params_file {error}") from None
    said = None
    for key, section in _mapping(data).items():
        if key.rpartition("/")[2] in (executable, "**", "*"):
            said = _mapping(_mapping(section).get("ros__parameters")).get(name, said)
    return said


def _mapping(data: object) -> Mapping[str, object]:
    """Return data of a parameter file if they are a mapping; otherwise the nodes refuse them."""
    return data if isinstance(data, dict) else {}


def bring_up(nodes: Sequence[LifecycleNode], vital: Sequence[LifecycleNode]) -> list[Action]:
    """Return the actions that start nodes and bring them up in order.

    Args:
        vital: nodes whose end also ends the launch.
    """
    actions: list[Action] = []
    for one, following in zip(nodes, [*nodes[1:], None], strict=True):
        actions += _steps(one, following)
    actions += [
        RegisterEventHandler(OnProcessExit(target_action=one, on_exit=over)) for one in vital
    ]
    return [*actions, *nodes, _change(nodes[0], Transition.TRANSITION_CONFIGURE)]


def _steps(one: LifecycleNode, following: LifecycleNode | None) -> list[Action]:
    """Return the handlers that bring one node up and then unregister themselves.

    A handler that stayed registered would react to a transition that a person requests later.
    """
    name = one.node_executable
    handlers: list[OnStateTransition] = []

    def when(start: str, goal: str, then: list[LaunchDescriptionEntity]) -> None:
        handlers.append(
            OnStateTransition(
                target_lifecycle_node=one, start_state=start, goal_state=goal, entities=then
            )
        )

    def done(context: LaunchContext) -> list[Action]:
        return [UnregisterEventHandler(handler) for handler in handlers]

    after: list[LaunchDescriptionEntity] = [OpaqueFunction(function=done)]
    if following is not None:
        after.append(_change(following, Transition.TRANSITION_CONFIGURE))
    when("configuring", "inactive", [_change(one, Transition.TRANSITION_ACTIVATE)])
    when("activating", "active", after)
    when("configuring", "unconfigured", [_fail(f"{name} could not be configured")])
    when("activating", "inactive", [_fail(f"{name} could not be activated")])
    return [RegisterEventHandler(handler) for handler in handlers]


def _fail(reason: str) -> Action:
    """Return the action that ends the launch with the exit status of a failure."""

    def fail(context: LaunchContext) -> None:
        raise RuntimeError(reason)

    return OpaqueFunction(function=fail)


def over(event: ProcessExited, context: LaunchContext) -> list[Action]:
    """End the launch because a process has ended; not while the launch itself shuts down.

    The launch has the exit status of a failure if the process failed or was killed.
    """
    if context.is_shutdown:
        return []
    if event.returncode:
        return [_fail(f"{event.process_name} has died (exit status {event.returncode})")]
    return [Shutdown(reason=f"{event.process_name} has ended")]


def _change(one: LifecycleNode, transition: int) -> Action:
    return EmitEvent(
        event=ChangeState(lifecycle_node_matcher=matches_action(one), transition_id=transition)
    )

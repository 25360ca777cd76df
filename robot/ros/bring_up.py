"""Bringing nodes up one after another, for launch files. Needs `launch_ros` alone.

Each node is configured and activated before the next one is. One that cannot be ends the launch,
and so does the death of one without which the robot must not move. None is started again: what
died while a robot moved is looked at by a person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from launch.action import Action
from launch.actions import (
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
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


def node(executable: str, parameters: Mapping[str, Any]) -> LifecycleNode:
    """Return one of Holdfast's nodes, in the launch's namespace, named as its executable.

    Args:
        parameters: by name; an empty text leaves what the parameter file or the node says.
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


def given(context: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return those launch arguments that were given a value, with the type that YAML gives it."""
    import yaml

    values = {name: LaunchConfiguration(name).perform(context) for name in names}
    return {name: yaml.safe_load(value) for name, value in values.items() if value != ""}


def bring_up(nodes: Sequence[LifecycleNode], vital: Sequence[LifecycleNode]) -> list[Action]:
    """Return the actions that start nodes and bring them up in order.

    Args:
        vital: the launch ends with them.
    """
    actions: list[Action] = []
    for one, following in zip(nodes, [*nodes[1:], None], strict=True):
        actions += _steps(one, following)
    actions += [
        RegisterEventHandler(OnProcessExit(target_action=one, on_exit=over)) for one in vital
    ]
    return [*actions, *nodes, _change(nodes[0], Transition.TRANSITION_CONFIGURE)]


def _steps(one: LifecycleNode, following: LifecycleNode | None) -> list[Action]:
    name = one.node_executable
    after: list[LaunchDescriptionEntity] = []
    if following is not None:
        after = [_change(following, Transition.TRANSITION_CONFIGURE)]

    def when(start: str, goal: str, then: list[LaunchDescriptionEntity]) -> Action:
        # With its start, so that a node that somebody deactivates is left alone.
        handler = OnStateTransition(
            target_lifecycle_node=one, start_state=start, goal_state=goal, entities=then
        )
        return RegisterEventHandler(handler)

    return [
        when("configuring", "inactive", [_change(one, Transition.TRANSITION_ACTIVATE)]),
        when("activating", "active", after),
        when("configuring", "unconfigured", [_fail(f"{name} could not be configured")]),
        when("activating", "inactive", [_fail(f"{name} could not be activated")]),
    ]


def _fail(reason: str) -> Action:
    """End the launch with an exit status that says that it failed."""

    def fail(context: LaunchContext) -> None:
        raise RuntimeError(reason)

    return OpaqueFunction(function=fail)


def over(event: ProcessExited, context: LaunchContext) -> list[Action]:
    """End the launch because a process has ended, unless that is why it has."""
    return [] if context.is_shutdown else [Shutdown(reason=f"{event.process_name} has ended")]


def _change(one: LifecycleNode, transition: int) -> Action:
    return EmitEvent(
        event=ChangeState(lifecycle_node_matcher=matches_action(one), transition_id=transition)
    )

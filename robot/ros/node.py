"""The base of all nodes: lifecycle, parameters, diagnostics, and an orderly end."""

from __future__ import annotations

import contextlib
import difflib
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import rclpy
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy._rclpy_pybind11 import InvalidHandle, RCLError, UnknownROSArgsError
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterUninitializedException,
)
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from holdfast.errors import ConfigError, HoldfastError
from holdfast.robot.ros.diagnostics import Diagnostics, Health
from holdfast.robot.ros.graph import RosGraph

__all__ = ["Health", "ManagedNode", "Option", "run"]

Value: TypeAlias = bool | int | float | str | list[str] | list[float]
"""The value of a parameter."""

THREADS = 10
"""Threads of the executor: topics, timers, transitions and each service have one to themselves."""

DISCOVERY_S = 3.5
"""How long a starting node looks for another node of the same name, s. Fast DDS repeats a lost
announcement after 3 s: among ten other nodes, half of the names were seen later than after 1 s, all
of them within 3.4 s."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

WANTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a decimal point, such as 1.0",
    str: "a text (a number that is a text is written in two pairs of quotes: '\"42\"')",
    list: "a list of {}",
}
"""A parameter's type in words, by the type of its default."""


@dataclass(frozen=True)
class Option:
    """A parameter of a node.

    Attributes:
        default: the default, which also tells the type; the default of a list of texts is one
            empty text, which counts as none.
        meaning: the description that `ros2 param describe` prints.
        least, most: the range, both ends included; None: no range.
        fixed: the parameter may only be set while the node is not active.
    """

    name: str
    default: Value
    meaning: str
    least: float | None = None
    most: float | None = None
    fixed: bool = True

    def descriptor(self) -> ParameterDescriptor:
        """Return the description and the range of the parameter."""
        described = ParameterDescriptor(description=self.meaning)
        if self.least is None or self.most is None:
            return described
        if isinstance(self.default, int):
            described.integer_range = [
                IntegerRange(from_value=int(self.least), to_value=int(self.most), step=0)
            ]
        else:
            described.floating_point_range = [
                FloatingPointRange(
                    from_value=float(self.least), to_value=float(self.most), step=0.0
                )
            ]
        return described

    def wanted(self) -> str:
        """Return in words which values the parameter takes."""
        inner = self.default[0] if isinstance(self.default, list) else None
        words = WANTED[type(self.default)].format("texts" if inner == "" else "numbers")
        within = "" if self.least is None else f" from {self.least} to {self.most}"
        return words + within


class ManagedNode(LifecycleNode):  # type: ignore[misc]  # skipped by mypy
    """A lifecycle node that reports errors as sentences.

    A subclass implements `configure`, `activate`, `halt` and `release`; each may raise
    `HoldfastError`, which is logged and fails the transition. `halt` follows each `activate`,
    whether the node is deactivated, shut down or interrupted, or fails.

    Attributes:
        graph: the node as a graph, from `configure` until `release`.
    """

    graph: RosGraph

    def __init__(self, name: str, options: Sequence[Option]) -> None:
        super().__init__(name)
        self._fixed = {option.name for option in options if option.fixed}
        self._active = False
        self._changed = False  # parameters were set since `configure` read them
        for option in options:
            self._declare(option)
        self._require_known()
        self.add_on_set_parameters_callback(self._judge_parameters)
        self._diagnostics = Diagnostics(self, self.health)

    # For the subclass.

    def configure(self) -> None:
        """Load, check and connect; the robot does not move."""

    def activate(self) -> None:
        """Begin the node's work."""

    def halt(self) -> None:
        """End the node's work; the robot stands afterwards."""

    def release(self) -> None:
        """Release what `configure` loaded and connected."""

    def health(self) -> Health:
        """Return the node's health, for the diagnostics."""
        return Health(0, "active" if self._active else "not active")

    def flag(self, name: str) -> bool:
        """Return a parameter that is true or false."""
        return bool(self.get_parameter(name).value)

    def whole(self, name: str) -> int:
        """Return a parameter that is a whole number."""
        return int(self.get_parameter(name).value)

    def number(self, name: str) -> float:
        """Return a parameter that is a number."""
        return float(self.get_parameter(name).value)

    def text(self, name: str) -> str:
        """Return a parameter that is a text."""
        return str(self.get_parameter(name).value)

    def path(self, name: str) -> Path | None:
        """Return a parameter that names a file; None where it is empty."""
        text = self.text(name)
        return Path(text) if text else None

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a parameter that is a list of texts, without the empty ones."""
        return tuple(str(text) for text in self.get_parameter(name).value if text)

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return a parameter that is a list of numbers."""
        return tuple(map(float, self.get_parameter(name).value))

    def say_health(self) -> None:
        """Publish the diagnostics now, after a change."""
        self._diagnostics.publish()

    def name_hardware(self, hardware_id: str) -> None:
        """Set the name of the unit in the diagnostics."""
        self._diagnostics.hardware_id = hardware_id

    # The lifecycle.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unconfigured to inactive."""
        return self._attempt(self._connect, "configured") or super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Inactive to active."""
        failed = self._attempt(self._begin, "active")
        if failed:
            self._stop()
        return failed or super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Active to inactive."""
        return self._attempt(self._stop, "inactive") or super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Inactive to unconfigured."""
        return self._attempt(self._let_go, "cleaned up") or super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Any state to finalized."""
        return self._attempt(self.end, "finalized") or super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition failed because of a mistake in the program: stop, and begin anew."""
        return self._attempt(self.end, "stopped after an error") or super().on_error(state)

    def _attempt(self, action: Callable[[], None], reached: str) -> TransitionCallbackReturn | None:
        """Do a transition's action, and log that it was done or why it was not.

        rclpy would take every exception for an error, and log nothing.

        Returns:
            None if the action was done, otherwise the transition's return value.
        """
        try:
            action()
        except HoldfastError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception:  # a mistake in the program: the node stops and logs where it is
            self.get_logger().fatal(traceback.format_exc())
            return TransitionCallbackReturn.ERROR
        self.get_logger().info(reached)
        return None

    def _connect(self) -> None:
        self.graph, self._changed = RosGraph(self), False
        try:
            self.configure()
        except BaseException:
            self._let_go()
            raise

    def _begin(self) -> None:
        """Activate with today's parameters, also those that were set while inactive."""
        if self._changed or not hasattr(self, "graph"):
            self._let_go()
            self._connect()
        self._active = True
        self.activate()

    def _LifecycleNodeMixin__on_change_state(  # the name is rclpy's
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        """Refuse a transition that the state does not have; older rclpy would end the process."""
        try:
            return super()._LifecycleNodeMixin__on_change_state(request, response)
        except RCLError as error:
            self.get_logger().error(f"refused: {' '.join(str(error).split())}")
            response.success = False
            return response

    def end(self) -> None:
        """Stop and release, whatever the node's state."""
        self._stop()
        self._let_go()

    def finish(self) -> None:
        """Stop and release at the end of the process; errors are logged."""
        self._attempt(self.end, "ended")

    def _stop(self) -> None:
        if self._active:
            self._active = False
            self.halt()

    def _let_go(self) -> None:
        if hasattr(self, "graph"):
            self.release()
            self.graph.close()
            del self.graph

    # Parameters.

    def _declare(self, option: Option) -> None:
        try:
            self.declare_parameter(option.name, option.default, option.descriptor())
        except (
            InvalidParameterTypeException,
            InvalidParameterValueException,
            ParameterUninitializedException,
        ):
            given = self._parameter_overrides[option.name].value
            raise ConfigError(
                f"parameter {option.name} should be {option.wanted()}, received {given!r}"
            ) from None

    def _require_known(self) -> None:
        """Raise ConfigError for a given parameter that the node does not have: it is misspelt."""
        for name in self._parameter_overrides:
            if not self.has_parameter(name) and not name.startswith("qos_overrides."):
                near = difflib.get_close_matches(name, self._fixed, 1)
                hint = (
                    f"did you mean {near[0]}?"
                    if near
                    else f"it has {', '.join(sorted(self._fixed))}"
                )
                raise ConfigError(f"parameter {name}: {self.get_name()} has no such one; {hint}")

    def _judge_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            self._changed |= parameter.name in self._fixed
            if self._active and parameter.name in self._fixed:
                return SetParametersResult(
                    successful=False,
                    reason=f"{parameter.name} can only be set while the node is not active",
                )
        return SetParametersResult(successful=True)


def run(make: Callable[[], ManagedNode], arguments: Sequence[str] | None = None) -> int:
    """Run a node until SIGINT, SIGTERM or SIGHUP; stop the robot before the node leaves the graph.

    rclpy's own signal handlers are not used: they would end the context first, and a command of
    zero could not be published any more.

    Returns:
        Exit status: 0, or 1 if the node could not be made or failed.
    """
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    # A signal may interrupt a library's thread; the descriptor wakes this thread all the same.
    signal.set_wakeup_fd(wake.fileno())
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        node = make()
        _require_alone(node)
    except (ConfigError, RCLError, UnknownROSArgsError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    executor = MultiThreadedExecutor(THREADS)
    executor.add_node(node)
    ended: Future = Future()
    thread = threading.Thread(target=_spin, args=(executor, ended), name="executor", daemon=True)
    thread.start()
    while thread.is_alive() and not select.select([woken], [], [], 1.0)[0]:
        pass
    failed = not thread.is_alive()  # its error was printed
    node.finish()
    ended.set_result(None)
    thread.join(1.0)  # first, because an executor that is shut down while it spins fails
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown()
    # At its end Python restores the default handlers, and a second signal would look like a crash.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    return int(failed)


def _spin(executor: MultiThreadedExecutor, ended: Future) -> None:
    """Run callbacks until the future is done."""
    while not ended.done():
        # rclpy raises this for QoS events of a publisher that a transition has just destroyed.
        with contextlib.suppress(InvalidHandle):
            executor.spin_until_future_complete(ended)


def _require_alone(node: ManagedNode) -> None:
    """Check that no other node has this name: both would answer the same services.

    Raises:
        ConfigError: another node has this name.
    """
    own = node.get_name(), node.get_namespace()
    deadline_s = time.monotonic() + DISCOVERY_S
    while time.monotonic() < deadline_s:
        if node.get_node_names_and_namespaces().count(own) > 1:
            raise ConfigError(
                f"there is a node {node.get_fully_qualified_name()} already; end it first, or "
                "give this one another namespace. One that was killed is seen for up to 20 s more"
            )
        time.sleep(0.05)

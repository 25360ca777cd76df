"""What the nodes have in common: lifecycle, parameters, diagnostics, and an orderly end."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import rclpy
from diagnostic_updater import Updater
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from holdfast.errors import HoldfastError
from holdfast.robot.ros.graph import RosGraph

THREADS = 3
"""Topics, services and the rest each have one, so that a service may wait for a topic."""


@dataclass(frozen=True)
class Option:
    """A parameter of a node.

    Attributes:
        default: also tells its type; a list of texts defaults to one empty text, which counts
            as none.
        least, most: its range, both ends included; None: it has none.
        fixed: it may only be set while the node is not active.
    """

    name: str
    default: Any
    meaning: str
    least: float | None = None
    most: float | None = None
    fixed: bool = True

    def descriptor(self) -> ParameterDescriptor:
        """Return what `ros2 param describe` says of it."""
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


@dataclass(frozen=True)
class Health:
    """How a node is: 0 well, 1 worth a look, 2 in trouble."""

    level: int
    sentence: str
    values: Mapping[str, str] = field(default_factory=dict)


class ManagedNode(LifecycleNode):  # type: ignore[misc]  # rclpy tells no types
    """A lifecycle node whose mistakes are sentences.

    A subclass says what happens in `configure`, `activate`, `halt` and `release`; each may raise
    `HoldfastError`, which is logged and fails the transition. `halt` ends whatever `activate`
    began, however it ends: deactivated, shut down, failed, interrupted.
    """

    graph: RosGraph

    def __init__(self, name: str, options: Sequence[Option]) -> None:
        super().__init__(name)
        self._fixed = {option.name for option in options if option.fixed}
        self._active = False
        for option in options:
            self.declare_parameter(option.name, option.default, option.descriptor())
        self.add_on_set_parameters_callback(self._judge_parameters)
        self._diagnostics = Updater(self)
        self._diagnostics.setHardwareID("none")
        self._diagnostics.add("state", self._diagnose)

    # For the subclass.

    def configure(self) -> None:
        """Load, check and connect; nothing moves."""

    def activate(self) -> None:
        """Begin."""

    def halt(self) -> None:
        """End what was begun; the robot stands afterwards."""

    def release(self) -> None:
        """Let go of what was loaded and connected."""

    def health(self) -> Health:
        """Return how the node is, for the diagnostics."""
        return Health(0, "active" if self._active else "not active")

    def option(self, name: str) -> Any:
        """Return a parameter's value."""
        return self.get_parameter(name).value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a parameter that is a list of texts."""
        return tuple(text for text in self.option(name) if text)

    def say_health(self) -> None:
        """Publish the diagnostics now, because something changed."""
        self._diagnostics.force_update()

    def name_hardware(self, hardware_id: str) -> None:
        """Say in the diagnostics which unit it is."""
        self._diagnostics.setHardwareID(hardware_id)

    # The lifecycle.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unconfigured to inactive."""
        self.graph = RosGraph(self)
        failed = self._attempt(self.configure, "configured")
        if failed:
            self._let_go()
        return failed or super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Inactive to active."""
        self._active = True
        failed = self._attempt(self.activate, "active")
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
        """Anything to finalized."""
        return self._attempt(self.end, "finalized") or super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition failed for no reason of the user's: stop, and begin anew."""
        return self._attempt(self.end, "stopped after an error") or super().on_error(state)

    def _attempt(self, action: Callable[[], None], reached: str) -> TransitionCallbackReturn | None:
        """Return None if it was done, else what the transition should return; says what or why.

        rclpy would take an exception for an error, and keep it to itself.
        """
        try:
            action()
        except HoldfastError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception:  # whatever it is, the node ends stopped and says why; see above
            self.get_logger().fatal(traceback.format_exc())
            return TransitionCallbackReturn.ERROR
        self.get_logger().info(reached)
        return None

    def end(self) -> None:
        """Stop and let go, whatever state the node is in."""
        self._stop()
        self._let_go()

    def finish(self) -> None:
        """Stop and let go because the process ends; what fails is said."""
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

    # Parameters and diagnostics.

    def _judge_parameters(self, parameters: list[Any]) -> SetParametersResult:
        for parameter in parameters:
            if self._active and parameter.name in self._fixed:
                return SetParametersResult(
                    successful=False,
                    reason=f"{parameter.name} can only be set while the node is not active",
                )
        return SetParametersResult(successful=True)

    def _diagnose(self, status: Any) -> Any:
        health = self.health()
        status.summary(bytes([health.level]), health.sentence)
        for key, value in health.values.items():
            status.add(key, value)
        return status


def run(make: Callable[[], ManagedNode], arguments: Sequence[str] | None = None) -> int:
    """Run a node until SIGINT or SIGTERM, and stop the robot before it leaves the graph.

    rclpy's own handlers end the context first, and with it every way to tell the robot so.
    """
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    ending = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ending.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    node = make()
    executor = MultiThreadedExecutor(THREADS)
    executor.add_node(node)
    ended: Future = Future()
    spin = executor.spin_until_future_complete
    thread = threading.Thread(target=spin, args=(ended,), name="executor", daemon=True)
    thread.start()
    while thread.is_alive() and not ending.wait(1.0):
        pass
    failed = not thread.is_alive()  # its error was printed
    node.finish()
    ended.set_result(None)
    thread.join(1.0)  # first: shut down while it looks for work, the executor fails in its thread
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown()
    # Python gives signals their default meaning as it ends; a second one would be told as a death.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    return int(failed)

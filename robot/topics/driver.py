"""The driver: the topics of a mobile base over its hardware.

The driver publishes measurements, obeys commands, and stops the hardware by itself when no command
came for a while or when two publishers send commands. The driver also has the emergency stop, which
must not depend on the safety monitor's process. A device behind a serial port and a simulated robot
are both a `Hardware`.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from holdfast.errors import ConfigError, RefusedError
from holdfast.robot.topics import message_types as msg
from holdfast.robot.topics.config import RosSection, Source
from holdfast.robot.topics.fields import ActionCodec, SourceWriter, set_stamp
from holdfast.robot.topics.graph import COMMAND, PLAIN, STATUS, Graph, Qos, names
from holdfast.robot.topics.requests import Request, Requests
from holdfast.robot.topics.robot import E_STOP, E_STOP_RESET, E_STOP_TRIGGER
from holdfast.signals import Array

ODOM, IMU, JOINTS, SCAN = "odom", "imu", "joint_states", "scan"
TF, TF_STATIC = "tf", "tf_static"
"""Names without "/": robots in different namespaces have transforms of their own."""


ANSWER_LIMIT_S = 2.0
STANDING_M_S, STANDING_RAD_S = 0.05, 0.1
_TF = Qos(reliable=True, latched=False, depth=100)

S = TypeVar("S", bound=msg.Stamped)


@dataclass(frozen=True)
class HardwareState:
    """The measurements of one time, SI units; NaN for a value that is not measured.

    Attributes:
        stamp_s: time of the measurements, s.
        pose: x, y in m and yaw in rad, in the odom frame.
        velocity: forward and lateral speed in m/s, yaw rate in rad/s.
        tilt: roll and pitch, rad.
        acceleration, angular_velocity: along and about the axes of the base, m/s² and rad/s.
        joints: position, velocity and effort of each joint, in rad, rad/s and N m, or m, m/s and N;
            empty where they are not measured.
        scan_m: ranges of a lidar, m, counter-clockwise from straight ahead; empty: no lidar.
        extra_sources: further signals, by catalogue name.
    """

    stamp_s: float
    pose: tuple[float, float, float]
    velocity: tuple[float, float, float]
    tilt: tuple[float, float]
    acceleration: tuple[float, ...]
    angular_velocity: tuple[float, ...]
    joints: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
    scan_m: tuple[float, ...] = ()
    extra_sources: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def of(cls, stamp_s: float, signals: Mapping[str, Array]) -> HardwareState:
        """Return what a device's signals say, by catalogue name; one that is not there is NaN."""

        def values(name: str, size: int) -> list[float]:
            return signals[name].tolist() if name in signals else [math.nan] * size

        x, y, yaw = *values("position", 2), *values("heading", 1)
        roll, pitch = values("tilt", 2)
        (forward,), (lateral,) = values("forward_speed", 1), values("lateral_speed", 1)
        (turn,) = values("yaw_rate", 1)
        return cls(
            stamp_s=stamp_s,
            pose=(x, y, yaw),
            velocity=(forward, lateral, turn),
            tilt=(roll, pitch),
            acceleration=tuple(values("linear_acceleration", 3)),
            angular_velocity=tuple(values("angular_velocity", 3)),
            joints=(
                tuple(values("joint_position", 0)),
                tuple(values("joint_velocity", 0)),
                tuple(values("joint_effort", 0)),
            ),
        )


class Hardware(Protocol):
    """The interface to the hardware, used from the driver's thread alone.

    Attributes:
        actions: names of the action channels, in the hardware's order.
    """

    actions: tuple[str, ...]

    def wait(self, wake: int) -> HardwareState | None:
        """Wait for a moment, or until the descriptor `wake` can be read.

        Returns:
            The new measurements; None if there are none.
        """

    def faults(self) -> tuple[str, ...]:
        """Return a sentence for each latched fault."""

    def obey(self, action: Array, valid_for_s: float) -> None:
        """Obey an action for a while; a latched fault has precedence.

        Raises:
            RefusedError: the hardware does not move; a later command of zero may be obeyed.
        """

    def halt(self) -> None:
        """Stand still; the next command needs no reset."""

    def stop(self) -> None:
        """Stand still, and latch the stop."""

    def reset(self) -> None:
        """Release all latched faults; the hardware does not move.

        Raises:
            RefusedError: all faults stay latched.
        """

    def close(self) -> None:
        """Stand still, and close the hardware."""


@dataclass(frozen=True, eq=False)
class _Command:
    stamp_s: float
    action: Array


@dataclass(frozen=True)
class MessageOptions:
    """Frames, covariances and optional messages of a driver.

    Attributes:
        odom_frame, base_frame, imu_frame, scan_frame: names of frames.
        joints: names of the joints; empty: no joint_states.
        publish_tf: also publish the pose and the mounts as transforms.
        mounts: position on the base, m, of each frame whose axes are parallel to the base's.
        pose_covariance, twist_covariance: diagonals of the odometry's covariances.
        scan_range_m: least and largest range of the lidar, m; a largest range of 0: no lidar.
    """

    odom_frame: str = "odom"
    base_frame: str = "base_link"
    imu_frame: str = "imu_link"
    scan_frame: str = "base_scan"
    joints: tuple[str, ...] = ("left_wheel_joint", "right_wheel_joint")
    publish_tf: bool = True
    mounts: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    pose_covariance: Sequence[float] = (0.0,) * 6
    twist_covariance: Sequence[float] = (0.0,) * 6
    scan_range_m: tuple[float, float] = (0.0, 0.0)


class Driver:
    """Runs the hardware; `turn` is to be called again and again.

    Args:
        section: the robot's topics, of which the driver uses the command's.
        extra_sources: sources of the section that the hardware measures beyond odometry, IMU,
            joints and scan.

    Attributes:
        faults: faults that the hardware had latched in the last turn, a sentence each.
        refused: why the hardware refused the newest command; empty if it did not.

    Raises:
        ConfigError: a type or a field does not exist or cannot be written, or the command has
            other channels than the hardware.
    """

    def __init__(
        self,
        graph: Graph,
        hardware: Hardware,
        section: RosSection,
        options: MessageOptions,
        extra_sources: Mapping[str, Source] | None = None,
    ) -> None:
        self._graph, self._hardware, self._options = graph, hardware, options
        command = section.command
        self._timeout_s = section.command_timeout_s
        if command.fields.keys() != {*hardware.actions}:
            raise ConfigError(
                f"ros.command.fields should name the hardware's action channels, "
                f"{', '.join(hardware.actions)}, received {', '.join(command.fields)}"
            )
        self._codec = ActionCodec("ros.command.fields", command, graph, hardware.actions)
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        # A base that goes ahead and turns does not go sideways. Any other one may, and says so by
        # NaN where it does not measure it.
        self._sideways = not {*hardware.actions} <= {"forward_speed", "yaw_rate"}
        self._lock = threading.Lock()
        self._command: _Command | None = None
        self._obeyed: _Command | None = None
        self._command_topic = command.topic
        self._writer: set[str] = set()  # the publisher that is obeyed, after a first zero
        self._stood = False
        self._contested = ""
        self._requests = Requests("the driver")
        self._speed = (0.0, 0.0, 0.0)
        self.faults: tuple[str, ...] = ()
        self.refused = ""
        self._said_stopped: bool | None = None
        self._advertise(graph)
        self._extra_sources = [
            (
                SourceWriter(name, source, graph),
                graph.advertise(source.topic, source.message_type, PLAIN),
            )
            for name, source in (extra_sources or {}).items()
        ]
        graph.subscribe(command.topic, command.message_type, COMMAND, self._hear)
        graph.serve(E_STOP_TRIGGER, lambda: self._ask("trigger"))
        graph.serve(E_STOP_RESET, lambda: self._ask("reset"))

    def _advertise(self, graph: Graph) -> None:
        options = self._options
        self._say_odometry = graph.advertise(ODOM, msg.ODOMETRY, PLAIN)
        self._say_imu = graph.advertise(IMU, msg.IMU, PLAIN)
        self._say_e_stop = graph.advertise(E_STOP, msg.BOOL, STATUS)
        self._say_joints: Callable[[msg.JointState], None] | None = None
        self._say_scan: Callable[[msg.LaserScan], None] | None = None
        self._say_transforms: Callable[[msg.TFMessage], None] | None = None
        if options.joints:
            self._say_joints = graph.advertise(JOINTS, msg.JOINT_STATE, PLAIN)
        if options.scan_range_m[1] > 0.0:
            self._say_scan = graph.advertise(SCAN, msg.LASER_SCAN, PLAIN)
        if options.publish_tf:
            self._say_transforms = graph.advertise(TF, msg.TRANSFORMS, _TF)
            say_mounts = graph.advertise(TF_STATIC, msg.TRANSFORMS, STATUS)
            if mounts := self._mounts():
                say_mounts(self._transforms(mounts))

    # From the graph's threads.

    def _hear(self, message: msg.Message) -> None:
        stamp_s = self._codec.stamp_s(message, self._graph.now_s())
        command = _Command(stamp_s, self._codec.action(message))
        with self._lock:
            # Noted here, because the driver's thread may miss all commands but the newest.
            self._stood = self._stood or not command.action.any()
            self._command = command
        self._rouse()

    def _ask(self, kind: str) -> tuple[bool, str]:
        request = self._requests.put(kind)
        self._rouse()
        return self._requests.result(request, ANSWER_LIMIT_S)

    def _rouse(self) -> None:
        with contextlib.suppress(BlockingIOError):  # the driver's thread is awake already
            self._wake.send(b"!")

    # The driver's own thread.

    def turn(self) -> None:
        """Measure, obey and publish once.

        Raises:
            LinkError: the hardware was lost, and stops by itself.
        """
        measured = self._hardware.wait(self._woken.fileno())
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        for request in self._requests.drain():
            self._answer(request)
        self._look_who_commands()
        self._drive()
        contested = (self._contested,) if self._contested else ()
        self.faults = (*self._hardware.faults(), *contested)
        stopped = bool(self.faults)
        if stopped is not self._said_stopped:  # before all else: the monitor waits for it
            self._said_stopped = stopped
            message = self._graph.message_class(msg.BOOL)()
            message.data = stopped
            self._say_e_stop(message)
        if measured is not None:
            self._speed = measured.velocity
            self._say(measured)

    def _look_who_commands(self) -> None:
        """Stop if two publishers command; obey a new publisher only after its first zero."""
        writers = self._graph.publishers(self._command_topic)
        if len(writers) > 1:
            if not self._contested:
                self._hardware.stop()
            self._contested = (
                f"{self._command_topic} should have one publisher, it has {names(writers)}"
            )
        elif writers and writers.keys() != self._writer:
            if self._writer:
                self._graph.warn(f"{self._command_topic} has a new publisher, {names(writers)}")
            self._writer = {*writers}
            with self._lock:
                self._command, self._stood = None, False

    def _drive(self) -> None:
        """Obey a new command; stand still when the newest command has run out."""
        with self._lock:
            command = self._command
        left_s = 0.0 if command is None else self._left_s(command)
        if left_s <= 0.0 or command is None:
            self._hardware.halt()
        elif command is not self._obeyed:
            self._obeyed = command
            if self._stood:
                self._obey(command, left_s)

    def _obey(self, command: _Command, left_s: float) -> None:
        """Pass a command on.

        After a refusal the hardware stands, and the next command of zero asks again.
        """
        try:
            self._hardware.obey(command.action, left_s)
        except RefusedError as error:
            if str(error) != self.refused:  # once, not for each of many commands a second
                self._graph.warn(f"{error}; the next command to stand still asks again")
            self.refused = str(error)
        else:
            self.refused = ""

    def _left_s(self, command: _Command) -> float:
        """Return how long a command may still be obeyed, s; 0 if it may not be."""
        age_s = self._graph.now_s() - command.stamp_s
        # A command from the future would hold for too long; NaN fails every comparison.
        usable = -self._timeout_s <= age_s and all(map(math.isfinite, command.action.tolist()))
        return min(self._timeout_s - age_s, self._timeout_s) if usable else 0.0

    def _answer(self, request: Request) -> None:
        if request.kind == "trigger":
            self._hardware.stop()
            request.answer(True, f"stopped; {E_STOP_RESET} releases it")
            return
        with self._lock:
            command = self._command
        if command is not None and command.action.any() and self._left_s(command) > 0.0:
            request.answer(False, "the newest command is not zero")
        elif len(self._graph.publishers(self._command_topic)) > 1:
            request.answer(False, self._contested)
        elif self._moves():
            request.answer(False, "the robot moves")
        else:
            try:
                self._hardware.reset()
            except RefusedError as error:
                request.answer(False, str(error))
                return
            self._contested = ""
            request.answer(True, "released; the safety monitor has yet to be reset and armed")

    def _moves(self) -> bool:
        forward, lateral, turn = map(abs, self._speed)
        return forward > STANDING_M_S or lateral > STANDING_M_S or turn > STANDING_RAD_S

    def rest(self) -> None:
        """Let the hardware stand still until the next turn."""
        with self._lock:
            self._command = None
        self._hardware.halt()

    def close(self) -> None:
        """Stop and close the hardware."""
        self._hardware.close()

    # Messages.

    def _say(self, measured: HardwareState) -> None:
        self._say_odometry(self._odometry(measured))
        self._say_imu(self._imu(measured))
        if self._say_joints is not None:
            self._say_joints(self._joints(measured))
        if measured.scan_m and self._say_scan is not None:
            self._say_scan(self._scan(measured))
        if self._say_transforms is not None:
            self._say_transforms(self._transforms([self._pose(measured)]))
        for writer, publish in self._extra_sources:
            publish(writer.message(measured.extra_sources, measured.stamp_s))

    def _message(self, kind: msg.MessageType[S], stamp_s: float, frame: str) -> S:
        message = self._graph.message_class(kind)()
        set_stamp(message.header.stamp, stamp_s)
        message.header.frame_id = frame
        return message

    def _odometry(self, measured: HardwareState) -> msg.Odometry:
        options = self._options
        message = self._message(msg.ODOMETRY, measured.stamp_s, options.odom_frame)
        message.child_frame_id = options.base_frame
        message.pose.pose.position.x, message.pose.pose.position.y, yaw = measured.pose
        _turn(message.pose.pose.orientation, 0.0, 0.0, yaw)
        forward, lateral, turn = measured.velocity
        if math.isnan(lateral) and not self._sideways:
            lateral = 0.0
        message.twist.twist.linear.x, message.twist.twist.linear.y = forward, lateral
        message.twist.twist.angular.z = turn
        for i in range(6):
            message.pose.covariance[7 * i] = float(options.pose_covariance[i])
            message.twist.covariance[7 * i] = float(options.twist_covariance[i])
        return message

    def _imu(self, measured: HardwareState) -> msg.Imu:
        message = self._message(msg.IMU, measured.stamp_s, self._options.imu_frame)
        roll, pitch = measured.tilt
        _turn(message.orientation, roll, pitch, measured.pose[2])
        _set_vector(message.angular_velocity, measured.angular_velocity)
        _set_vector(message.linear_acceleration, measured.acceleration)
        return message

    def _joints(self, measured: HardwareState) -> msg.JointState:
        message = self._message(msg.JOINT_STATE, measured.stamp_s, "")
        message.name = list(self._options.joints)
        message.position, message.velocity, message.effort = map(list, measured.joints)
        return message

    def _scan(self, measured: HardwareState) -> msg.LaserScan:
        message = self._message(msg.LASER_SCAN, measured.stamp_s, self._options.scan_frame)
        count = len(measured.scan_m)
        message.angle_increment = math.tau / count
        message.angle_max = math.tau * (count - 1) / count
        message.range_min, message.range_max = self._options.scan_range_m
        message.ranges = list(measured.scan_m)
        return message

    def _pose(self, measured: HardwareState) -> msg.TransformStamped:
        options, (x, y, yaw) = self._options, measured.pose
        position = (x, y, 0.0)
        return self._moved(measured.stamp_s, options.odom_frame, options.base_frame, position, yaw)

    def _mounts(self) -> list[msg.TransformStamped]:
        options, now_s = self._options, self._graph.now_s()
        return [
            self._moved(now_s, options.base_frame, frame, position)
            for frame, position in options.mounts.items()
        ]

    def _moved(
        self,
        stamp_s: float,
        parent: str,
        child: str,
        position: tuple[float, float, float],
        yaw: float = 0.0,
    ) -> msg.TransformStamped:
        transform = self._message(msg.TRANSFORM, stamp_s, parent)
        transform.child_frame_id = child
        _set_vector(transform.transform.translation, position)
        _turn(transform.transform.rotation, 0.0, 0.0, yaw)
        return transform

    def _transforms(self, transforms: list[msg.TransformStamped]) -> msg.TFMessage:
        message = self._graph.message_class(msg.TRANSFORMS)()
        message.transforms = transforms
        return message


def _turn(quaternion: msg.Quaternion, roll: float, pitch: float, yaw: float) -> None:
    """Set a geometry_msgs/Quaternion: yaw about z, then pitch about y, then roll about x."""
    cr, sr = math.cos(roll / 2.0), math.sin(roll / 2.0)
    cp, sp = math.cos(pitch / 2.0), math.sin(pitch / 2.0)
    cy, sy = math.cos(yaw / 2.0), math.sin(yaw / 2.0)
    quaternion.w = cr * cp * cy + sr * sp * sy
    quaternion.x = sr * cp * cy - cr * sp * sy
    quaternion.y = cr * sp * cy + sr * cp * sy
    quaternion.z = cr * cp * sy - sr * sp * cy


def _set_vector(vector: msg.Vector3, values: Sequence[float]) -> None:
    vector.x, vector.y, vector.z = values

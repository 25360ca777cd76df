"""Recovery: what the robot may do by itself in FALLBACK, if its limits or the contract say so."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from holdfast.contract import Contract, Recovery
from holdfast.errors import ConfigError, ContractError, HoldfastError
from holdfast.safety_monitor.look import WHERE, Numbers
from holdfast.safety_monitor.scalar import clamp


@dataclass(frozen=True)
class RecoveryFunction:
    """A fallback controller, simple enough to be read and believed.

    Attributes:
        act: signals as numbers, and keyword parameters, to an action; zero when it is done.
        signals: what it reads.
        parameters: the names of its keyword parameters, each above 0 unless in `signed`.
        channels: the action channels it writes, in order.
    """

    act: Callable[..., tuple[float, ...]]
    signals: tuple[str, ...]
    parameters: tuple[str, ...]
    signed: tuple[str, ...]
    channels: tuple[str, ...]


def return_to_point(
    values: Numbers,
    *,
    x_m: float,
    y_m: float,
    speed_m_s: float,
    yaw_rate_rad_s: float,
    arrived_m: float,
) -> tuple[float, float]:
    """Turn towards a point and drive to it; stop within `arrived_m`."""
    x, y = values["position"]
    ahead, aside = x_m - x, y_m - y
    if math.hypot(ahead, aside) <= arrived_m:
        return 0.0, 0.0
    bearing = math.remainder(math.atan2(aside, ahead) - values["heading"][0], math.tau)
    # One radian off asks for the whole yaw rate; nothing is driven away from the point.
    turn = yaw_rate_rad_s * clamp(bearing, -1.0, 1.0)
    return speed_m_s * max(math.cos(bearing), 0.0), turn


FUNCTIONS: Mapping[str, RecoveryFunction] = {
    "return_to_point": RecoveryFunction(
        return_to_point,
        ("position", "heading"),
        ("x_m", "y_m", "speed_m_s", "yaw_rate_rad_s", "arrived_m"),
        ("x_m", "y_m"),
        ("forward_speed", "yaw_rate"),
    ),
}


class RecoveryController:
    """The robot's own recovery, where its limits name one; else the contract's; or none.

    Raises:
        ConfigError: the robot's has an unknown name, other parameters than it takes, or the
            contract has not the action channels that it writes.
        ContractError: the same of the contract's.
    """

    def __init__(self, contract: Contract, own: Recovery | None) -> None:
        self._function: RecoveryFunction | None = None
        self.signals: tuple[str, ...] = ()
        if own is not None:
            self._take(own, contract, f"{WHERE}.recovery '{own.name}'", ConfigError)
        elif contract.recovery is not None:
            name = contract.recovery.name
            self._take(contract.recovery, contract, f"recovery '{name}'", ContractError)

    def _take(
        self, recovery: Recovery, contract: Contract, where: str, error: type[HoldfastError]
    ) -> None:
        function = FUNCTIONS.get(recovery.name)
        if function is None:
            raise error(f"{where}: should be one of {', '.join(FUNCTIONS)}")
        if set(recovery.parameters) != set(function.parameters):
            raise error(
                f"{where}: parameters should be {', '.join(function.parameters)}, "
                f"received {', '.join(recovery.parameters) or 'none'}"
            )
        for name, value in recovery.parameters.items():
            if name not in function.signed and value <= 0.0:
                raise error(f"{where}: {name} should be above 0, received {value}")
        channels = tuple(channel.name for channel in contract.action)
        if channels != function.channels:
            raise error(
                f"{where}: writes {', '.join(function.channels)}; the contract's action is "
                f"{', '.join(channels)}"
            )
        self._function, self.signals = function, function.signals
        self._parameters = dict(recovery.parameters)

    def act(self, values: Numbers) -> list[float] | None:
        """Return the action, physical units; None if there is no controller or it is blind."""
        if self._function is None or any(name not in values for name in self.signals):
            return None
        return list(self._function.act(values, **self._parameters))

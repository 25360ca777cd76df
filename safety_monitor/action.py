"""Actions within the contract's limits and rates, as numbers."""

from __future__ import annotations

from holdfast.contract import Contract
from holdfast.safety_monitor.scalar import clamp


class ActionLimits:
    """What `Contract.admissible` does, for one robot: bit for bit the same, without arrays."""

    def __init__(self, contract: Contract) -> None:
        steps: list[float] = contract.action_max_step.tolist()
        self._channels = tuple(
            (channel.low, channel.high, step)
            for channel, step in zip(contract.action, steps, strict=True)
        )

    def clip(self, action: list[float]) -> list[float]:
        """Return an action within the limits."""
        return [
            clamp(value, low, high)
            for value, (low, high, _) in zip(action, self._channels, strict=True)
        ]

    def admissible(self, previous: list[float], action: list[float]) -> list[float]:
        """Return an action within the limits, then within the rates of the previous one."""
        return [
            clamp(clamp(value, low, high), last - step, last + step)
            for value, last, (low, high, step) in zip(action, previous, self._channels, strict=True)
        ]

"""May this action reach the motors? NumPy and stdlib alone; time is an argument."""

from holdfast.safety_monitor.limits import Box, Limits, Tiers
from holdfast.safety_monitor.messages import (
    BudgetStatus,
    Check,
    Proposal,
    Reading,
    Reason,
    State,
    Verdict,
)
from holdfast.safety_monitor.monitor import Monitor

__all__ = [
    "Box",
    "BudgetStatus",
    "Check",
    "Limits",
    "Monitor",
    "Proposal",
    "Reading",
    "Reason",
    "State",
    "Tiers",
    "Verdict",
]

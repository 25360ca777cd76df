"""May this action reach the motors? NumPy and stdlib alone; time is an argument."""

from holdfast.safety_monitor.checks.consistency import Agreement
from holdfast.safety_monitor.checks.envelope import Span
from holdfast.safety_monitor.checks.following import FollowingLimits
from holdfast.safety_monitor.checks.geofence import Geofence
from holdfast.safety_monitor.evidence import Evidence
from holdfast.safety_monitor.familiarity import Familiarity, fit_familiarity
from holdfast.safety_monitor.judge import Tiers
from holdfast.safety_monitor.limits import Limits
from holdfast.safety_monitor.look import Look
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
from holdfast.safety_monitor.prediction import Prediction, fit_prediction

__all__ = [
    "Agreement",
    "BudgetStatus",
    "Check",
    "Evidence",
    "Familiarity",
    "FollowingLimits",
    "Geofence",
    "Limits",
    "Look",
    "Monitor",
    "Prediction",
    "Proposal",
    "Reading",
    "Reason",
    "Span",
    "State",
    "Tiers",
    "Verdict",
    "fit_familiarity",
    "fit_prediction",
]

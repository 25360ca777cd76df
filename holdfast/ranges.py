"""Checks of settings: each raises TrainingError with one sentence."""

from __future__ import annotations

from typing import Any, get_args

from holdfast.errors import TrainingError


def one_of(kind: Any, settings: object, name: str) -> None:
    """Check that a setting is one of a Literal's values."""
    if getattr(settings, name) not in get_args(kind):
        raise TrainingError(
            f"{name} should be one of {', '.join(get_args(kind))}, "
            f"received '{getattr(settings, name)}'"
        )


def at_least(least: float, settings: object, *names: str) -> None:
    """Check that settings are `least` or more."""
    for name in names:
        value = getattr(settings, name)
        if not value >= least:  # NaN fails this comparison too
            raise TrainingError(f"{name} should be at least {least:g}, received {value}")


def above_zero(settings: object, *names: str) -> None:
    """Check that settings are above 0."""
    for name in names:
        value = getattr(settings, name)
        if not value > 0.0:
            raise TrainingError(f"{name} should be above 0, received {value}")


def share(settings: object, *names: str) -> None:
    """Check that settings are between 0 and 1."""
    for name in names:
        value = getattr(settings, name)
        if not 0.0 <= value <= 1.0:
            raise TrainingError(f"{name} should be in [0, 1], received {value}")

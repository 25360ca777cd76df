"""How far logged actions reach: what their importance weights ρ tell of another policy.

`finetune` and `gate` bound the same two numbers, so that they agree about one child and its logs.
"""

from __future__ import annotations

import numpy as np

from holdfast.signals import Array


def divergence(ratio: Array) -> float:
    """Return KL(behaviour ‖ policy) = E[ρ − 1 − ln ρ], nats per step, each term at least 0.

    It needs no weights of the behaviour policies, which may be several; Schulman 2020,
    "Approximating KL divergence".

    Args:
        ratio: (steps,), ρ of the logged actions; 0 makes it infinite.
    """
    with np.errstate(divide="ignore"):
        return float(np.mean(ratio - 1.0 - np.log(ratio)))


def effective_share(ratio: Array) -> float:
    """Return the effective sample size (Σρ)²/Σρ² (Kong 1992) as a share of the steps."""
    squares = float(ratio @ ratio)
    return float(ratio.sum()) ** 2 / (len(ratio) * squares) if squares else 0.0

"""How far logged actions reach: what their importance weights ρ tell of another policy.

`finetune` and `gate` bound the same two numbers, so that they agree about one child and its logs.
Both are computed from ln ρ: a ρ below all numbers would be 0, and a KL infinite that is not.
"""

from __future__ import annotations

import numpy as np

from holdfast.signals import Array


def divergence(log_ratio: Array) -> float:
    """Return KL(behaviour ‖ policy) = E[ρ − 1 − ln ρ], nats per step, each term at least 0.

    It needs no weights of the behaviour policies, which may be several; Schulman 2020,
    "Approximating KL divergence".

    Args:
        log_ratio: (steps,), ln ρ of the logged actions. A ρ above all numbers makes it infinite.
    """
    with np.errstate(over="ignore"):
        return float(np.mean(np.expm1(log_ratio) - log_ratio))


def effective_share(log_ratio: Array) -> float:
    """Return the effective sample size (Σρ)²/Σρ² (Kong 1992) as a share of the steps.

    Args:
        log_ratio: (steps,), ln ρ of the logged actions. 0 where one is not a finite number.
    """
    if not np.isfinite(log_ratio).all():
        return 0.0
    ratio = np.exp(log_ratio - log_ratio.max())  # the share is that of all ρ times a factor
    return float(ratio.sum()) ** 2 / (len(ratio) * float(ratio @ ratio))

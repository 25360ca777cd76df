"""Generalised advantage estimation (Schulman et al. 2016, equations 11-16)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from holdfast.signals import Array


def advantages(
    rewards: Array,
    values: Array,
    next_values: Array,
    ended: NDArray[np.bool_],
    gamma: float | Array,
    lam: float | Array,
) -> Array:
    """Return A_t = Σ_l (γλ)^l δ_{t+l} with δ_t = r_t + γ V(s_{t+1}) − V(s_t).

    Args:
        rewards: (T, N, ...), rewards or several costs.
        values: V(s_t), same shape.
        next_values: V(s_{t+1}) before any reset, 0 where the task ended at s_{t+1}; same shape.
        ended: (T, N), the episode ended after step t, for any reason.
        gamma, lam: discount and λ, broadcast over the trailing axes, as each cost has its own.
    """
    delta = rewards + gamma * next_values - values
    goes_on = ~ended.reshape(ended.shape + (1,) * (rewards.ndim - 2))
    result = np.empty_like(delta)
    following = np.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        following = delta[t] + gamma * lam * goes_on[t] * following
        result[t] = following
    return result

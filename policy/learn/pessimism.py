"""Pessimism for a robot that nobody has measured: what the model does not know costs.

    C⁺(s, a) = C(s, a) + factor · δ(s, a) · d / T        (As et al. 2025, "SPiDR", arXiv 2509.18648)

δ is the disagreement of randomised robots about the next state, in usual changes per control
period (`holdfast.sim.batch.alternatives`); d is the limit, and T an episode's control periods. So
the addition is a share of the limit: where robots disagree by δ on average, (1 − factor · δ) d is
left for the true cost. C⁺ is at least C, so a policy that meets the limit in C⁺ meets it in C.
"""

from __future__ import annotations

from holdfast.policy.sampling.rollout import Rollout
from holdfast.signals import Array

ALTERNATIVES = 2
"""K, other robots in which each step of a copy is simulated too."""

LARGEST = 1000.0
"""Largest factor: a disagreement of a thousandth then leaves nothing of the limit. Beyond float32's
numbers updates end in NaN."""


def addition(rollout: Rollout, factor: float, episode_steps: int) -> Array:
    """Return what pessimism adds to the costs (T, N, m) of a rollout."""
    share: Array = factor / episode_steps * rollout.disagreement[..., None]
    return share * rollout.limit

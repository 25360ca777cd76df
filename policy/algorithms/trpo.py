"""Trust region policy optimization (Schulman et al. 2015), which ignores costs.

Maximise gᵀx subject to ½ xᵀHx ≤ δ: x = √(2δ / gᵀH⁻¹g) H⁻¹g.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeVar

from holdfast.policy.algorithms.algorithm import Algorithm, BatchEstimate, OwnSettings, UpdateResult
from holdfast.policy.optimise.trust_region import StepSettings, Trial, TrustRegion
from holdfast.policy.sampling.samples import Samples


@dataclass(frozen=True)
class TRPOSettings(OwnSettings):
    """Settings of algorithms that step in a trust region.

    Attributes:
        step: size of a step in the trust region, and how it is computed.
    """

    step: StepSettings = field(default_factory=StepSettings)

    @classmethod
    def paper(cls: type[T]) -> T:
        """See `OwnSettings`."""
        return cls(step=StepSettings(delta=0.01))


T = TypeVar("T", bound=TRPOSettings)


class TRPO(Algorithm[T]):
    """The longest step along the natural gradient that stays in the trust region and gains."""

    Settings = TRPOSettings

    def update(self, samples: Samples, estimate: BatchEstimate) -> UpdateResult:
        """See `Algorithm`."""
        settings = self.settings.step
        region = TrustRegion(self.policy, samples, 1, settings)
        if not region.finite:
            return UpdateResult(
                "rejected", accepted=None, reason="a gradient or the batch is not finite"
            )
        natural = region.natural()[0]
        q = float(region.gradients[0] @ natural)
        factor = math.sqrt(2.0 * settings.delta / q) if q > 0.0 else 0.0

        def gains(trial: Trial) -> bool:
            return float(trial.change[0]) >= 0.0

        found = region.search(factor * natural, gains)
        if found is None:
            return UpdateResult(
                "rejected", accepted=None, reason="no step of the line search gained"
            )
        tries, trial = found
        gain, *rises = trial.change.tolist()
        lam = 1.0 / factor if factor else 0.0
        return UpdateResult("reward", trial.kl, gain, tuple(rises), lam, (0.0,) * len(rises), tries)

"""A step in the KL trust region around a policy, and its line search.

Schulman et al. 2015 (TRPO), appendix C. The algorithm chooses the direction of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from holdfast.errors import TrainingError
from holdfast.policy.models.gaussian import FisherMatrix, GaussianPolicy, kl
from holdfast.policy.sampling.samples import Samples, surrogate_gradients, surrogates
from holdfast.schema import NOT_NEGATIVE, POSITIVE, Range, check


@dataclass(frozen=True)
class StepSettings:
    """Size of a step in a trust region, and how it is computed.

    Attributes:
        delta: trust region, mean KL(old ‖ new) in nats, summed over action dimensions.
        damping: number added to the Fisher matrix's diagonal.
        cg_iterations: maximum number of conjugate-gradient iterations.
        fisher_rows: maximum number of samples in a Fisher product.
        backtrack: length of each step of the line search, as a share of the step before.
        backtracks: maximum number of steps of the line search.
    """

    delta: Annotated[float, POSITIVE] = 0.02
    damping: Annotated[float, NOT_NEGATIVE] = 0.1
    cg_iterations: Annotated[int, Range(1)] = 10
    fisher_rows: Annotated[int, Range(1)] = 4000
    backtrack: Annotated[float, POSITIVE] = 0.8
    backtracks: Annotated[int, Range(1)] = 12

    def __post_init__(self) -> None:
        check(self, TrainingError)


@dataclass(frozen=True)
class Trial:
    """A step of the line search: its KL(old ‖ new), and the change (1 + m,) of the surrogates."""

    kl: float
    change: Tensor


class TrustRegion:
    """Gradients at the present policy, and the metric that the KL divergence gives there.

    Args:
        policy: the policy, which `search` alone changes.
        samples: samples of a behaviour policy. count: number of gradients: the reward's, then the
            costs'.
    """

    def __init__(
        self, policy: GaussianPolicy, samples: Samples, count: int, settings: StepSettings
    ) -> None:
        self.policy, self.samples, self.settings = policy, samples, settings
        self.old = parameters_to_vector(policy.parameters()).detach().clone()
        self._log_std = policy.log_std.detach().clone()
        self.surrogates, self.gradients, self._mean = surrogate_gradients(policy, samples, count)

    @property
    def finite(self) -> bool:
        """Whether the batch, its surrogates and their gradients are finite."""
        sums = (self.gradients.sum(), self.surrogates.sum(), self.samples.x.sum())
        return all(bool(torch.isfinite(value)) for value in sums)

    def natural(self) -> Tensor:
        """Return H⁻¹ of each gradient, (count, P), H the Fisher matrix."""
        return conjugate_gradient(self.metric, self.gradients, self.settings.cg_iterations)

    @cached_property
    def metric(self) -> FisherMatrix:
        """H, the Fisher matrix at the policy before the search: ½ xᵀHx is a step's KL."""
        x = self.samples.x[self.samples.weight > 0]
        some = x[:: -(-len(x) // self.settings.fisher_rows)]
        return FisherMatrix(self.policy, some, self.settings.damping)

    def search(self, step: Tensor, accept: Callable[[Trial], bool]) -> tuple[int, Trial] | None:
        """Change the policy by the longest scaled-down step that is in the region and accepted.

        Returns:
            The number of failed trials and the accepted trial; None if none is accepted: then
            the parameters are unchanged. A trial with a NaN fails, as NaN fails every comparison.
        """
        for j in range(self.settings.backtracks):
            vector_to_parameters(self.old + self.settings.backtrack**j * step,
                                 self.policy.parameters())  # fmt: skip
            values, mean = surrogates(self.policy, self.samples)
            divergence = float(kl(self._mean, self._log_std, mean, self.policy.log_std.detach()))
            trial = Trial(divergence, values - self.surrogates)
            if divergence <= self.settings.delta and accept(trial):
                return j, trial
        vector_to_parameters(self.old, self.policy.parameters())
        return None


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Tensor, iterations: int, tolerance: float = 1e-10
) -> Tensor:
    """Return x with product(x) ≈ b, for k right-hand sides b (k, P) side by side.

    Hestenes & Stiefel 1952. The tolerance is the largest ‖residual‖²/‖b‖² of each solution.
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(-1, keepdim=True)

    x, residual = torch.zeros_like(b), b.clone()
    direction, square = residual.clone(), dot(residual, residual)
    stop = tolerance * square
    for _ in range(iterations):
        going = square > stop
        if not going.any():
            break
        image = product(direction)
        # A solution that has converged does not change any more.
        alpha = torch.where(going, square / dot(direction, image), 0.0)
        x += alpha * direction
        residual -= alpha * image
        following = dot(residual, residual)
        direction = torch.where(going, residual + (following / square) * direction, direction)
        square = torch.where(going, following, square)
    return x

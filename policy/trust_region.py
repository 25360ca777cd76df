"""The constrained trust-region step, solved exactly (Achiam et al. 2017, section 6 and appendix).

    maximise gᵀx   subject to   c + bᵀx ≤ 0,   ½ xᵀHx ≤ δ

Sign convention, used everywhere here: g is the gradient of what is *maximised*, b of the cost,
c the present excess of the cost over its limit in the same units as bᵀx.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor


class Case(str, Enum):
    """Which solution of the step was taken."""

    REWARD = "reward"  # the limit is not in the way: the unconstrained (TRPO) step
    BOUNDARY = "boundary"  # the limit binds: the step ends on it
    RECOVERY = "recovery"  # no step in the region meets the limit: lower the cost, nothing else
    NO_COST_GRADIENT = "no_cost_gradient"  # the limit is broken, and no direction changes the cost


@dataclass(frozen=True)
class Dual:
    """The optimum x = (H⁻¹g − ν H⁻¹b)/λ; in recovery x = −√(2δ/s) H⁻¹b and λ = 0."""

    case: Case
    reward_factor: float  # x = reward_factor · H⁻¹g + cost_factor · H⁻¹b
    cost_factor: float
    lam: float
    nu: float


def solve_dual(q: float, r: float, s: float, c: float, delta: float) -> Dual:
    """Solve the step from q = gᵀH⁻¹g, r = gᵀH⁻¹b, s = bᵀH⁻¹b.

    The problem is convex, so its optimum is the unconstrained one where that meets the limit,
    and otherwise lies on the limit: there the paper's λ_a = √((q − r²/s)/(2δ − c²/s)) and
    ν = (λc + r)/s > 0 hold. (With g ascending, r enters with a plus; the paper's own text
    minimises, where it is a minus. Mixing the two is the classic mistake.) No projection of λ
    onto intervals is needed, and so none can be done with crossed bounds.

    Raises:
        ValueError: an argument is not finite, q or s is negative, or delta is not positive.
    """
    if not all(map(math.isfinite, (q, r, s, c, delta))) or q < 0 or s < 0 or delta <= 0:
        raise ValueError(f"no such step: q={q}, r={r}, s={s}, c={c}, delta={delta}")
    tiny = 1e-14
    free = math.sqrt(2.0 * delta / q) if q > tiny else 0.0  # 1/λ of the unconstrained step
    if s <= tiny:
        case = Case.REWARD if c <= 0.0 else Case.NO_COST_GRADIENT
        return Dual(case, free, 0.0, 1.0 / free if free else 0.0, 0.0)
    if c > 0.0 and c * c >= 2.0 * delta * s:
        return Dual(Case.RECOVERY, 0.0, -math.sqrt(2.0 * delta / s), 0.0, 0.0)
    if c + free * r <= 0.0 or (c < 0.0 and c * c >= 2.0 * delta * s):
        return Dual(Case.REWARD, free, 0.0, 1.0 / free if free else 0.0, 0.0)
    along = q - r * r / s  # what of g is left along the limit; ≥ 0 by Cauchy-Schwarz
    room = 2.0 * delta - c * c / s
    if along <= tiny * q:
        return Dual(Case.BOUNDARY, 0.0, -c / s, 0.0, r / s)
    lam = math.sqrt(along / room)
    nu = (lam * c + r) / s
    return Dual(Case.BOUNDARY, 1.0 / lam, -nu / lam, lam, nu)


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Tensor, iterations: int, tolerance: float = 1e-10
) -> Tensor:
    """Return x with product(x) ≈ b (Hestenes & Stiefel 1952); tolerance is on ‖residual‖²/‖b‖²."""
    x, residual = torch.zeros_like(b), b.clone()
    direction, square = residual.clone(), residual @ residual
    stop = tolerance * square
    for _ in range(iterations):
        if square <= stop:
            break
        image = product(direction)
        alpha = square / (direction @ image)
        x += alpha * direction
        residual -= alpha * image
        following = residual @ residual
        direction = residual + (following / square) * direction
        square = following
    return x

"""The constrained trust-region step, solved exactly (Achiam et al. 2017, sections 5.3 and 6).

    maximise gᵀx   subject to   c_i + b_iᵀx ≤ 0,   ½ xᵀHx ≤ δ

Sign convention in this file: g is the gradient of the *maximised* objective, b_i the gradient of
the i-th cost, c_i the present excess of the i-th cost over its limit, in the units of b_iᵀx.

SciPy's NNLS solves the least-distance problem.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from holdfast.signals import Array

TINY = 1e-14
BISECTIONS = 40
NNLS_ITERATIONS = 100
LARGEST_WEIGHT = 1e6
"""Largest weight of a half-space in `_nearest`."""


class Case(str, Enum):
    """Kind of solution of the step."""

    REWARD = "reward"  # no limit binds: the unconstrained (TRPO) step
    BOUNDARY = "boundary"  # a limit binds: the step ends on its boundary
    RECOVERY = "recovery"  # no step in the region meets the limits: the step only lowers costs
    NO_COST_GRADIENT = "no_cost_gradient"  # a limit is broken, and no direction changes its cost


@dataclass(frozen=True)
class Dual:
    """The optimum x = (H⁻¹g − Σ ν_i H⁻¹b_i)/λ; in recovery x = −Σ w_i H⁻¹b_i and λ = 0.

    Attributes:
        reward_factor, cost_factors: x = reward_factor · H⁻¹g + Σ cost_factors_i · H⁻¹b_i.
        nu: (m,), a multiplier per limit.
    """

    case: Case
    reward_factor: float
    cost_factors: Array
    lam: float
    nu: Array


def solve_dual(q: float, r: Array, s: Array, c: Array, delta: float) -> Dual:
    """Solve the step for m limits.

    Args:
        q: gᵀH⁻¹g. r: (m,), gᵀH⁻¹b_i. s: (m, m), b_iᵀH⁻¹b_j. c: (m,). delta: δ.

    Raises:
        ValueError: an argument is not finite, q or some s_ii is negative, or delta not positive;
            or rounding keeps the solver from an end.
    """
    finite = all(np.isfinite(value).all() for value in (q, r, s, c, delta))
    if not finite or q < 0 or (s.diagonal() < 0).any() or delta <= 0:
        raise ValueError(f"no such step: q={q}, r={r}, s={s}, c={c}, delta={delta}")
    # A cost that no direction changes does not constrain the direction.
    moved = s.diagonal() > TINY
    stuck = bool((c[~moved] > 0.0).any())
    part = np.ix_(moved, moved)
    if moved.sum() == 1:
        dual = _one(q, float(r[moved][0]), float(s[part][0, 0]), float(c[moved][0]), delta)
    else:
        dual = _several(q, r[moved], s[part], c[moved], delta)
    factors, nu = np.zeros((2, len(c)))
    factors[moved], nu[moved] = dual.cost_factors, dual.nu
    case = Case.NO_COST_GRADIENT if stuck and dual.case is Case.REWARD else dual.case
    return Dual(case, dual.reward_factor, factors, dual.lam, nu)


def _free(q: float, m: int, delta: float) -> Dual:
    """The unconstrained step, √(2δ/q) H⁻¹g."""
    factor = math.sqrt(2.0 * delta / q) if q > TINY else 0.0
    return Dual(Case.REWARD, factor, np.zeros(m), 1.0 / factor if factor else 0.0, np.zeros(m))


def _one(q: float, r: float, s: float, c: float, delta: float) -> Dual:
    """Solve the step for one limit, in closed form.

    The problem is convex. So the optimum is the unconstrained step, if this step meets the limit;
    otherwise the optimum lies on the limit, where the paper's λ_a = √((q − r²/s)/(2δ − c²/s)) and
    ν = (λc + r)/s > 0 hold. (Here g ascends, so r has a plus sign; the paper's text minimises, so
    r has a minus sign there. Mixing the two is the classic mistake.) The paper projects λ onto
    intervals; this is not needed here, and so no interval can have crossed bounds.
    """

    def dual(case: Case, reward: float, cost: float, lam: float, nu: float) -> Dual:
        return Dual(case, reward, np.array([cost]), lam, np.array([nu]))

    free = _free(q, 1, delta)
    if c > 0.0 and c * c >= 2.0 * delta * s:
        return dual(Case.RECOVERY, 0.0, -math.sqrt(2.0 * delta / s), 0.0, 0.0)
    if c + free.reward_factor * r <= 0.0 or (c < 0.0 and c * c >= 2.0 * delta * s):
        return free
    along = q - r * r / s  # squared length of g along the limit; ≥ 0 by Cauchy-Schwarz
    room = 2.0 * delta - c * c / s
    if along <= TINY * q:
        return dual(Case.BOUNDARY, 0.0, -c / s, 0.0, r / s)
    lam = math.sqrt(along / room)
    nu = (lam * c + r) / s
    return dual(Case.BOUNDARY, 1.0 / lam, -nu / lam, lam, nu)


def _several(q: float, r: Array, s: Array, c: Array, delta: float) -> Dual:
    """Solve the step for any number of limits.

    In coordinates where H is the identity and the region is the unit ball, each limit is a
    half-space at a signed distance from the origin. The shortest step that gains at least v is a
    least-distance problem, which `_nearest` solves exactly. The step's length grows with v, and
    bisection finds the v at which the step reaches the ball's surface. If no point of the ball
    lies in all half-spaces, bisection finds the point whose largest distance from a half-space
    is smallest; for one limit this is the paper's recovery.
    """
    m = len(c)
    scale, radius = np.sqrt(s.diagonal()), math.sqrt(2.0 * delta)
    free = _free(q, m, delta)
    if (c + free.reward_factor * r <= 0.0).all():
        return free
    reward = math.sqrt(q) if free.reward_factor else 1.0
    gram = np.block([[np.array([[q]]), r[None]], [r[:, None], (s + s.T) / 2.0]])
    unit = np.concatenate(([reward], scale))
    points = _points(gram / np.outer(unit, unit))
    g, normals, depth = points[0], points[1:], -c / (scale * radius)

    def within(slack: float) -> Array | None:
        return _nearest(normals, depth + slack)

    if within(0.0) is None:
        weights = _last(within, float(-depth.min()), 0.0)
        return Dual(Case.RECOVERY, 0.0, -weights * radius / scale, 0.0, np.zeros(m))

    def gaining(gain: float) -> Array | None:
        return _nearest(np.vstack((normals, -g)), np.append(depth, -gain))

    *weights, w = _last(gaining, -1.0, 1.0) * radius / np.append(scale, reward)
    lam = 1.0 / w if w > TINY else 0.0
    return Dual(Case.BOUNDARY, w, -np.array(weights), lam, lam * np.array(weights))


def _points(gram: Array) -> Array:
    """Return points (k, k), one per row, whose inner products are `gram` (k, k)."""
    values, vectors = np.linalg.eigh(gram)
    points: Array = vectors * np.sqrt(np.maximum(values, 0.0))
    return points


def _last(solve: Callable[[float], Array | None], good: float, bad: float) -> Array:
    """Return the solution nearest to `bad`, by bisection; at `good` a solution exists."""
    solution = solve(good)
    assert solution is not None
    for _ in range(BISECTIONS):
        middle = (good + bad) / 2.0
        found = solve(middle)
        if found is None:
            bad = middle
        else:
            good, solution = middle, found
    return solution


def _nearest(normals: Array, depth: Array) -> Array | None:
    """Return the point y of the half-spaces {y: Ny ≤ depth} nearest to the origin.

    The result is the weights w ≥ 0 (m,) of y = −Nᵀw; None if no such point is in the unit ball.

    A least-distance problem (Lawson & Hanson 1974, chapter 23): let E = (−N, −depth)ᵀ, e the last
    unit vector, and u ≥ 0 the minimum of ‖Eu − e‖. The last value of e − Eu is 1/(1 + ‖y‖²), and
    w is u divided by this value.
    """
    from scipy.optimize import nnls  # takes 0.3 s, and one limit does not need it

    matrix = np.vstack((-normals.T, -depth))
    length = np.maximum(np.linalg.norm(matrix, axis=0), TINY)
    target = np.zeros(len(matrix))
    target[-1] = 1.0
    try:
        u = nnls(matrix / length, target, maxiter=NNLS_ITERATIONS)[0] / length
    except RuntimeError:
        raise ValueError(
            f"the step's problem is not solved after {NNLS_ITERATIONS} iterations of NNLS"
        ) from None
    last = 1.0 - matrix[-1] @ u
    # Very large weights belong to half-spaces that nearly exclude each other: the remaining gain
    # is smaller than the rounding error.
    return u / last if last >= 0.5 and u.max() <= LARGEST_WEIGHT else None

"""The step against an independent solver, and the classic wrong turns."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from holdfast.policy.trust_region import Case, conjugate_gradient, solve_dual


def random_problem(rng, dimension, kind):
    """Return H, g, b, c, δ, scaled so that `kind` is likely; the solver decides what it is."""
    root = rng.normal(size=(dimension, dimension))
    h = root @ root.T / dimension + 0.05 * np.eye(dimension)
    g, b = rng.normal(size=(2, dimension)) * np.exp(rng.uniform(-3, 3, (2, 1)))
    if kind == "parallel":
        b = g * rng.choice([-1.0, 1.0]) * rng.uniform(0.1, 10.0)
    delta = math.exp(rng.uniform(-6, 0))
    reach = math.sqrt(2 * delta * (b @ np.linalg.solve(h, b)))  # max |bᵀx| in the region
    low, high = {
        "inside": (-3.0, -1.01),
        "near": (-0.99, 0.0),
        "above": (0.0, 0.99),
        "infeasible": (1.01, 3.0),
        "parallel": (-0.99, 0.99),
    }[kind]
    return h, g, b, reach * rng.uniform(low, high), delta


def exact_value(h, g, b, c, delta):
    """Return max gᵀx by the dual over ν alone, independent of the closed form.

    For fixed ν ≥ 0 the inner maximum over the ball is √(2δ (g − νb)ᵀH⁻¹(g − νb)) − νc, convex
    in ν; the outer minimum is found numerically.
    """
    inverse = np.linalg.inv(h)

    def dual(nu):
        w = g - nu * b
        return math.sqrt(max(2 * delta * (w @ inverse @ w), 0.0)) - nu * c

    top = 1.0
    while dual(2 * top) < dual(top) and top < 1e12:
        top *= 2
    result = minimize_scalar(
        dual, bounds=(0.0, 2 * top), method="bounded", options={"xatol": 1e-12}
    )
    return min(result.fun, dual(0.0))


@pytest.mark.parametrize("kind", ["inside", "near", "above", "infeasible", "parallel"])
def test_against_independent_solver(kind):
    rng = np.random.default_rng(7)
    cases = set()
    for _ in range(1000):
        h, g, b, c, delta = random_problem(rng, int(rng.integers(2, 12)), kind)
        hg, hb = np.linalg.solve(h, g), np.linalg.solve(h, b)
        q, r, s = g @ hg, g @ hb, b @ hb
        dual = solve_dual(q, r, s, c, delta)
        cases.add(dual.case)
        x = dual.reward_factor * hg + dual.cost_factor * hb
        scale = math.sqrt(2 * delta * q)
        assert 0.5 * x @ h @ x <= delta * (1 + 1e-9)
        if dual.case is Case.RECOVERY:
            # The least cost in the region: −√(2δs), by Cauchy-Schwarz.
            assert b @ x == pytest.approx(-math.sqrt(2 * delta * s), rel=1e-6)
            assert c + b @ x > 0.0
            continue
        assert c + b @ x <= 1e-9 * max(abs(c), math.sqrt(2 * delta * s))
        assert g @ x == pytest.approx(exact_value(h, g, b, c, delta), rel=1e-6, abs=1e-6 * scale)
        assert dual.nu >= 0.0
        if dual.lam > 0.0:  # stationarity: λHx = g − νb
            np.testing.assert_allclose(
                dual.lam * (h @ x), g - dual.nu * b, atol=1e-7 * scale + 1e-9
            )
    expected = {
        "inside": {Case.REWARD},
        "near": {Case.REWARD, Case.BOUNDARY},
        "above": {Case.REWARD, Case.BOUNDARY},
        "infeasible": {Case.RECOVERY},
        "parallel": {Case.REWARD, Case.BOUNDARY},
    }[kind]
    assert cases == expected


def test_wrong_sign_of_r_would_be_seen():
    """Hand-computed: H = I, g = (1, 0), b = (1, 1), c = 0, δ = ½: the step runs along (1, −1)."""
    dual = solve_dual(1.0, 1.0, 2.0, 0.0, 0.5)
    assert dual.case is Case.BOUNDARY
    x = dual.reward_factor * np.array([1.0, 0.0]) + dual.cost_factor * np.array([1.0, 1.0])
    np.testing.assert_allclose(x, np.array([1.0, -1.0]) / math.sqrt(2.0), atol=1e-12)
    assert dual.nu == pytest.approx(0.5)  # ((λc + r)/s)₊; with the descent sign it would be 0


def test_crossed_bounds():
    """c < 0 and r > 0: the paper's interval for λ_a is [0, −r/c); a clamp with crossed bounds
    lands on its wrong end. Hand-computed: the free step is (1, 0), and it breaks the limit."""
    dual = solve_dual(1.0, 1.0, 1.25, -0.5, 0.5)  # b = (1, ½)
    x = dual.reward_factor * np.array([1.0, 0.0]) + dual.cost_factor * np.array([1.0, 0.5])
    assert dual.case is Case.BOUNDARY
    assert -0.5 + x @ np.array([1.0, 0.5]) == pytest.approx(0.0, abs=1e-12)
    assert x @ x == pytest.approx(1.0)
    # The intersection of x₁ + x₂/2 = ½ with the unit circle that has the larger x₁: (1, −1)
    # scaled onto it solves 1.25x₂² − 0.5x₂ − 0.75 = 0, x₂ = −0.6.
    np.testing.assert_allclose(x, [0.8, -0.6], atol=1e-12)


def test_no_cost_gradient():
    assert solve_dual(1.0, 0.0, 0.0, -1.0, 0.5).case is Case.REWARD
    assert solve_dual(1.0, 0.0, 0.0, 1.0, 0.5).case is Case.NO_COST_GRADIENT


def test_no_reward_gradient():
    dual = solve_dual(0.0, 0.0, 1.0, -0.1, 0.5)
    assert (dual.reward_factor, dual.cost_factor) == (0.0, 0.0)
    dual = solve_dual(0.0, 0.0, 1.0, 0.1, 0.5)
    assert dual.cost_factor == pytest.approx(-0.1)  # just enough to meet the limit


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(5))
def test_non_finite_is_refused(bad, place):
    arguments = [1.0, 0.5, 1.0, 0.1, 0.01]
    arguments[place] = bad
    with pytest.raises(ValueError, match="no such step"):
        solve_dual(*arguments)


def test_conjugate_gradient_solves():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(20, 20, generator=generator, dtype=torch.float64)
    matrix = root @ root.T + torch.eye(20, dtype=torch.float64)
    b = torch.randn(20, generator=generator, dtype=torch.float64)
    x = conjugate_gradient(lambda v: matrix @ v, b, iterations=60, tolerance=1e-24)
    torch.testing.assert_close(matrix @ x, b, rtol=1e-9, atol=1e-9)


def test_conjugate_gradient_of_zero_is_zero():
    assert not conjugate_gradient(lambda v: v, torch.zeros(3), 10).any()

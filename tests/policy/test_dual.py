"""The step against an independent solver, and the classic wrong turns."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from holdfast.policy.optimise import dual as dual_module
from holdfast.policy.optimise.dual import Case, Dual, solve_dual


def solve_one(q: float, r: float, s: float, c: float, delta: float) -> Dual:
    """The step for one limit, its parts as numbers."""
    return solve_dual(q, np.array([r]), np.array([[s]]), np.array([c]), delta)


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
        dual = solve_one(q, r, s, c, delta)
        cases.add(dual.case)
        x = dual.reward_factor * hg + dual.cost_factors[0] * hb
        scale = math.sqrt(2 * delta * q)
        assert 0.5 * x @ h @ x <= delta * (1 + 1e-9)
        if dual.case is Case.RECOVERY:
            # The least cost in the region: −√(2δs), by Cauchy-Schwarz.
            assert b @ x == pytest.approx(-math.sqrt(2 * delta * s), rel=1e-6)
            assert c + b @ x > 0.0
            continue
        assert c + b @ x <= 1e-9 * max(abs(c), math.sqrt(2 * delta * s))
        assert g @ x == pytest.approx(exact_value(h, g, b, c, delta), rel=1e-6, abs=1e-6 * scale)
        assert dual.nu[0] >= 0.0
        if dual.lam > 0.0:  # stationarity: λHx = g − νb
            np.testing.assert_allclose(
                dual.lam * (h @ x), g - dual.nu[0] * b, atol=1e-7 * scale + 1e-9
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
    dual = solve_one(1.0, 1.0, 2.0, 0.0, 0.5)
    assert dual.case is Case.BOUNDARY
    x = dual.reward_factor * np.array([1.0, 0.0]) + dual.cost_factors[0] * np.array([1.0, 1.0])
    np.testing.assert_allclose(x, np.array([1.0, -1.0]) / math.sqrt(2.0), atol=1e-12)
    assert dual.nu[0] == pytest.approx(0.5)  # ((λc + r)/s)₊; with the descent sign it would be 0


def test_crossed_bounds():
    """c < 0 and r > 0: the paper's interval for λ_a is [0, −r/c); a clamp with crossed bounds
    lands on its wrong end. Hand-computed: the free step is (1, 0), and it breaks the limit."""
    dual = solve_one(1.0, 1.0, 1.25, -0.5, 0.5)  # b = (1, ½)
    x = dual.reward_factor * np.array([1.0, 0.0]) + dual.cost_factors[0] * np.array([1.0, 0.5])
    assert dual.case is Case.BOUNDARY
    assert -0.5 + x @ np.array([1.0, 0.5]) == pytest.approx(0.0, abs=1e-12)
    assert x @ x == pytest.approx(1.0)
    # The intersection of x₁ + x₂/2 = ½ with the unit circle that has the larger x₁: (1, −1)
    # scaled onto it solves 1.25x₂² − 0.5x₂ − 0.75 = 0, x₂ = −0.6.
    np.testing.assert_allclose(x, [0.8, -0.6], atol=1e-12)


def test_no_cost_gradient():
    assert solve_one(1.0, 0.0, 0.0, -1.0, 0.5).case is Case.REWARD
    assert solve_one(1.0, 0.0, 0.0, 1.0, 0.5).case is Case.NO_COST_GRADIENT


def test_no_reward_gradient():
    dual = solve_one(0.0, 0.0, 1.0, -0.1, 0.5)
    assert (dual.reward_factor, dual.cost_factors[0]) == (0.0, 0.0)
    dual = solve_one(0.0, 0.0, 1.0, 0.1, 0.5)
    assert dual.cost_factors[0] == pytest.approx(-0.1)  # just enough to meet the limit


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(5))
def test_non_finite_is_refused(bad, place):
    arguments = [1.0, 0.5, 1.0, 0.1, 0.01]
    arguments[place] = bad
    with pytest.raises(ValueError, match="no such step"):
        solve_one(*arguments)


# Several limits.

RANDOM = 400


def several(rng, kind):
    """Return H, g, B (m, n), c (m,), δ of a problem of some kind of degeneracy."""
    n, m = int(rng.integers(2, 9)), int(rng.integers(2, 6))
    root = rng.normal(size=(n, n))
    h = root @ root.T / n + 0.05 * np.eye(n)
    g = rng.normal(size=n) * np.exp(rng.uniform(-3, 3))
    b = rng.normal(size=(m, n)) * np.exp(rng.uniform(-3, 3, (m, 1)))
    if kind == "twice the same":
        b[1] = b[0] * rng.uniform(0.1, 10.0)
    elif kind == "opposed":
        b[1] = -b[0] * rng.uniform(0.1, 10.0)
    elif kind == "along the reward":
        b[0] = g * rng.choice([-1.0, 1.0]) * rng.uniform(0.1, 10.0)
    elif kind == "no gradient":
        b[0] = 0.0
    delta = math.exp(rng.uniform(-6, 0))
    reach = np.sqrt(2 * delta * np.einsum("ij,jk,ik->i", b, np.linalg.inv(h), b))
    low, high = [(-1.5, 0.5), (-0.5, 0.8), (-1.0, 0.2)][rng.integers(3)]
    return h, g, b, reach * rng.uniform(low, high, m), delta


def general(gain, limits, slopes):
    """Return the most that SLSQP finds of gain·y in the unit ball under limits + slopes·y ≤ 0, or
    None where it finds no point that meets them."""
    n = len(gain)
    for start in (np.zeros(n), 0.3 * np.random.default_rng(0).normal(size=n)):
        found = minimize(
            lambda y: -gain @ y,
            start,
            jac=lambda y: -gain,
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-13},
            constraints=[
                {"type": "ineq", "fun": lambda y: -limits - slopes @ y, "jac": lambda y: -slopes},
                {"type": "ineq", "fun": lambda y: 1.0 - y @ y, "jac": lambda y: -2.0 * y},
            ],
        )
        worst = max((limits + slopes @ found.x).max(initial=-1.0), found.x @ found.x - 1.0)
        if worst < 1e-7:
            return -found.fun
    return None


KINDS = ("general", "twice the same", "opposed", "along the reward", "no gradient")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_several_limits_against_a_general_solver(kind):
    """In coordinates where the region is the unit ball, so that the solver is well scaled."""
    rng = np.random.default_rng(KINDS.index(kind))
    cases = set()
    for _ in range(RANDOM):
        h, g, b, c, delta = several(rng, kind)
        hg, hb = np.linalg.solve(h, g), np.linalg.solve(h, b.T)
        dual = solve_dual(g @ hg, b @ hg, b @ hb, c, delta)
        x = dual.reward_factor * hg + hb @ dual.cost_factors
        assert 0.5 * x @ h @ x <= delta * (1 + 1e-9)
        reach = np.sqrt(2 * delta * np.maximum((b @ hb).diagonal(), 0.0))
        moved = reach > 0.0
        excess = ((c + b @ x)[moved] / reach[moved]).max()
        to_x = math.sqrt(2 * delta) * np.linalg.inv(np.linalg.cholesky(h)).T
        limits, slopes = c[moved] / reach[moved], b[moved] @ to_x / reach[moved][:, None]
        gain = g @ to_x / math.sqrt(2 * delta * (g @ hg))
        best = general(gain, limits, slopes)
        cases.add(dual.case)
        if dual.case is Case.RECOVERY:
            assert best is None
            # The least of the greatest excess, which SLSQP finds with one variable more.
            assert excess > 0.0
            assert excess == pytest.approx(least_excess(limits, slopes), abs=1e-6)
            continue
        assert best is not None
        assert excess <= 1e-7
        assert g @ x / math.sqrt(2 * delta * (g @ hg)) == pytest.approx(best, abs=1e-6)
        if dual.case is Case.BOUNDARY and dual.lam > 0.0:  # λHx = g − Σ ν_i b_i
            scale = math.sqrt(g @ hg)
            residual = np.linalg.solve(np.linalg.cholesky(h), dual.lam * (h @ x) - g + dual.nu @ b)
            assert np.linalg.norm(residual) <= 1e-6 * scale
            assert (dual.nu >= 0.0).all()
    assert {Case.BOUNDARY, Case.RECOVERY} <= cases


def least_excess(limits, slopes):
    """Return min over the unit ball of max_i (limits + slopes·y)_i."""
    n = slopes.shape[1]
    start = np.append(np.zeros(n), limits.max())
    last = np.append(np.zeros(n), 1.0)
    found = minimize(
        lambda y: y[-1],
        start,
        jac=lambda y: last,
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-13},
        constraints=[
            {
                "type": "ineq",
                "fun": lambda y: y[-1] - limits - slopes @ y[:-1],
                "jac": lambda y: np.hstack((-slopes, np.ones((len(limits), 1)))),
            },
            {
                "type": "ineq",
                "fun": lambda y: 1.0 - y[:-1] @ y[:-1],
                "jac": lambda y: np.append(-2.0 * y[:-1], 0.0),
            },
        ],
    )
    return found.fun


def test_one_limit_and_another_that_is_far_are_the_closed_form():
    """A second limit that nothing in the region can reach changes nothing."""
    rng = np.random.default_rng(3)
    for kind in ("near", "above", "infeasible"):
        for _ in range(50):
            h, g, b, c, delta = random_problem(rng, 5, kind)
            far = rng.normal(size=5)
            both = np.stack((b, far))
            hg, hb = np.linalg.solve(h, g), np.linalg.solve(h, both.T)
            out_of_reach = -2.0 * math.sqrt(2 * delta * (far @ hb[:, 1]))
            one = solve_one(g @ hg, b @ hg, b @ hb[:, 0], c, delta)
            two = solve_dual(g @ hg, both @ hg, both @ hb, np.array([c, out_of_reach]), delta)
            assert two.case is one.case
            x = one.reward_factor * hg + one.cost_factors[0] * hb[:, 0]
            y = two.reward_factor * hg + hb @ two.cost_factors
            np.testing.assert_allclose(y, x, atol=1e-6 * np.linalg.norm(x))
            assert two.nu[1] == 0.0


def test_two_limits_by_hand():
    """H = I, δ = ½: reward along (1, 1), x₁ ≤ 0.6 and x₂ ≤ 0: the step is (0.6, 0)."""
    dual = solve_dual(2.0, np.array([1.0, 1.0]), np.eye(2), np.array([-0.6, 0.0]), 0.5)
    assert dual.case is Case.BOUNDARY
    x = dual.reward_factor * np.ones(2) + dual.cost_factors
    np.testing.assert_allclose(x, [0.6, 0.0], atol=1e-9)


def test_recovery_from_two_limits_by_hand():
    """x₁ ≤ −3 and x₂ ≤ −3 in the unit ball: nearest to both is −(1, 1)/√2, whatever the reward."""
    dual = solve_dual(1.0, np.array([1.0, 0.0]), np.eye(2), np.array([3.0, 3.0]), 0.5)
    assert dual.case is Case.RECOVERY
    assert dual.reward_factor == 0.0
    np.testing.assert_allclose(dual.cost_factors, [-math.sqrt(0.5)] * 2, atol=1e-9)


def test_recovery_turns_to_the_limit_that_is_broken_most():
    """Of opposed limits, x₁ ≤ −2 and −x₁ ≤ −5, no step meets both: it goes where both are missed
    by the same, as far as the region lets it."""
    s = np.array([[1.0, -1.0], [-1.0, 1.0]])
    dual = solve_dual(1.0, np.zeros(2), s, np.array([2.0, 5.0]), 0.5)
    assert dual.case is Case.RECOVERY
    x = dual.cost_factors @ np.array([1.0, -1.0])
    assert x == pytest.approx(1.0)


def test_a_limit_that_nothing_changes_leaves_the_others_in_force():
    s = np.diag([0.0, 1.0])
    dual = solve_dual(1.0, np.array([0.0, 1.0]), s, np.array([1.0, 0.0]), 0.5)
    assert dual.case is Case.BOUNDARY
    assert dual.cost_factors[0] == 0.0
    dual = solve_dual(1.0, np.array([0.0, -1.0]), s, np.array([1.0, 0.0]), 0.5)
    assert dual.case is Case.NO_COST_GRADIENT


def test_no_limit_is_the_free_step():
    dual = solve_dual(4.0, np.zeros(0), np.zeros((0, 0)), np.zeros(0), 0.5)
    assert (dual.case, dual.reward_factor) == (Case.REWARD, 0.5)


def test_a_solver_that_finds_no_end_is_told_in_a_sentence(monkeypatch):
    monkeypatch.setattr(dual_module, "NNLS_ITERATIONS", 1)
    with pytest.raises(ValueError, match="is not solved after 1 iterations of NNLS"):
        solve_dual(2.0, np.array([1.0, 1.0]), np.eye(2), np.array([-0.6, 0.0]), 0.5)

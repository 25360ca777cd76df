"""Whether run B is better than run A: a test that is chosen before the runs are seen.

Each quantity of an episode (its reward return, each cost, and whether it was cut short) is tested
by a two-sided permutation test of the difference of means, studentised, so that it holds for long
runs of unequal spread too (Janssen 1997; Chung and Romano 2013); short ones of unequal spread
are called different too often (benchmarks/comparisons.py). P-values are adjusted by Holm
(1979) over the quantities. B is better if a quantity is better with an adjusted p below ALPHA and
none is worse.

An episode that was cut short has neither paid all its cost nor earned all its return. In a test of
whether a run is the better one, its own such episodes count with their whole episode cap, and with
the lowest return of both runs; those of the other run count as they were logged. So a run never
looks better for having been stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from holdfast.errors import LogError
from holdfast.log.format import titled
from holdfast.plain import counted
from holdfast.robot.view.results import Results
from holdfast.signals import Array

ALPHA = 0.05
POWER = 0.8
PERMUTATIONS = 20_000
LEAST_EPISODES = 2

BETTER, WORSE, OPEN = "better", "worse", "no evidence"


@dataclass(frozen=True)
class Tested:
    """One quantity of the comparison.

    Attributes:
        name: of the quantity.
        mean_a, mean_b: as logged, per episode.
        p: adjusted p-value, two-sided.
        verdict: of B: BETTER, WORSE or OPEN.
        needed: episodes of each run that show a difference as large as the one seen with
            probability `POWER`; None where none was seen.
        detectable: smallest difference that these many episodes show with probability `POWER`.
    """

    name: str
    mean_a: float
    mean_b: float
    p: float
    verdict: str
    needed: int | None
    detectable: float


def compare(a: Results, b: Results) -> list[Tested]:
    """Test every quantity that both runs have.

    Raises:
        LogError: the runs have different contracts, or too few episodes.
    """
    if a.log.info.contract.hash != b.log.info.contract.hash:
        raise LogError(
            f"{a.log.path} and {b.log.path} should have one contract to be compared: theirs are "
            f"{titled(a.log.info.contract)} and {titled(b.log.info.contract)}"
        )
    for run in (a, b):
        if len(run) < LEAST_EPISODES:
            raise LogError(
                f"{run.log.path}: should hold at least {LEAST_EPISODES} episodes to be compared, "
                f"received {len(run)}"
            )
        if not np.isfinite(run.costs).all():
            raise LogError(f"{run.log.path}: costs should be finite to be compared")
    quantities = [_cut_short(a, b), *(_cost(a, b, k) for k in range(a.costs.shape[1]))]
    if a.returns is not None and b.returns is not None:
        quantities.insert(0, _return(a, b, a.returns, b.returns))
    sides = [(each.p_that_a_is_better(), each.p_that_b_is_better()) for each in quantities]
    adjusted = holm([min(1.0, 2.0 * min(each)) for each in sides])
    return [
        _tested(quantity, side, p, len(quantities))
        for quantity, side, p in zip(quantities, sides, adjusted, strict=True)
    ]


@dataclass(frozen=True)
class _Quantity:
    """A quantity of the episodes of both runs, counted so that more is better.

    Attributes:
        sign: -1 where less of it is better: its values are negated.
        a, b: as logged. least_a, least_b: the least that each episode may have come to.
    """

    name: str
    sign: int
    a: Array
    b: Array
    least_a: Array
    least_b: Array

    def p_that_b_is_better(self) -> float:
        return permutation_p(self.a, self.least_b)

    def p_that_a_is_better(self) -> float:
        return permutation_p(self.b, self.least_a)


def _cut_short(a: Results, b: Results) -> _Quantity:
    values = [-(~run.whole).astype(np.float64) for run in (a, b)]
    return _Quantity("share of episodes cut short", -1, *values, *values)


def _cost(a: Results, b: Results, k: int) -> _Quantity:
    logged = (-run.costs[:, k] for run in (a, b))
    worst = (-run.worst_costs[:, k] for run in (a, b))
    return _Quantity(a.log.info.contract.costs[k].name, -1, *logged, *worst)


def _return(a: Results, b: Results, earned_a: Array, earned_b: Array) -> _Quantity:
    lowest = min(earned_a.min(), earned_b.min())
    least = (np.where(run.whole, x, lowest) for run, x in ((a, earned_a), (b, earned_b)))
    return _Quantity("reward return", 1, earned_a, earned_b, *least)


def _tested(quantity: _Quantity, sides: tuple[float, float], p: float, tests: int) -> Tested:
    verdict = OPEN
    if p < ALPHA:
        verdict = BETTER if sides[1] < sides[0] else WORSE
    needed, detectable = planned(quantity.a, quantity.b, ALPHA / tests)
    mean_a, mean_b = (float(quantity.sign * each.mean()) for each in (quantity.a, quantity.b))
    return Tested(quantity.name, mean_a, mean_b, p, verdict, needed, detectable)


def permutation_p(a: Array, b: Array, seed: int = 0) -> float:
    """Return the p-value of "the mean of b is above that of a", by permutation.

    Args:
        a, b: values of the episodes of two runs, shapes (n,) and (m,).
    """
    rng = np.random.default_rng(seed)
    both, count = np.concatenate((a, b)), len(a)
    seen = _student(a[None], b[None])[0]
    reached = 0
    for _ in range(0, PERMUTATIONS, 1000):
        mixed = rng.permuted(np.broadcast_to(both, (1000, len(both))), axis=1)
        reached += int((_student(mixed[:, :count], mixed[:, count:]) >= seen - 1e-9).sum())
    return (1 + reached) / (1 + PERMUTATIONS)


def _student(a: Array, b: Array) -> Array:
    """Return Welch's statistic of mean b - mean a, per row."""
    difference = b.mean(axis=1) - a.mean(axis=1)
    spread = np.sqrt(a.var(axis=1, ddof=1) / a.shape[1] + b.var(axis=1, ddof=1) / b.shape[1])
    ratio: Array = np.where(difference == 0.0, 0.0, np.copysign(np.inf, difference))
    np.divide(difference, spread, out=ratio, where=spread > 0.0)
    return ratio


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm (1979), in the given order."""
    adjusted, most = [0.0] * len(p_values), 0.0
    for rank, k in enumerate(np.argsort(p_values, kind="stable").tolist()):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[k]))
        adjusted[k] = most
    return adjusted


def planned(a: Array, b: Array, alpha: float) -> tuple[int | None, float]:
    """Return the episodes of each run that are needed, and the difference that can be seen.

    Two-sided, by the normal approximation, with the spreads and the difference that were seen.
    """
    factor = NormalDist().inv_cdf(1.0 - alpha / 2.0) + NormalDist().inv_cdf(POWER)
    difference = abs(float(b.mean() - a.mean()))
    spread = float(a.var(ddof=1) + b.var(ddof=1))
    detectable = factor * math.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    if difference == 0.0:
        return None, detectable
    return max(math.ceil(factor**2 * spread / difference**2), LEAST_EPISODES), detectable


def answer(tested: Sequence[Tested], a: str, b: str) -> str:
    """Return whether B is better, as a sentence."""
    better = [each.name for each in tested if each.verdict == BETTER]
    worse = [each.name for each in tested if each.verdict == WORSE]
    if better and not worse:
        return f"{b} is better than {a} in {' and '.join(better)}, and evidently worse in nothing."
    if worse and not better:
        return f"{b} is worse than {a} in {' and '.join(worse)}, and evidently better in nothing."
    if better:
        return (
            f"{b} is neither better nor worse than {a}: better in {' and '.join(better)}, worse in "
            f"{' and '.join(worse)}."
        )
    needed = [each.needed for each in tested if each.needed is not None]
    plan = (
        f" At least {counted(min(needed), 'episode')} of each run would be needed to show a "
        "difference as large as one of those seen."
        if needed
        else " No difference was seen at all."
    )
    return f"It is not evident that {b} is better or worse than {a}.{plan}"


METHOD = (
    "Test, chosen beforehand: for each quantity a two-sided studentised permutation test of the "
    f"difference of means over episodes ({PERMUTATIONS} permutations, seed 0), adjusted by Holm; "
    f"evident below p = {ALPHA}. In a test of whether a run is the better one, its episodes that "
    "were cut short count with their whole episode cap and with the lowest return of both runs. "
    "With the number of episodes needed, of each run, a difference as large as the one seen is "
    f"evident with a probability of {POWER:.0%}. The detectable difference is evident with this "
    "probability after the present episodes. The test takes the episodes of a run as "
    "exchangeable: it does not account for a robot that changes during a run, or for start places "
    "that differ between the runs."
)


def table(tested: Sequence[Tested], a: str, b: str) -> list[tuple[str, ...]]:
    """Return the comparison as a table's rows, the head first."""
    head = ("quantity", a, b, "p", f"{b} is", "episodes needed", "detectable difference")
    return [
        head,
        *(
            (
                each.name,
                f"{each.mean_a + 0.0:.4g}",  # + 0.0: no -0
                f"{each.mean_b + 0.0:.4g}",
                f"{each.p:.3g}",
                each.verdict,
                "-" if each.needed is None else str(each.needed),
                f"{each.detectable:.3g}",
            )
            for each in tested
        ),
    ]

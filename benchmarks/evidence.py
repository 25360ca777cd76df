"""How soon and how wrongly the evidence over episodes speaks, beside three other tests.

    python benchmarks/evidence.py --out docs/EVIDENCE.md

Everything is seeded; a run takes about a minute on one core. With the `ville` package
installed, its betting confidence sequence is compared too (on fewer runs: it is slower).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import optimize, stats

from holdfast.safety_monitor.evidence import FRACTIONS, EProcess

LIMIT = 10.0
RUN_BUDGET = 3.0 * LIMIT
SHARE = LIMIT / RUN_BUDGET
ALPHA = 0.05
CAP_HIT_RATE = 0.05
RUNS = 4000
EPISODES = 300
NEVER = EPISODES + 1

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


# Costs per episode, capped by the run budget; scaled so that the capped mean is exactly so much.


def capped_mean(distribution) -> float:
    """Return the exact mean of min(cost, run budget) of a distribution over whole numbers."""
    below = np.arange(int(RUN_BUDGET))
    return float((distribution.pmf(below) * below).sum() + distribution.sf(below[-1]) * RUN_BUDGET)


def counts(family: Callable[[float], object], mean: float) -> Draw:
    """Return draws of a family of counts, by their uncapped mean, whose capped mean is `mean`."""
    found = optimize.brentq(lambda m: capped_mean(family(m)) - mean, 1e-6, 1e4, xtol=1e-12)
    distribution = family(found)
    return lambda rng, shape: np.minimum(distribution.ppf(rng.uniform(size=shape)), RUN_BUDGET)


def negative_binomial(shape: float) -> Callable[[float], object]:
    """Over-dispersed counts: variance is mean + mean^2 / shape."""
    return lambda mean: stats.nbinom(shape, shape / (shape + mean))


def all_or_nothing(mean: float) -> Draw:
    """An episode costs the run budget, or nothing: the most variance that there can be."""
    return lambda rng, shape: RUN_BUDGET * (rng.uniform(size=shape) < mean / RUN_BUDGET)


FAMILIES: dict[str, Callable[[float], Draw]] = {
    "Poisson": lambda mean: counts(stats.poisson, mean),
    "over-dispersed (k = 2)": lambda mean: counts(negative_binomial(2.0), mean),
    "very over-dispersed (k = 1)": lambda mean: counts(negative_binomial(1.0), mean),
    "all or nothing": all_or_nothing,
}


# Tests of "the mean of x in [0, 1] is at most `mean`". Each returns the episode at which it first
# rejects, (runs,), or NEVER.


def first(rejects: np.ndarray) -> np.ndarray:
    return np.where(rejects.any(axis=1), rejects.argmax(axis=1) + 1, NEVER)


def e_process(x: np.ndarray, mean: float) -> np.ndarray:
    """The monitor's own, for all runs at once."""
    wealth = np.zeros((len(x), len(FRACTIONS)))
    rejects = np.zeros(x.shape, dtype=bool)
    stakes = np.array(FRACTIONS) / mean
    for t in range(x.shape[1]):
        wealth += np.log1p(stakes * (x[:, t, None] - mean))
        evidence = np.logaddexp.reduce(wealth, axis=1) - np.log(len(FRACTIONS))
        rejects[:, t] = evidence >= -np.log(ALPHA)
    return first(rejects)


def looks(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return n, the running mean, the running variance, and alpha spread over all looks."""
    n = np.arange(1, x.shape[1] + 1)
    mean = np.cumsum(x, axis=1) / n
    squares = np.cumsum(x**2, axis=1) / n
    variance = np.maximum(squares - mean**2, 0.0) * n / np.maximum(n - 1, 1)
    return n, mean, variance, ALPHA * 6.0 / (np.pi * n) ** 2


def hoeffding(x: np.ndarray, mean: float) -> np.ndarray:
    n, seen, _, alpha = looks(x)
    return first(seen - np.sqrt(np.log(1.0 / alpha) / (2.0 * n)) > mean)


def empirical_bernstein(x: np.ndarray, mean: float) -> np.ndarray:
    """Maurer and Pontil 2009."""
    n, seen, variance, alpha = looks(x)
    log = np.log(2.0 / alpha)
    with np.errstate(divide="ignore"):
        slack = np.sqrt(2.0 * variance * log / n) + 7.0 * log / (3.0 * (n - 1))
    return first(seen - slack > mean)


def repeated_t_test(x: np.ndarray, mean: float) -> np.ndarray:
    """What is often done: a t-test after every episode from the fifth, each at alpha."""
    n, seen, variance, _ = looks(x)
    critical = stats.t.ppf(1.0 - ALPHA, np.maximum(n - 1, 1))
    rejects = seen - mean > critical * np.sqrt(variance / n)
    rejects[:, :4] = False
    return first(rejects)


TESTS = {
    "e-process": e_process,
    "Hoeffding": hoeffding,
    "empirical Bernstein": empirical_bernstein,
    "repeated t-test": repeated_t_test,
}


@dataclass(frozen=True)
class Cell:
    """One family at one true mean, under every test."""

    family: str
    ratio: float
    alarms: dict[str, np.ndarray]
    certificates: dict[str, np.ndarray]


def run_cell(family: str, ratio: float, rng: np.random.Generator) -> Cell:
    x = FAMILIES[family](ratio * LIMIT)(rng, (RUNS, EPISODES)) / RUN_BUDGET
    return Cell(
        family,
        ratio,
        {name: test(x, SHARE) for name, test in TESTS.items()},
        {name: test(1.0 - x, 1.0 - SHARE) for name, test in TESTS.items()},
    )


# What is printed.


def share(stopped: np.ndarray) -> str:
    return f"{np.mean(stopped < NEVER):.3f}"


def delay(stopped: np.ndarray) -> str:
    """Return median and 90th percentile, in episodes."""
    median, late = np.quantile(stopped, (0.5, 0.9), method="inverted_cdf")
    return " / ".join("never" if value == NEVER else f"{value:.0f}" for value in (median, late))


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


def section(title: str, cells: list[Cell], which: str, show: Callable) -> list[str]:
    rows = [
        [cell.family, f"{cell.ratio:g} d", *(show(getattr(cell, which)[name]) for name in TESTS)]
        for cell in cells
    ]
    return [f"## {title}", "", *table(["cost per episode", "mean", *TESTS], rows)]


def capping(rng: np.random.Generator) -> list[str]:
    """Rare, enormous costs: the cap hides them from the mean, not from the count of hits."""
    rows = []
    for rate in (CAP_HIT_RATE, 0.1, 0.15, 0.2):
        hits = rng.uniform(size=(RUNS, EPISODES)) < rate
        cost = np.where(hits, 30.0 * LIMIT, 0.3 * LIMIT)
        x = np.minimum(cost, RUN_BUDGET) / RUN_BUDGET
        mean = (30.0 * rate + 0.3 * (1.0 - rate)) * LIMIT
        alarms, caught = e_process(x, SHARE), e_process(hits.astype(float), CAP_HIT_RATE)
        rows.append(
            [
                f"{rate:g}",
                f"{mean / LIMIT:.2f} d",
                f"{x.mean() / SHARE:.2f} d",
                share(alarms),
                share(caught),
                delay(caught),
            ]
        )
    head = ["share of episodes", "true mean", "capped mean", "mean alarm", "hit alarm", "delay"]
    return [
        "## The blind spot of capping",
        "",
        "A share of episodes would cost 30 d, the others 0.3 d. The run budget stops the costly",
        f"ones at 3 d, so the mean looks harmless; the process on hits (tolerated: {CAP_HIT_RATE})",
        "sees them. Its first row is its own false-alarm rate.",
        "",
        *table(head, rows),
    ]


def agreement(rng: np.random.Generator) -> list[str]:
    """The same question to the `ville` package's betting confidence sequence."""
    try:
        import ville
    except ImportError:
        print("ville is not installed: no cross-check")
        return []
    runs, rows = 200, []
    for ratio in (0.25, 1.0, 1.5, 2.0):
        x = FAMILIES["over-dispersed (k = 2)"](ratio * LIMIT)(rng, (runs, EPISODES)) / RUN_BUDGET
        above = np.zeros((runs, EPISODES), dtype=bool)
        below = np.zeros((runs, EPISODES), dtype=bool)
        for i, run in enumerate(x):
            # Two-sided at 2 alpha is one-sided at alpha; the grid holds 1/3.
            sequence = ville.BettingCS(alpha=2.0 * ALPHA, c=0.9, grid=301)
            sequence.update(run)
            above[i], below[i] = sequence.lower_ > SHARE, sequence.upper_ < SHARE
        for what, theirs, ours in (
            ("alarm", first(above), e_process(x, SHARE)),
            ("certificate", first(below), e_process(1.0 - x, 1.0 - SHARE)),
        ):
            same = np.mean((theirs < NEVER) == (ours < NEVER))
            rows.append(
                [
                    f"{ratio:g} d",
                    what,
                    share(ours),
                    share(theirs),
                    f"{same:.3f}",
                    delay(ours),
                    delay(theirs),
                ]
            )
    head = ["mean", "question", "here", "ville", "same answer", "delay here", "delay ville"]
    return [
        f"## Against the `ville` package {ville.__version__}",
        "",
        f"Its hedged betting confidence sequence on {runs} runs of over-dispersed costs (k = 2).",
        "",
        *table(head, rows),
    ]


def check_vectorised(rng: np.random.Generator) -> None:
    """The test above is the monitor's class, run for run."""
    x = FAMILIES["over-dispersed (k = 2)"](1.5 * LIMIT)(rng, (50, EPISODES)) / RUN_BUDGET
    for run, expected in zip(x, e_process(x, SHARE), strict=True):
        process = EProcess(SHARE, ALPHA)
        for value in run:
            process.add(float(value))
        assert (process.reached_at or NEVER) == expected


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the tables here (Markdown)")
    out = parser.parse_args().out
    rng = np.random.default_rng(0)
    check_vectorised(rng)
    cells = {}
    for family in FAMILIES:
        for ratio in (0.25, 0.5, 1.0, 1.5, 2.0):
            cells[family, ratio] = run_cell(family, ratio, rng)
            print(f"{family}, mean {ratio:g} d: done", flush=True)

    def at(*ratios: float) -> list[Cell]:
        return [cell for (_, ratio), cell in cells.items() if ratio in ratios]

    lines = [
        "# How soon, and how wrongly, the evidence over episodes speaks",
        "",
        "Made by `benchmarks/evidence.py`; seeded. The limit is d = 10, the run budget 3 d,",
        f"alpha = {ALPHA}. {RUNS:,} runs of {EPISODES} episodes a cell, looked at after every one.",
        "Means are of the costs as capped by the run budget. Delays are median / 90th percentile,",
        f"in episodes; never: not within {EPISODES}. With {RUNS:,} runs, a share of 0.05 has a",
        f"standard error of {np.sqrt(0.05 * 0.95 / RUNS):.4f}.",
        "",
        "Hoeffding and empirical Bernstein (Maurer and Pontil 2009) spread alpha over all looks;",
        "the repeated t-test does not, as is often done.",
        "",
        *section("False alarms: share of runs, mean exactly d", at(1.0), "alarms", share),
        *section(
            "False certificates: share of runs, mean exactly d", at(1.0), "certificates", share
        ),
        *section("Delay of the alarm", at(1.5, 2.0), "alarms", delay),
        *section("Delay of the certificate", at(0.25, 0.5), "certificates", delay),
        *capping(rng),
        *agreement(rng),
    ]
    text = "\n".join(lines).rstrip() + "\n"
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    main()

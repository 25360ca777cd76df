"""Trials of canaries in simulated fleets: how many are promoted, and after how many episodes.

    python -m benchmarks.canary --out docs/measured/CANARY.md

Everything is seeded; a run takes 20 seconds on one core. The exit status is 1 if a
requirement is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.evidence import Demand, table
from holdfast.contract import Cost
from holdfast.log.evidence import ALARM, CERTIFIED, UNDECIDED, decision
from holdfast.robot.promote.promote import ALLOWANCE, TIGHTENED
from holdfast.safety_monitor.evidence import Evidence
from tests.helpers.data.bundles import drive_contract

LIMIT = 10.0
CONTRACT = drive_contract(costs=(Cost("cost", "abs(position.x) > 1", LIMIT, 3 * LIMIT, 1.0, 1.0),))
FLEETS = 1000
SPREAD = 0.15
"""Standard deviation of the logarithm of a robot's mean cost over the fleet's."""

SEED = 0

Draw = Callable[[np.random.Generator, float, int], np.ndarray]


def negative_binomial(shape: float) -> Draw:
    """Over-dispersed counts: variance is mean + mean^2 / shape."""
    return lambda rng, mean, n: rng.negative_binomial(shape, shape / (shape + mean), n)


FAMILIES: dict[str, Draw] = {
    "Poisson": lambda rng, mean, n: rng.poisson(mean, n),
    "over-dispersed (k = 2)": negative_binomial(2.0),
    "very over-dispersed (k = 1)": negative_binomial(1.0),
    "30 d or nothing": lambda rng, mean, n: 30 * LIMIT * (rng.random(n) < mean / (30 * LIMIT)),
}
COUNTS = tuple(FAMILIES)[:3]
"""The kinds of costs that the requirements are about: sums over steps."""


@dataclass(frozen=True)
class Cell:
    """Trials of candidates of one kind, one fleet each.

    Attributes:
        outcome, episodes: (fleets,), how each trial ended, and after how many episodes.
        paid: mean cost of an episode of the trials, in limits d.
    """

    family: str
    ratio: float
    cap: float
    outcome: np.ndarray
    episodes: np.ndarray
    paid: float

    def share(self, outcome: str) -> float:
        return float(np.mean(self.outcome == outcome))

    def quantile(self, q: float) -> float:
        """Return a quantile of the episodes of the trials that ended with a certificate."""
        taken = self.episodes[self.outcome == CERTIFIED]
        return float(np.quantile(taken, q, method="inverted_cdf")) if len(taken) else np.nan


def trial(costs: np.ndarray, cap: float) -> tuple[str, int, float]:
    """Run a trial as `holdfast deploy --canary` does; return outcome, episodes and mean cost."""
    evidence = Evidence(CONTRACT, {"cost": cap})
    paid = 0.0
    for cost in costs:
        spent = min(float(cost), cap)
        paid += spent
        evidence.add((spent,), complete=True)
        if decision(evidence) != UNDECIDED:
            break
    return decision(evidence), evidence.episodes, paid / evidence.episodes


def run_cell(family: str, ratio: float, cap: float, rng: np.random.Generator) -> Cell:
    """Try a candidate in each of the fleets, on the fleet's first robot."""
    trials = []
    for _ in range(FLEETS):
        robot = np.exp(SPREAD * rng.standard_normal() - 0.5 * SPREAD**2)  # mean 1 over a fleet
        costs = FAMILIES[family](rng, ratio * LIMIT * robot, ALLOWANCE)
        trials.append(trial(costs, cap * LIMIT))
    outcome, episodes, paid = zip(*trials, strict=True)
    return Cell(
        family, ratio, cap, np.array(outcome), np.array(episodes), float(np.mean(paid)) / LIMIT
    )


def demands(cells: list[Cell]) -> Iterator[Demand]:
    """Yield what is demanded of the default trial, each with the figure of the worst family."""
    held = [c for c in cells if c.family in COUNTS and c.cap == TIGHTENED]
    bad, good = ([c for c in held if c.ratio == ratio] for ratio in (1.5, 0.5))
    yield Demand("candidates at 1.5 d promoted", max(c.share(CERTIFIED) for c in bad), 0.05)
    yield Demand("candidates at 0.5 d promoted", min(c.share(CERTIFIED) for c in good), 0.95, True)
    yield Demand("episodes to promote at 0.5 d, median", max(c.quantile(0.5) for c in good), 30)


def row(cell: Cell) -> list[str]:
    taken = [cell.quantile(q) for q in (0.5, 0.9)]
    return [
        cell.family,
        f"{cell.ratio:g} d",
        f"{cell.cap:g} d",
        *(f"{cell.share(outcome):.3f}" for outcome in (CERTIFIED, ALARM, UNDECIDED)),
        "none" if np.isnan(taken[0]) else f"{taken[0]:.0f} / {taken[1]:.0f}",
        f"{np.median(cell.episodes):.0f}",
        f"{cell.paid:.2f} d",
    ]


HEAD = ["cost per episode", "mean", "episode cap", "promoted", "alarm", "undecided"]
HEAD += ["episodes to promote", "episodes of a trial", "mean cost in trials"]


def page(cells: list[Cell], wanted: list[Demand]) -> str:
    checks = [
        [
            demand.what,
            f"{demand.figure:g}",
            f"{'at least' if demand.at_least else 'at most'} {demand.bound:g}",
            "yes" if demand.met else "NO",
        ]
        for demand in wanted
    ]
    default = [row(cell) for cell in cells if cell.cap == TIGHTENED]
    others = [row(cell) for cell in cells if cell.cap != TIGHTENED]
    return "\n".join(
        [
            "# Trials of canaries in simulated fleets",
            "",
            f"`python -m benchmarks.canary` made this page with seed {SEED}. Each row has "
            f"{FLEETS:,} fleets. In",
            "each fleet one candidate is tried on one robot, by the code that "
            "`holdfast deploy --canary` uses:",
            f"alpha = 0.05, at most {ALLOWANCE} episodes. The mean is the fleet's mean cost per "
            "episode without a cap. A",
            f"robot's mean differs from it by a factor of log-normal spread {SPREAD}. The",
            f"contract's episode cap is 3 d, and the default cap of a trial is {TIGHTENED:g} d.",
            "",
            "## Requirements",
            "",
            "For Poisson and both over-dispersed costs; the worst of them is shown.",
            "",
            *table(["requirement", "measured", "required", "met"], checks),
            "## The default trial",
            "",
            "Shares are of fleets. Episodes to promote are given as median / 90th percentile, and "
            "episodes of a",
            "trial as the median of all trials.",
            "",
            *table(HEAD, default),
            "The last kind of costs is what a cap hides: rare episodes that would cost 30 d. Under "
            "the cap each",
            f"of them costs {TIGHTENED:g} d, so the candidate is promoted if that happens rarely. "
            "The certificate is true",
            "of what then runs, because the promoted policy keeps the episode cap of its trial. It "
            "would be",
            "false under the contract's own, higher cap.",
            "",
            "## Other episode caps",
            "",
            *table(HEAD, others),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the page here (Markdown)")
    out = parser.parse_args().out
    rng = np.random.default_rng(SEED)
    wanted = [(f, r, TIGHTENED) for f in FAMILIES for r in (0.5, 0.75, 1.0, 1.5)]
    wanted += [(f, r, cap) for cap in (1.5, 3.0) for f in COUNTS for r in (0.5, 1.5)]
    cells = [run_cell(*each, rng) for each in wanted]
    checks = list(demands(cells))
    text = page(cells, checks).rstrip() + "\n"
    print(text)
    if out:
        out.write_text(text)
    return 0 if all(demand.met for demand in checks) else 1


if __name__ == "__main__":
    sys.exit(main())

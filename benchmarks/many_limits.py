"""One policy for many limits, beside a policy trained for each limit alone.

    python -m benchmarks.many_limits --out runs/many_limits [--tasks DriveCircle-v0] [--seeds 3]

Trains a policy for the range of limits, and one for each limit alone, over seeds; then runs each
under each limit, for --episodes episodes with sampled actions, from the same starts, which no
training saw. Prints a table, and writes docs/measured/results/many_limits.json. A run in the work
folder that is finished is not repeated, and an interrupted one is resumed.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from holdfast.bundle.limit_range import limits_of, under
from holdfast.policy.learn.settings import TrainSettings, settings_of
from holdfast.policy.models import checkpoint
from holdfast.policy.reproduce import complete
from holdfast.policy.ship.evaluate import evaluate
from holdfast.policy.train import CHECKPOINT
from holdfast.sim.registry import resolve

LIMITS = (2.0, 5.0, 10.0, 20.0)
RESULTS = Path("docs/measured/results/many_limits.json")
STARTS = 10_000
"""First seed of the evaluations, which no training has."""


def trained(settings: TrainSettings, place: Path) -> Path:
    """Train, unless it was done already; return the checkpoint."""
    complete(settings, place, Console(file=io.StringIO()))
    return place / CHECKPOINT


def worth(path: Path, limit: float, episodes: int, seed: int) -> dict[str, float]:
    """Return mean return and cost of a checkpoint's policy under a limit."""
    networks, data = checkpoint.load_networks(path)
    contract = networks.contract
    if limits_of(contract):
        networks = dataclasses.replace(networks, contract=under(contract, (limit,)))
    found = evaluate(networks, settings_of(path, data), episodes, STARTS + seed)
    costs = found.cost_returns[:, 0]
    return {
        "return": float(found.returns.mean()),
        "cost": float(costs.mean()),
        "error": float(costs.std(ddof=1) / np.sqrt(episodes)),
    }


def compare(name: str, arguments: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Return what both kinds of policies of a task are worth, by limit, an entry per seed."""
    base = TrainSettings(task=resolve(name), iterations=arguments.alone)
    low, high = min(LIMITS), max(LIMITS)
    rows: dict[str, list[dict[str, float]]] = {f"{limit:g}": [] for limit in LIMITS}
    for seed in range(arguments.seeds):
        settings = dataclasses.replace(base, seed=seed)
        many = dataclasses.replace(
            settings,
            limit_range=((low, high),),
            iterations=arguments.iterations,
            batch=arguments.batch,
        )
        place = arguments.out / name / str(seed)
        one = trained(many, place / "range")
        for limit in LIMITS:
            alone = trained(dataclasses.replace(settings, limit=(limit,)), place / f"{limit:g}")
            both = (worth(path, limit, arguments.episodes, seed) for path in (one, alone))
            found, apart = both
            row = {"seed": seed, **found, **{f"{key}_alone": apart[key] for key in apart}}
            rows[f"{limit:g}"].append(row)
            print(f"{name}, seed {seed}, d {limit:g}: {row}", flush=True)
    return rows


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return the mean, and the range where there are several values."""
    low, high = min(values), max(values)
    mean = f"{np.mean(values):.{digits}f}"
    return mean if low == high else f"{mean} [{low:.{digits}f}, {high:.{digits}f}]"


def table(name: str, rows: dict[str, list[dict[str, float]]]) -> str:
    """Return a table of a task, a row per limit, as Markdown."""
    lines = []
    for limit, found in rows.items():
        values = {key: [row[key] for row in found] for key in found[0]}
        off = np.mean(values["cost"]) / float(limit) - 1.0
        share = np.mean(values["return"]) / np.mean(values["return_alone"])
        lines.append(
            f"| {name} | {limit} | {spread(values['cost'])} | {off:+.0%} | "
            f"{spread(values['cost_alone'])} | {spread(values['return'], 0)} | "
            f"{spread(values['return_alone'], 0)} | {share:.0%} |"
        )
    return "\n".join(lines)


HEAD = (
    "| task | d | cost | off d | cost, trained for d alone | return | "
    "return, trained for d alone | share of the return |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="*", default=["DriveCircle-v0", "PointCircle-v0"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=70)
    parser.add_argument("--batch", type=int, default=40_000)
    parser.add_argument("--alone", type=int, default=70, help="iterations for one limit alone")
    parser.add_argument("--episodes", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("runs/many_limits"))
    arguments = parser.parse_args()
    found = {name: compare(name, arguments) for name in arguments.tasks}
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    given = {key: value for key, value in vars(arguments).items() if key not in ("tasks", "out")}
    entries = {name: {"settings": given, "rows": rows} for name, rows in found.items()}
    RESULTS.write_text(json.dumps({**known, **entries}, indent=1) + "\n")
    print(HEAD)
    for name, rows in found.items():
        print(table(name, rows))


if __name__ == "__main__":
    main()

"""The experiment's page: a table over all robots, a table by robot, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from holdfast import files
from holdfast.contract import Contract
from holdfast.policy.experiment.arms import ARMS, EPISODES
from holdfast.policy.figures import LIMIT, svg
from holdfast.policy.page import markdown_table
from holdfast.signals import Array

PAGE, PICTURE = "sim2real.md", "sim2real.svg"
YARDSTICK = "yardstick"
KEPT = 0.9
"""Share of the yardstick's return that the whole loop should keep."""

Result = Mapping[str, Any]


def line(result: Result) -> str:
    """Return a robot's results in one line."""
    told = []
    for name, worth in result["arms"].items():
        told.append(f"{name} {_cell(worth)}")
    return f"robot {result['gap']}, cost / return: {'; '.join(told)}"


def _cell(worth: Mapping[str, Any]) -> str:
    costs = ", ".join(f"{cost['mean']:.1f}" for cost in worth["costs"].values())
    mean = worth["return"]["mean"]
    return f"{costs} / {mean:.{0 if abs(mean) >= 100.0 else 1}f}"


def write(folder: Path, results: Sequence[Result], contract: Contract) -> tuple[Path, Path]:
    """Write the page and its picture; return their paths."""
    page, picture = folder / PAGE, folder / PICTURE
    files.write(picture, drawn(results, contract))
    files.write(page, text(results, contract))
    return page, picture


def text(results: Sequence[Result], contract: Contract) -> str:
    """Return the page, in Markdown."""
    lines = [
        f"# Sim to real: {contract.task} on {len(results)} robots that differ",
        "",
        f"Cost and return per episode: {EPISODES} simulated episodes on the true robot without a "
        "monitor. A step costs what is true or what the robot's sensors say, whichever is more. "
        f"{_SHARE if _has_shares(results) else _DIFFERENCE}",
        "",
        *markdown_table(("policy", *_over_head(results, contract)), _over_all(results, contract)),
        *_counted(results, contract),
        "",
        "## By robot",
        "",
        *markdown_table(
            ("robot", "ranges", *ARMS, "gate", "trial", "episodes logged"),
            [_by_robot(result) for result in results],
        ),
        "A cell is cost / return.",
        "",
    ]
    return "\n".join(lines)


_SHARE = "A share of the return is of the yardstick's, which is trained on the true robot."
_DIFFERENCE = (
    "Returns are compared by their difference from that of the yardstick, which is trained on the "
    "true robot: a yardstick's return is not above 0, so that it has no shares."
)


def _has_shares(results: Sequence[Result]) -> bool:
    """Return whether returns can be told as shares of the yardsticks': those are above 0."""
    return all(each["arms"][YARDSTICK]["return"]["mean"] > 0.0 for each in results)


def _over_head(results: Sequence[Result], contract: Contract) -> list[str]:
    costs = [f"{cost.name}: mean over robots [least, most]" for cost in contract.costs]
    limits = ", ".join(f"{cost.limit:g}" for cost in contract.costs)
    return [
        *costs,
        f"robots at or under d = {limits}",
        "share of the yardstick's return [least, most]"
        if _has_shares(results)
        else "return less the yardstick's [least, most]",
    ]


def _over_all(results: Sequence[Result], contract: Contract) -> list[list[str]]:
    rows = []
    for name, told in ARMS.items():
        made = [result for result in results if name in result["arms"]]
        if not made:
            continue
        costs = _costs(made, name)
        compared = _compared(made, name, _has_shares(results))
        rows.append(
            [
                f"**{name}**: {told}",
                *(_spread(each, ".1f") for each in costs.T),
                f"{int(np.all(costs <= contract.limits, axis=1).sum())} of {len(results)}",
                _spread(compared, ".0f") + " %" * _has_shares(results),
            ]
        )
    return rows


def _counted(results: Sequence[Result], contract: Contract) -> list[str]:
    """Return sentences on the trials, on the caps, and on the whole loop."""
    certified = [result for result in results if result["certified"]]
    loop = [each for each in certified if (_costs([each], "identified") <= contract.limits).all()]
    kept = ""
    if _has_shares(results):
        count = int((_compared(loop, "identified", True) >= 100.0 * KEPT).sum())
        kept = f"; {count} of these policies keep at least {KEPT:.0%} of the yardstick's return"
    runs = [run for result in results for run in result["monitored"].values()]
    before = [result["monitored"]["before"]["true_costs"] for result in results]
    costs = [np.mean([each[cost.name]["mean"] for each in before]) for cost in contract.costs]
    return [
        f"- The whole loop ends in a certified policy at or under d on {len(loop)} of "
        f"{len(results)} robots{kept}.",
        f"- Of {len(certified)} certified policies, {len(certified) - len(loop)} cost more than d.",
        f"- In {sum(run['over_cap'] for run in runs)} of {sum(run['episodes'] for run in runs)} "
        "episodes behind the monitor the cost exceeded the episode cap.",
        f"- The randomised policy behind the monitor, before anything is learned, truly costs "
        f"{', '.join(f'{cost:.1f}' for cost in costs)} per episode.",
        *(
            f"- Robot {result['gap']}, {name}: {why}"
            for result in results
            for name, why in result["failed"].items()
        ),
    ]


def _by_robot(result: Result) -> list[str]:
    cells = []
    for name in ARMS:
        worth = result["arms"].get(name)
        if worth is None:
            cells.append("-")
            continue
        cells.append(_cell(worth))
    logged = sum(run["episodes"] for run in result["monitored"].values())
    return [
        str(result["gap"]), result["ranges"], *cells,
        result["gate"] or "-", result["trial"] or "-", str(logged),
    ]  # fmt: skip


def drawn(results: Sequence[Result], contract: Contract) -> str:
    """Draw each arm's policies: cost as a share of the limit d, and return beside yardsticks'."""
    shares = _has_shares(results)
    figure = Figure(figsize=(8.5, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, name in enumerate(ARMS):
        made = [result for result in results if name in result["arms"]]
        if not made:
            continue
        beside = i + np.linspace(-0.25, 0.25, len(made))
        costs = (_costs(made, name) / np.maximum(contract.limits, 1e-9)).max(axis=1)
        left.plot(beside, costs, "o", markersize=3.5, color=f"C{i}")
        compared = _compared(made, name, shares)
        right.plot(beside, compared, "o", markersize=3.5, color=f"C{i}")
    left.axhline(1.0, color=LIMIT, linestyle="--", label="limit d")
    left.set(ylabel="cost per episode / d", ylim=(0, None))
    left.legend(loc="upper right")
    if shares:
        right.set(ylabel="return, % of the yardstick's", ylim=(0, None))
    else:
        right.set(ylabel="return less the yardstick's")
    for axes in (left, right):
        axes.set_xticks(range(len(ARMS)), list(ARMS), rotation=30, ha="right")
    return svg(figure)


def _costs(results: Sequence[Result], name: str) -> Array:
    """Return mean costs (robots, costs) of an arm's policies."""
    return np.array(
        [[cost["mean"] for cost in result["arms"][name]["costs"].values()] for result in results]
    )


def _compared(results: Sequence[Result], name: str, shares: bool) -> Array:
    """Return the returns (robots,) of an arm's policies beside the yardsticks': as shares of them,
    in percent, or as differences."""
    arms = [result["arms"] for result in results]
    found = np.array([each[name]["return"]["mean"] for each in arms])
    yardstick = np.array([each[YARDSTICK]["return"]["mean"] for each in arms])
    compared: Array = 100.0 * found / yardstick if shares else found - yardstick
    return compared


def _spread(values: Array, digits: str) -> str:
    low, high = values.min(), values.max()
    return f"{values.mean():{digits}} [{low:{digits}}, {high:{digits}}]"

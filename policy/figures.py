"""The report's figures, as SVG texts for the page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from holdfast.contract import Contract, Cost
from holdfast.policy.identification.compare import Comparison
from holdfast.signals import Array

BEFORE, AFTER, LIMIT = "#b45309", "#0f766e", "#b91c1c"
DRIVEN, OUTSIDE = "#1d4ed8", "#dc2626"
MOTIONS_SHOWN = 6

mpl.rcParams.update(
    {
        "svg.hashsalt": "holdfast",  # equal figures give equal texts
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e5e7eb",
        "legend.frameon": False,
    }
)


@dataclass(frozen=True)
class Curves:
    """Training curves of one algorithm on one task.

    `steps` is (iterations,), the others are (seeds, iterations). `shaped` is the cost that the
    limit bounds: with cost shaping the shaped cost, else the cost itself.
    """

    steps: Array
    returns: Array
    costs: Array
    shaped: Array


def svg(figure: Figure) -> str:
    """Return a figure as an element of a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def training(records: Sequence[Mapping[str, Any]], contract: Contract) -> str:
    """Draw reward and cost returns over the simulated steps of training."""
    count = len(contract.costs)
    figure = Figure(figsize=(4.5 * (1 + count), 2.8), layout="constrained")
    left, *others = figure.subplots(1, 1 + count)
    steps = [record["steps"] / 1e6 for record in records]
    left.plot(steps, [record["return"] for record in records], color=AFTER)
    left.set(xlabel="million steps", ylabel="reward return", ylim=(0, None))
    for axes, cost in zip(others, contract.costs, strict=True):
        axes.plot(steps, [record["costs"][cost.name] for record in records], color=BEFORE)
        axes.axhline(cost.limit, color=LIMIT, linestyle="--", label="limit d")
        axes.set(xlabel="million steps", ylabel=f"{cost.name} per episode", ylim=(0, None))
        axes.legend()
    return svg(figure)


def comparison(curves: Mapping[str, Curves], cost: Cost) -> str:
    """Draw return and cost of several algorithms over simulated steps: mean and range of seeds."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (name, each) in enumerate(curves.items()):
        steps, style = each.steps / 1e6, {"color": f"C{i}", "linewidth": 1.2}
        for axes, values in ((left, each.returns), (right, each.costs)):
            axes.plot(steps, values.mean(axis=0), label=name, **style)
            low, high = values.min(axis=0), values.max(axis=0)
            axes.fill_between(steps, low, high, color=f"C{i}", alpha=0.15, linewidth=0)
    right.axhline(cost.limit, color=LIMIT, linestyle="--", label=f"limit d = {cost.limit:g}")
    left.set(xlabel="million steps", ylabel="return per episode")
    right.set(xlabel="million steps", ylabel=f"{cost.name} per episode", ylim=(0, None))
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return svg(figure)


def frontier(policies: Mapping[str, Mapping[str, Any]], contract: Contract) -> str:
    """Draw the return of several policies against each of their costs, with 95 % intervals.

    Args:
        policies: the summaries of evaluations (`Evaluation.summary`), by name.
    """
    figure = Figure(figsize=(4.8 * len(contract.costs), 4.4), layout="constrained")
    (row,) = figure.subplots(1, len(contract.costs), sharey=True, squeeze=False)
    for axes, cost in zip(row, contract.costs, strict=True):
        for i, (name, summary) in enumerate(policies.items()):
            x, y = summary["costs"][cost.name], summary["return"]
            axes.errorbar(
                x["mean"], y["mean"], xerr=_arms(x), yerr=_arms(y), fmt="o", color=f"C{i}",
                markersize=5, linewidth=1, label=name,
            )  # fmt: skip
        axes.axvline(cost.limit, color=LIMIT, linestyle="--", label=f"now d = {cost.limit:g}")
        axes.set(xlabel=f"{cost.name} per episode", ylabel="return per episode")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=8)
    return svg(figure)


def _arms(span: Mapping[str, float]) -> Array:
    """Return the distances (2, 1) of an interval's ends from its mean, as matplotlib takes them."""
    return np.array([[span["mean"] - span["low"]], [span["high"] - span["mean"]]]).clip(0.0)


def predicted(recorded: Comparison, before: Mapping[str, Array], after: Mapping[str, Array]) -> str:
    """Draw measured paths, and those that are simulated from their starts with the commands alone.

    Args:
        before, after: simulated signals (T, K + 1, size), without and with what was identified.
    """
    count = min(len(recorded.pieces), MOTIONS_SHOWN)
    rows = -(-count // 3)
    figure = Figure(figsize=(9, 3.0 * rows), layout="constrained")
    grid = figure.subplots(rows, min(count, 3), squeeze=False).ravel()
    for i, axes in enumerate(grid):
        if i >= count:
            axes.set_visible(False)
            continue
        sources = ((before, BEFORE, "simulated, nominal"), (after, AFTER, "simulated, identified"))
        for simulated, colour, label in sources:
            path = recorded.laid_over(simulated, i)
            axes.plot(*path.T, color=colour, linewidth=1.2, label=label)
        piece = recorded.pieces[i]
        measured = recorded.measured["position"][i, piece.first : len(piece) + 1]
        axes.plot(*measured.T, ".", color="#111827", markersize=2, label="measured")
        axes.set(xlabel="x [m]", ylabel="y [m]", aspect="equal")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return svg(figure)


def planned(actions: Array, path: Array, contract: Contract) -> str:
    """Draw a plan's commands over time, and where the simulated robot goes.

    Args:
        actions: (T, K, actions), in physical units. path: (N, 2), m, from the start.
    """
    flat = actions.reshape(-1, contract.action_size)
    shown = contract.action[:MOTIONS_SHOWN]
    figure = Figure(figsize=(9, 1.6 * len(shown) + 3.6), layout="constrained")
    *rows, below = figure.subplots(len(shown) + 1, 1, height_ratios=[1.0] * len(shown) + [2.2])
    time = contract.period_s * np.arange(len(flat))
    for axes, channel, values in zip(rows, shown, flat.T, strict=False):
        axes.step(time, values, color=AFTER, linewidth=0.8, where="post")
        axes.set(ylabel=f"{channel.name} [{channel.unit}]", ylim=(channel.low, channel.high))
    rows[-1].set(xlabel="time [s]")
    below.plot(*path.T, color=DRIVEN, linewidth=0.8)
    below.plot(*path[0], "o", color="#111827", label="start")
    below.set(xlabel="x [m]", ylabel="y [m]", aspect="equal")
    below.legend()
    return svg(figure)

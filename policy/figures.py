"""The report's figures, as SVG texts for the page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from holdfast.contract import Contract, Cost
from holdfast.expressions import places
from holdfast.log.reader import Log
from holdfast.policy.identification.compare import Comparison
from holdfast.safety_monitor.messages import State
from holdfast.signals import Array
from holdfast.sim.tasks.task import Task

BEFORE, AFTER, LIMIT = "#b45309", "#0f766e", "#b91c1c"
DRIVEN, OUTSIDE = "#1d4ed8", "#dc2626"
STATE_COLOURS = {
    State.STOPPED: "#b91c1c",
    State.READY: "#9ca3af",
    State.FALLBACK: "#f97316",
    State.LIMITED: "#facc15",
    State.ACTIVE: "#bbf7d0",
}
PATHS_SHOWN = 24
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


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _pair(width: float, height: float) -> tuple[Figure, Axes, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    left.set_title("before fine-tuning")
    right.set_title("after fine-tuning")
    return figure, left, right


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
    return _svg(figure)


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
    return _svg(figure)


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
    return _svg(figure)


def _arms(span: Mapping[str, float]) -> Array:
    """Return the distances (2, 1) of an interval's ends from its mean, as matplotlib takes them."""
    return np.array([[span["mean"] - span["low"]], [span["high"] - span["mean"]]]).clip(0.0)


def paths(before: Log, after: Log, task: Task) -> str:
    """Draw the robot's estimated paths, in red where a cost was billed."""
    return _svg(paths_figure(before, after, task))


def paths_figure(before: Log, after: Log, task: Task) -> Figure:
    """Return the figure of `paths`."""
    figure, left, right = _pair(9, 4.6)
    radius = getattr(task, "radius_m", None)
    for axes, run in ((left, before), (right, after)):
        if radius is not None:
            angle = np.linspace(0.0, 2.0 * np.pi, 200)
            x, y = radius * np.cos(angle), radius * np.sin(angle)
            axes.plot(x, y, color="#9ca3af", linewidth=1, linestyle=":")
        for episode in run.episodes[:PATHS_SHOWN]:
            position = episode.signals["position"]
            pieces = np.stack((position[:-1], position[1:]), axis=1)
            billed = (episode.costs[1:] > 0.0).any(axis=1)
            colours = np.where(billed, OUTSIDE, DRIVEN)
            axes.add_collection(
                LineCollection(list(pieces), colors=colours, linewidths=0.6, alpha=0.6)
            )
        axes.set(xlabel="x [m]", aspect="equal")
        axes.autoscale_view()
    for axes in (left, right):
        _colour_free(axes, before.info.contract)
    left.set_ylabel("y [m]")
    return figure


def _colour_free(axes: Axes, contract: Contract) -> None:
    """Colour the places in view at which no cost that depends on position alone is billed."""
    axes.autoscale(False)
    x, y = (np.linspace(*limits, 800) for limits in (axes.get_xlim(), axes.get_ylim()))
    billed = places.billed(contract, np.stack(np.meshgrid(x, y), axis=-1))
    if billed is None:
        return
    axes.contourf(x, y, billed, levels=(-0.5, 0.5), colors=("#ecfdf5",), zorder=0)
    if billed.any() and not billed.all():
        axes.contour(x, y, billed, levels=(0.5,), colors=("#6ee7b7",), linewidths=1, zorder=0)


def costs(before: Log, after: Log, k: int) -> str:
    """Draw each episode's k-th cost against the limit and the episode cap."""
    figure, left, right = _pair(9, 3.0)
    cost = before.info.contract.costs[k]
    budget = before.info.episode_cap[cost.name]
    for axes, run, colour in ((left, before, BEFORE), (right, after, AFTER)):
        values = np.array([episode.result.costs[k] for episode in run.episodes])
        axes.scatter(range(len(values)), values, s=12, color=colour, zorder=3)
        axes.axhline(values.mean(), color=colour, label=f"mean {values.mean():.1f}")
        axes.axhline(cost.limit, color=LIMIT, linestyle="--", label=f"limit d = {cost.limit:g}")
        axes.axhline(budget, color="#111827", linestyle=":", label=f"episode cap {budget:g}")
        axes.set(xlabel="episode", ylim=(-0.5, budget * 1.25))
        axes.legend(loc="upper right", ncols=3, fontsize=7)
    left.set_ylabel(f"{cost.name} per episode")
    return _svg(figure)


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
    return _svg(figure)


def budget(before: Log, after: Log, k: int) -> str:
    """Draw spent and predicted k-th cost over each run's most costly episode."""
    figure, left, right = _pair(9, 3.0)
    contract = before.info.contract
    cost = contract.costs[k]
    episode_cap = before.info.episode_cap[cost.name]
    for axes, run in ((left, before), (right, after)):
        episode = max(run.episodes, key=lambda episode: float(episode.costs[:, k].sum()))
        spent = np.cumsum(episode.costs[:, k])
        seconds = np.arange(len(spent)) * contract.period_s
        expected = spent + np.maximum(episode.cost_to_go[:, k], 0.0)
        axes.plot(seconds, spent, color=DRIVEN, label="spent")
        axes.plot(seconds, expected, color=DRIVEN, linewidth=0.8, alpha=0.5,
                  label="spent + expected to come")  # fmt: skip
        axes.axhline(cost.limit, color=LIMIT, linestyle="--", label="limit d")
        axes.axhline(episode_cap, color="#111827", linestyle=":", label="episode cap: hard stop")
        axes.set(xlabel=f"time in episode {episode.result.episode} [s]")
    left.set_ylabel(cost.name)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8
    )
    return _svg(figure)


def verdicts(before: Log, after: Log) -> str:
    """Draw the monitor's state over time, one line per episode."""
    figure, left, right = _pair(9, 3.4)
    contract = before.info.contract
    states = list(STATE_COLOURS)
    colours = ListedColormap([STATE_COLOURS[state] for state in states])
    norm = BoundaryNorm([state - 0.5 for state in states] + [states[-1] + 0.5], len(states))
    for axes, run in ((left, before), (right, after)):
        length = contract.episode_steps + 1
        grid = np.full((len(run.episodes), length), np.nan)
        for i, episode in enumerate(run.episodes):
            grid[i, : len(episode.state)] = episode.state
        extent = (0.0, length * contract.period_s, len(grid) - 0.5, -0.5)
        axes.imshow(grid, aspect="auto", interpolation="nearest", cmap=colours, norm=norm,
                    extent=extent)  # fmt: skip
        axes.set(xlabel="time in episode [s]")
        axes.grid(visible=False)
    left.set_ylabel("episode")
    handles = [
        mpl.patches.Patch(color=colour, label=state.name) for state, colour in STATE_COLOURS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return _svg(figure)

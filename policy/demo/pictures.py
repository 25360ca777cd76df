"""The pictures of the demo's page: the run before and the run after, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from holdfast.contract import Contract
from holdfast.expressions import places
from holdfast.log.reader import Log
from holdfast.policy.demo.evidence import Curve
from holdfast.policy.figures import AFTER, BEFORE, DRIVEN, LIMIT, OUTSIDE, svg
from holdfast.safety_monitor.messages import State
from holdfast.sim.tasks.task import Task

STATE_COLOURS = {
    State.STOPPED: "#b91c1c",
    State.READY: "#9ca3af",
    State.FALLBACK: "#f97316",
    State.LIMITED: "#facc15",
    State.ACTIVE: "#bbf7d0",
}
PATHS_SHOWN = 24
ENOUGH, LEAST_EVIDENCE, MOST_EVIDENCE = 20.0, 0.1, 1000.0


def _pair(width: float, height: float) -> tuple[Figure, Axes, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    left.set_title("before")
    right.set_title("after")
    return figure, left, right


def paths(before: Log, after: Log, task: Task) -> str:
    """Draw the robot's estimated paths, in red where a cost was billed."""
    return svg(paths_figure(before, after, task))


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
    return svg(figure)


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
    return svg(figure)


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
    return svg(figure)


def evidence(before: Sequence[Curve], trial: Sequence[Curve], contract: Contract) -> str:
    """Draw the evidence over the first run's and the trial's episodes; a row for each cost."""
    count = len(contract.costs)
    figure = Figure(figsize=(9, 1.2 + 2.4 * count), layout="constrained")
    grid = figure.subplots(count, 2, sharey=True, squeeze=False)
    for column, told, title in ((0, before, "the first policy"), (1, trial, "the child's trial")):
        grid[0, column].set_title(title)
        for axes, curve, cost in zip(grid[:, column], told, contract.costs, strict=True):
            for values, colour, label in (
                (curve.exceeds, LIMIT, "alarm: the mean is above d"),
                (curve.capped, BEFORE, "alarm: too many episodes hit the cap"),
                (curve.keeps, AFTER, "certificate: the mean is at most d"),
            ):
                shown = np.clip(values, LEAST_EVIDENCE, MOST_EVIDENCE)
                axes.plot(shown, color=colour, label=label)
            axes.axhline(ENOUGH, color="#111827", linestyle=":", label="decided at 20")
            axes.set(xlabel="episodes", yscale="log", ylim=(LEAST_EVIDENCE, MOST_EVIDENCE))
            if column == 0:
                axes.set_ylabel(f"evidence, {cost.name}")
    lines = grid[0, 0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=2, fontsize=8)
    return svg(figure)

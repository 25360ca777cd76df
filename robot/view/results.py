"""The results of a run: returns, costs, stops, interventions and timing, from its log alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from holdfast.log.format import NO_STEP, STOPPED, TORN
from holdfast.log.intervals import interval
from holdfast.log.reader import Log
from holdfast.signals import Array


@dataclass(frozen=True)
class Results:
    """What a run's episodes came to.

    Attributes:
        name: what the run is called.
        log: the run's log.
        returns: reward return of each episode; None if the log does not have that of every one.
        costs: (episodes, costs), as billed.
        whole: (episodes,), the episode ran to its last step.
        stops: number of stopped episodes by the reason's code.
        changed: number of periods of the episodes in which the monitor changed the action, by the
            code of each reason that held.
        timing: by name, a text with its unit.
    """

    name: str
    log: Log
    returns: Array | None
    costs: Array
    whole: NDArray[np.bool_]
    stops: Mapping[str, int]
    changed: Mapping[str, int]
    timing: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.costs)

    @property
    def worst_costs(self) -> Array:
        """Costs (episodes, costs) in which an episode that was cut short cost its whole cap."""
        caps = self.log.info.episode_cap
        cap = [caps[cost.name] for cost in self.log.info.contract.costs]
        return np.where(self.whole[:, None], self.costs, np.maximum(self.costs, cap))


def results(log: Log) -> Results:
    """Return the results of a run."""
    ends = [episode.result for episode in log.episodes]
    returns = [end.reward_return for end in ends if end.reward_return is not None]
    return Results(
        name=log.info.run,
        log=log,
        returns=np.array(returns) if ends and len(returns) == len(ends) else None,
        costs=np.array([end.costs for end in ends]).reshape(-1, len(log.info.contract.costs)),
        whole=np.array([end.ended not in (STOPPED, TORN) for end in ends], dtype=bool),
        stops=Counter(end.code for end in ends if end.ended == STOPPED),
        changed=_changed(log),
        timing=_timing(log),
    )


def told_apart(runs: Sequence[Results]) -> list[Results]:
    """Return results of runs whose names differ: many a run is called "log".

    Alike ones are called by the folders around their own too, by as many as it takes, and where
    the folders are alike as well, are numbered.
    """
    around = [Path(os.path.abspath(run.log.path)).parent.parent.parts[1:] for run in runs]
    names, count = [run.name for run in runs], 0
    while (alike := _alike(names)) and any(count < len(around[i]) for i in alike):
        count += 1
        for i in alike:
            names[i] = "/".join((*around[i][-count:], runs[i].name))
    for i in alike:
        names[i] += f" ({i + 1})"
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def _alike(names: Sequence[str]) -> list[int]:
    """Return the positions of names that are there more than once."""
    return [i for i, name in enumerate(names) if names.count(name) > 1]


def mean_text(values: Array | None) -> str:
    """Return "mean [low, high]" with a 95 % interval; the interval takes two episodes."""
    if values is None or not len(values):
        return "-"
    if not np.isfinite(values).all():
        return "not finite"
    if len(values) < 2:
        return f"{values[0]:.4g}"
    found = interval(values)
    return f"{found['mean']:.4g} [{found['low']:.4g}, {found['high']:.4g}]"


def rows(run: Results) -> dict[str, str]:
    """Return the run's cells of a table, by the rows' titles."""
    ends = [episode.result for episode in run.log.episodes]
    contract, caps = run.log.info.contract, run.log.info.episode_cap
    steps, count = sum(end.steps for end in ends), sum(end.interventions for end in ends)
    share = f" ({count / steps:.1%} of steps)" if steps else ""
    cells = {
        "episodes": f"{len(run)}{run.log.remarks}",
        "completed": f"{int(run.whole.sum())} of {len(run)}",
        "reward return": mean_text(run.returns) if run.returns is not None else "not logged",
    }
    for k, cost in enumerate(contract.costs):
        title = f"{cost.name}, limit d {cost.limit:g}"
        cells[title] = mean_text(run.costs[:, k])
        over = int((run.costs[:, k] > cost.limit).sum())
        cells[f"episodes with {cost.name} above d"] = f"{over} of {len(run)}"
        cells[f"episode cap of {cost.name}"] = f"{caps[cost.name]:g}"
    cells["steps"] = str(steps)
    cells["interventions"] = f"{count}{share}"
    cells["missed deadlines"] = str(sum(end.deadline_misses for end in ends))
    for title, counts in (("interventions with", run.changed), ("stopped by", run.stops)):
        for code, times in sorted(counts.items(), key=lambda each: (-each[1], each[0])):
            cells[f"{title} {code}"] = str(times)
    torn = sum(end.ended == TORN for end in ends)
    if torn:
        cells["without an end in the log"] = str(torn)
    return cells | dict(run.timing)


def table(runs: list[Results]) -> list[tuple[str, ...]]:
    """Return a table's rows: a head, then a row for each quantity and a column for each run."""
    columns = [rows(run) for run in runs]
    titles = dict.fromkeys(title for column in columns for title in column)
    counted = ("interventions with", "stopped by", "without an end")
    nothing = {title: "0" for title in titles if title.startswith(counted)}
    return [
        ("", *(run.name for run in runs)),
        *(
            (title, *(column.get(title, nothing.get(title, "-")) for column in columns))
            for title in titles
        ),
    ]


def _changed(log: Log) -> Counter[str]:
    """Count the reasons of the armed periods in which the action was changed."""
    changed = (log.steps["intervened"] > 0) & (log.steps["step"] != NO_STEP)
    return Counter(code for row in np.flatnonzero(changed) for code in log.reasons[row])


def _timing(log: Log) -> dict[str, str]:
    """Return rate, periods and the ages of what was used, of the periods in which it was armed."""
    steps = log.steps
    follow = (steps["step"][1:] > 0) & (steps["episode"][1:] == steps["episode"][:-1])
    follow &= steps["step"][:-1] != NO_STEP
    periods = np.diff(steps["now_s"])[follow]
    periods = periods[np.isfinite(periods)]
    if not len(periods) or not periods.mean() > 0.0:
        return {}
    armed = steps[steps["step"] != NO_STEP]
    texts = {
        "rate of the loop": f"{1.0 / periods.mean():.2f} Hz",
        "period, 99 %": f"{1e3 * np.percentile(periods, 99):.1f} ms",
        "period, longest": f"{1e3 * periods.max():.1f} ms",
        "age of the proposal, 99 %": _age(armed["now_s"] - armed["proposal_stamp_s"]),
    }
    for k, source in enumerate(log.info.sources):
        ages = armed["now_s"] - armed["signal_stamps_s"][:, k]
        texts[f"age of the reading of {source}, 99 %"] = _age(ages)
    return texts


def _age(ages: Array) -> str:
    ages = ages[np.isfinite(ages)]
    return f"{1e3 * np.percentile(ages, 99):.1f} ms" if len(ages) else "-"

"""`holdfast report`: results of runs, as numbers and as one self-contained page."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from holdfast import files, plain
from holdfast.contract import Contract
from holdfast.errors import ConfigError, LogError
from holdfast.log.episodes import episodes, runs
from holdfast.log.evidence import ALARM
from holdfast.log.format import STOPPED
from holdfast.log.intervals import interval
from holdfast.log.reader import Log
from holdfast.policy import figures
from holdfast.policy.demo import pictures
from holdfast.policy.demo.evidence import curves
from holdfast.policy.demo.motion import motion
from holdfast.policy.learn.settings import TaskOption
from holdfast.sim.registry import trained_on
from holdfast.sim.task_spec import TaskSpec
from holdfast.sim.tasks.task import Task

SUMMARY, PAGE, PREDICTED = "summary.json", "report.html", "predicted.svg"
FORMAT = 3

PROMOTED, REJECTED = "promoted", "rejected"
"""How a child may end, beside an alarm or no decision of its trial (`evidence.decision`)."""

COLUMNS = {
    "simulator": "simulated, in training",
    "before": "before",
    "control": "first policy again",
    "after": "after",
}
"""Headings of the table's columns, by the row of the summary."""


def row(run: Log, truth: Path | None = None, task: TaskSpec | None = None) -> dict[str, Any]:
    """Return a run's results as JSON data: means with 95 % intervals, and counts.

    `costs` are the costs that the monitor billed, `true_costs` the costs that the twin counted.

    Args:
        truth: file of the twin's true positions, rewards and costs, if there is one.
        task: the run's task, where it is no part of Holdfast.

    Raises:
        ConfigError: the task has to be given, or another one was given.
        LogError: the run holds no episode.
    """
    if not run.episodes:
        raise LogError(f"{run.path}: holds no episode")
    logged = list(episodes(run, _task_of(run.info.contract, task)))
    returns = [float(episode.reward.sum()) for episode in logged]
    results = [episode.result for episode in logged]
    names = [cost.name for cost in run.info.contract.costs]
    billed = zip(names, np.array([result.costs for result in results]).T, strict=True)
    data = {
        "episodes": len(results),
        "episode_cap": [run.info.episode_cap[name] for name in names],
        "return": interval(np.array(returns)),
        "costs": {name: interval(values) for name, values in billed},
        "stopped": sum(result.ended == STOPPED for result in results),
        "steps": sum(result.steps for result in results),
        "interventions": sum(result.interventions for result in results),
        "deadline_misses": sum(result.deadline_misses for result in results),
    }
    if truth:
        lines = plain.read_json_lines(truth, LogError)
        data["true_costs"] = {
            name: interval(np.array([line["cost_sum"][name] for line in lines])) for name in names
        }
        data["true_return"] = interval(np.array([line["reward_sum"] for line in lines]))
    return data


def _task_of(contract: Contract, given: TaskSpec | None) -> Task:
    spec = trained_on(contract.task, given)
    if spec.contract.task != contract.task:
        raise ConfigError(
            f"{spec}: is task '{spec.contract.task}', the run is of '{contract.task}'"
        )
    return spec.make()


def command(run: Path = Path("runs/demo"), task: TaskOption = None) -> None:
    """Write report.html from a demo's summary.json and logs.

    Args:
        run: folder of the demo.
        task: the demo's task, where it is no part of Holdfast, as FILE.py:NAME. Code that a file
            names is not run, so such a task has to be given.
    """
    path = run / SUMMARY
    summary = plain.read_json(path, LogError)
    found = summary.get("format") if isinstance(summary, dict) else None
    if found != FORMAT:
        raise LogError(f"{path}: format should be {FORMAT}, received {plain.shown(repr(found))}")
    with plain.well_formed(path, LogError):
        page = write(run, summary, task)
    print(page)


def write(folder: Path, summary: Mapping[str, Any], task: TaskSpec | None = None) -> Path:
    """Write the page beside the summary; return the page's path."""
    # Where nothing was promoted, the run after is the trial, or the run before.
    names = dict.fromkeys(
        summary["runs"][name] for name in ("before", "after", "trial") if _ran(summary, name)
    )
    read = dict(zip(names, runs([folder / name for name in names]), strict=True))
    for run in read.values():
        if not run.episodes:
            raise LogError(f"{run.path}: should hold an episode to report, received none")
    before, after = (read[summary["runs"][name]] for name in ("before", "after"))
    trial = read[summary["runs"]["trial"]] if _ran(summary, "trial") else None
    progress = plain.read_json_lines(folder / summary["progress"], LogError)
    contract, driven = before.info.contract, _task_of(before.info.contract, task)
    count = range(len(contract.costs))
    page = Template((Path(__file__).parent / "report.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(f"{contract.task} on a {contract.robot}"),
        verdict=html.escape(verdict(summary)),
        verdict_class="good" if met(summary) else "bad",
        motion=motion(before, after, driven),
        table=_table(summary),
        steps=_steps(summary),
        evidence=pictures.evidence(curves(before), curves(trial), contract)
        if trial
        else "<p>There was no trial.</p>",
        parameters=_html_table(*_split(summary["identified"]["parameters"])),
        errors=_html_table(*_split(summary["identified"]["errors"])),
        predicted=_predicted(folder / PREDICTED),
        gate=_gate(summary),
        facts=_facts(summary, contract),
        training=figures.training(progress, contract),
        paths=pictures.paths(before, after, driven),
        costs="".join(pictures.costs(before, after, k) for k in count),
        budget="".join(pictures.budget(before, after, k) for k in count),
        verdicts=pictures.verdicts(before, after),
    )
    path = folder / PAGE
    files.write(path, page)
    return path


def _ran(summary: Mapping[str, Any], name: str) -> bool:
    return name in summary["runs"]


def met(summary: Mapping[str, Any]) -> bool:
    """Return whether the child was promoted, and its billed and true mean costs are within d."""
    after = summary["rows"]["after"]
    accounts = [after[key] for key in ("costs", "true_costs") if key in after]
    limits = summary["limits"].items()
    kept = all(account[name]["mean"] <= limit for account in accounts for name, limit in limits)
    return summary["outcome"] == PROMOTED and kept


def verdict(summary: Mapping[str, Any]) -> str:
    """Return the outcome: what the evidence decided, and a sentence for each cost."""
    return " ".join((_decided(summary), *(_verdict(summary, name) for name in summary["limits"])))


def _decided(summary: Mapping[str, Any]) -> str:
    """Return what became of the child, as its own evidence decided."""
    rows, outcome = summary["rows"], summary["outcome"]
    if outcome == REJECTED:
        return "Not promoted: the gate rejected the child before a trial."
    after = f"{rows['trial']['episodes']} episodes"
    if outcome == PROMOTED:
        kept = "its limit" if len(summary["limits"]) == 1 else "each of its limits"
        return (
            f"Promoted: {after} of the child's trial certify, at an error probability of 5 %, that "
            f"it keeps {kept} under the trial's episode cap."
        )
    if outcome == ALARM:
        return f"Not promoted: the child's trial gave an alarm after {after}."
    return f"Not promoted: {after} of the child's trial decide nothing."


def _verdict(summary: Mapping[str, Any], name: str) -> str:
    """Return what one cost was before and after, and whether it was above its limit."""
    rows, limit = summary["rows"], summary["limits"][name]
    before, after = rows["before"]["costs"][name], rows["after"]["costs"][name]
    true = rows["after"].get("true_costs", {name: after})[name]["mean"]
    text = (
        f"In the runs before and after, the mean of {name} per episode was {before['mean']:.1f} "
        f"and {after['mean']:.1f}; the limit is {limit:g}"
    )
    if after["mean"] > limit:
        return text + ", which the run after exceeded."
    if true > limit:
        return text + f". The true cost after, part of which no sensor shows, is {true:.1f}."
    if after["high"] > limit:
        return text + f", which the 95 % interval of the run after exceeds ({after['high']:.1f})."
    return text + ", above the whole 95 % interval of the run after."


def told(row: Mapping[str, Any]) -> str:
    """Return a row's mean return and costs, in a few words."""
    costs = ", ".join(f"{name} {cost['mean']:.1f}" for name, cost in row["costs"].items())
    return f"return {row['return']['mean']:.0f}, {costs}"


def span(values: Mapping[str, float], digits: int = 1) -> str:
    """Return "mean [low, high]"."""
    mean, low, high = (values[key] for key in ("mean", "low", "high"))
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table_rows(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the result table's cells: a head, then one row per quantity and one column per run."""
    shown = [summary["rows"][name] for name in COLUMNS]

    def texts(key: str, form: Callable[[Any], str] = str) -> tuple[str, ...]:
        return tuple(form(data[key]) if key in data else "-" for data in shown)

    def costs(key: str, name: str) -> tuple[str, ...]:
        return tuple(span(data[key][name]) if key in data else "-" for data in shown)

    limits = summary["limits"].items()
    uncapped = [data.get("uncapped", {}).get("costs") for data in shown]
    free = {
        name: tuple(span(costs[name]) if costs else "-" for costs in uncapped) for name, _ in limits
    }
    return [
        ("", *COLUMNS.values()),
        ("reward return", *texts("return", partial(span, digits=0))),
        *((f"{name}, limit d = {limit:g}", *costs("costs", name)) for name, limit in limits),
        *((f"true {name}", *costs("true_costs", name)) for name, _ in limits),
        *((f"{name} without a cap, simulated", *free[name]) for name, _ in limits),
        ("true reward return", *texts("true_return", partial(span, digits=0))),
        ("episode cap", *texts("episode_cap", lambda caps: ", ".join(f"{c:g}" for c in caps))),
        ("episodes", *texts("episodes")),
        ("stopped episodes", *(_share(data) for data in shown)),
        ("interventions", *texts("interventions")),
        ("deadline misses", *texts("deadline_misses")),
    ]


def _share(row: Mapping[str, Any]) -> str:
    return f"{row['stopped'] / row['episodes']:.0%}" if "stopped" in row else "-"


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cells(texts: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)

    body = "".join(f"<tr>{cells(texts, 'td')}</tr>" for texts in rows)
    return f"<table><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def _split(table: Sequence[Sequence[str]]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return a table's head and its rows."""
    return table[0], table[1:]


def _table(summary: Mapping[str, Any]) -> str:
    head, *rows = table_rows(summary)
    return _html_table(head, rows)


def _steps(summary: Mapping[str, Any]) -> str:
    """Return the table of what each step took and gave."""
    rows = [
        (step["step"], f"{step['wall_s']:.0f}", f"{step['cpu_s']:.0f}", step["gave"])
        for step in summary["steps"]
    ]
    took = summary["seconds"]
    rows.append(("all", f"{took['wall']:.0f}", f"{took['processor']:.0f}", "with the twin's own"))
    return _html_table(("step", "seconds", "processor seconds", "what it gave"), rows)


def _gate(summary: Mapping[str, Any]) -> str:
    told = summary["gate"]
    rows = [tuple(r[key] for key in ("what", "found", "wanted", "answer")) for r in told["reasons"]]
    table = _html_table(("looked at", "found", "should be", "answer"), rows)
    return f"<p>The gate's answer: {html.escape(told['answer'])}.</p>{table}"


def _predicted(path: Path) -> str:
    if not path.exists():
        return "<p>No position was measured.</p>"
    data = base64.b64encode(
        files.read(path, plain.MAX_BYTES)
    ).decode()  # in an image no script runs
    return f'<img alt="Measured and predicted paths" src="data:image/svg+xml;base64,{data}">'


def _facts(summary: Mapping[str, Any], contract: Contract) -> str:
    facts = {
        "contract": contract.hash,
        "bundle before": summary["bundles"]["before"],
        "bundle after": summary["bundles"]["after"],
        "seed": str(summary["seed"]),
        "the twin's gap": json.dumps(summary["gap"]),
    }
    items = (f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in facts.items())
    return f"<dl>{''.join(items)}</dl>"

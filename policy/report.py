"""`holdfast report`: results of runs, as numbers and as one self-contained page."""

from __future__ import annotations

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
from holdfast.log.format import STOPPED
from holdfast.log.intervals import interval
from holdfast.log.reader import Log
from holdfast.policy import figures
from holdfast.policy.learn.settings import TaskOption
from holdfast.sim.registry import trained_on
from holdfast.sim.task_spec import TaskSpec
from holdfast.sim.tasks.task import Task

SUMMARY, PAGE = "summary.json", "report.html"
FORMAT = 2


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
    # A demo without a round of fine-tuning has one run, which is both.
    names = dict.fromkeys((summary["before"], summary["after"]))
    read = list(runs([folder / name for name in names]))
    before, after = read[0], read[-1]
    for run in read:
        if not run.episodes:
            raise LogError(f"{run.path}: should hold an episode to report, received none")
    progress = plain.read_json_lines(folder / summary["progress"], LogError)
    contract = before.info.contract
    page = Template((Path(__file__).parent / "report.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(f"{contract.task} on a {contract.robot}"),
        verdict=html.escape(verdict(summary)),
        verdict_class="good" if met(summary) else "bad",
        table=_table(summary),
        rounds=_rounds(summary),
        facts=_facts(summary, contract),
        training=figures.training(progress, contract),
        paths=figures.paths(before, after, _task_of(contract, task)),
        costs="".join(figures.costs(before, after, k) for k in range(len(contract.costs))),
        budget="".join(figures.budget(before, after, k) for k in range(len(contract.costs))),
        verdicts=figures.verdicts(before, after),
    )
    path = folder / PAGE
    files.write(path, page)
    return path


def met(summary: Mapping[str, Any]) -> bool:
    """Return whether billed and true mean costs after fine-tuning are within the limits."""
    after = summary["rows"]["twin after"]
    accounts = [after[key] for key in ("costs", "true_costs") if key in after]
    limits = summary["limits"].items()
    return all(account[name]["mean"] <= limit for account in accounts for name, limit in limits)


def verdict(summary: Mapping[str, Any]) -> str:
    """Return the outcome as a sentence for each cost."""
    return " ".join(_verdict(summary, name) for name in summary["limits"])


def _verdict(summary: Mapping[str, Any], name: str) -> str:
    rows, limit, rounds = summary["rows"], summary["limits"][name], len(summary["rounds"])
    before, after = (rows[row]["costs"][name] for row in ("twin before", "twin after"))
    true = rows["twin after"].get("true_costs", {name: after})[name]["mean"]
    learned = f"in {rounds} round{'s' * (rounds != 1)} of fine-tuning" if rounds else "untouched"
    text = (
        f"On the twin the mean of {name} per episode went from {before['mean']:.1f} to "
        f"{after['mean']:.1f}, {learned}; the limit is {limit:g}"
    )
    if after["mean"] > limit:
        return text + ": it is not met."
    if true > limit:
        return text + f". Met as billed, but the true cost, which odometry misses, is {true:.1f}."
    if after["high"] > limit:
        return text + f": met, though the 95 % interval reaches {after['high']:.1f}."
    return text + ": met, with its whole 95 % interval."


def span(values: Mapping[str, float], digits: int = 1) -> str:
    """Return "mean [low, high]"."""
    mean, low, high = (values[key] for key in ("mean", "low", "high"))
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table_rows(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the result table's cells: a head, then one row per quantity and one column per run."""

    runs = summary["rows"].values()

    def texts(key: str, form: Callable[[Any], str] = str) -> tuple[str, ...]:
        return tuple(form(data[key]) if key in data else "-" for data in runs)

    def costs(key: str, name: str) -> tuple[str, ...]:
        return tuple(span(data[key][name]) if key in data else "-" for data in runs)

    limits = summary["limits"].items()
    return [
        ("", *summary["rows"]),
        ("reward return", *texts("return", partial(span, digits=0))),
        *((f"{name}, limit {limit:g}", *costs("costs", name)) for name, limit in limits),
        *((f"true {name}", *costs("true_costs", name)) for name, _ in limits),
        ("episodes", *texts("episodes")),
        ("stopped episodes", *texts("stopped")),
        ("interventions", *texts("interventions")),
        ("deadline misses", *texts("deadline_misses")),
    ]


def _html_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    def cells(texts: tuple[str, ...], tag: str) -> str:
        return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)

    body = "".join(f"<tr>{cells(texts, 'td')}</tr>" for texts in rows)
    return f"<table><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def _table(summary: Mapping[str, Any]) -> str:
    head, *rows = table_rows(summary)
    return _html_table(head, rows)


def _rounds(summary: Mapping[str, Any]) -> str:
    if not summary["rounds"]:
        return "<p>None was needed: the first run met the limit.</p>"
    head = ("round", "learned from", "steps masked", "estimated cost", "target",
            "KL from behaviour", "effective samples", "ended because", "cost on twin")  # fmt: skip
    rows = []
    for i, r in enumerate(summary["rounds"], 1):
        learned = r["finetune"]
        after = learned["costs_after"].values()
        rows.append(
            (
                str(i),
                f"{learned['episodes']} ({learned['stopped_episodes']} stopped)",
                f"{learned['masked']} of {learned['samples']}",
                "; ".join(f"{cost['mean']:.1f} ± {cost['error']:.1f}" for cost in after),
                "; ".join(f"{target:.1f}" for target in learned["targets"].values()),
                f"{learned['kl']:.3f}",
                f"{learned['effective_share']:.0%}",
                learned["ended"],
                "; ".join(span(cost) for cost in r["costs"].values()),
            )
        )
    return _html_table(head, rows)


def _facts(summary: Mapping[str, Any], contract: Contract) -> str:
    gap = json.dumps(summary["gap"])
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in summary["seconds"].items())
    facts = {
        "contract": contract.hash,
        "bundle before": summary["bundles"]["before"],
        "bundle after": summary["bundles"]["after"],
        "seed": str(summary["seed"]),
        "episode cap per episode": ", ".join(f"{b:g}" for b in summary["episode_caps"].values()),
        "the twin's gap": gap,
        "time taken": seconds,
    }
    items = (f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in facts.items())
    return f"<dl>{''.join(items)}</dl>"

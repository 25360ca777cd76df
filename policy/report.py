"""`holdfast report`: what runs measured, as numbers and as one self-contained page."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from holdfast.contract import Contract
from holdfast.errors import LogError
from holdfast.policy import figures
from holdfast.policy.evaluate import interval
from holdfast.robot import log
from holdfast.robot.log import Log
from holdfast.robot.log_format import STOPPED
from holdfast.sim.tasks import make

SUMMARY, PAGE = "summary.json", "report.html"
FORMAT = 1


def row(run: Log, truth: Path | None = None) -> dict[str, Any]:
    """Return what a run measured, as JSON data: means with 95 % intervals, and counts.

    The cost is what the monitor billed; `true_cost` is the twin's own account, if there is one.
    """
    if not run.episodes:
        raise LogError(f"{run.path}: holds no episode")
    task = make(run.info.contract.task)
    returns = [
        float(task.reward({name: values[1:] for name, values in e.signals.items()}).sum())
        for e in run.episodes
    ]
    results = [episode.result for episode in run.episodes]
    data = {
        "episodes": len(results),
        "return": interval(np.array(returns)),
        "cost": interval(np.array([result.costs[0] for result in results])),
        "stopped": sum(result.ended == STOPPED for result in results),
        "steps": sum(result.steps for result in results),
        "interventions": sum(result.interventions for result in results),
        "deadline_misses": sum(result.deadline_misses for result in results),
    }
    if truth:
        lines = [json.loads(line) for line in truth.read_text().splitlines()]
        cost = run.info.contract.costs[0].name
        data["true_cost"] = interval(np.array([line["cost_sum"][cost] for line in lines]))
        data["true_return"] = interval(np.array([line["reward_sum"] for line in lines]))
    return data


def command(run: Path = Path("runs/demo")) -> None:
    """Write report.html from a demo's summary.json and the logs that it names.

    Args:
        run: the demo's folder.
    """
    try:
        summary = json.loads((run / SUMMARY).read_text())
    except OSError as error:
        raise LogError(f"{run / SUMMARY}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise LogError(f"{run / SUMMARY}: should be JSON ({error})") from None
    if summary.get("format") != FORMAT:
        raise LogError(
            f"{run / SUMMARY}: format should be {FORMAT}, received {summary.get('format')}"
        )
    print(write(run, summary))


def write(folder: Path, summary: Mapping[str, Any]) -> Path:
    """Write the page beside the summary; return its path."""
    before, after = log.read(folder / summary["before"]), log.read(folder / summary["after"])
    progress = (folder / summary["progress"]).read_text().splitlines()
    contract = before.info.contract
    page = Template((Path(__file__).parent / "report.html").read_text()).substitute(
        title=html.escape(f"{contract.task} on a {contract.robot}"),
        verdict=html.escape(verdict(summary)),
        verdict_class="good" if met(summary) else "bad",
        table=_table(summary),
        rounds=_rounds(summary),
        facts=_facts(summary, contract),
        training=figures.training([json.loads(line) for line in progress], contract),
        paths=figures.paths(before, after, make(contract.task)),
        costs=figures.costs(before, after),
        budget=figures.budget(before, after),
        verdicts=figures.verdicts(before, after),
    )
    path = folder / PAGE
    path.write_text(page)
    return path


def met(summary: Mapping[str, Any]) -> bool:
    """Return whether the mean cost after fine-tuning is within the limit, billed and true."""
    after = summary["rows"]["twin after"]
    costs = [after[key]["mean"] for key in ("cost", "true_cost") if key in after]
    return bool(max(costs) <= summary["limit"])


def verdict(summary: Mapping[str, Any]) -> str:
    """Return the outcome in one sentence."""
    before = summary["rows"]["twin before"]["cost"]
    after = summary["rows"]["twin after"]["cost"]
    limit, rounds = summary["limit"], len(summary["rounds"])
    learned = f"in {rounds} round{'s' * (rounds != 1)} of fine-tuning" if rounds else "untouched"
    text = (
        f"On the twin the mean cost per episode went from {before['mean']:.1f} to "
        f"{after['mean']:.1f}, {learned}; the limit is {limit:g}"
    )
    if after["mean"] > limit:
        return text + ": it is not met."
    if not met(summary):
        true = summary["rows"]["twin after"]["true_cost"]["mean"]
        return text + f". Met as billed, but the true cost, which odometry misses, is {true:.1f}."
    if after["high"] > limit:
        return text + f": met, though the 95 % interval reaches {after['high']:.1f}."
    return text + ": met, with its whole 95 % interval."


def span(values: Mapping[str, float], digits: int = 1) -> str:
    """Return "mean [low, high]"."""
    mean, low, high = (values[key] for key in ("mean", "low", "high"))
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table_rows(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the result table's cells: a head, then a row per quantity, a column per run."""

    def texts(key: str, form: Callable[[Any], str] = str) -> tuple[str, ...]:
        return tuple(form(data[key]) if key in data else "-" for data in summary["rows"].values())

    return [
        ("", *summary["rows"]),
        ("reward return", *texts("return", partial(span, digits=0))),
        (f"cost, limit {summary['limit']:g}", *texts("cost", span)),
        ("true cost", *texts("true_cost", span)),
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
        after = learned["cost_after"]
        rows.append(
            (
                str(i),
                f"{learned['episodes']} ({learned['stopped_episodes']} stopped)",
                f"{learned['masked']} of {learned['samples']}",
                f"{after['mean']:.1f} ± {after['error']:.1f}",
                f"{learned['target']:.1f}",
                f"{learned['kl']:.3f}",
                f"{learned['effective_share']:.0%}",
                learned["ended"],
                span(r["cost"]),
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
        "run budget per episode": f"{summary['run_budget']:g}",
        "the twin's gap": gap,
        "time taken": seconds,
    }
    items = (f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in facts.items())
    return f"<dl>{''.join(items)}</dl>"

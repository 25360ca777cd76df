"""`holdfast identify --excite`: a run plan from which a robot's parameters can be identified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from holdfast import files
from holdfast.contract import Contract
from holdfast.errors import ConfigError
from holdfast.policy import figures
from holdfast.policy.identification.csv_file import COMMAND
from holdfast.policy.identification.identify import NEEDS
from holdfast.policy.identification.plan import Experiment, Plan, draw_up
from holdfast.policy.identification.segments import SEGMENT_S
from holdfast.policy.page import page, paragraph, table
from holdfast.signals import Array

SECONDS = 60.0
LEAST_S, MOST_S = 2.0 * SEGMENT_S, 600.0


def planned_seconds(given: float | None) -> float:
    """Return the length of a plan, s.

    Raises:
        ConfigError: no plan can be so long.
    """
    seconds = SECONDS if given is None else given
    if not LEAST_S <= seconds <= MOST_S:
        raise ConfigError(f"seconds should be {LEAST_S:g} to {MOST_S:g}, received {seconds:g}")
    return seconds


def write_plan(
    out: Path, experiment: Experiment, seconds: float, say: Callable[[str], None]
) -> list[list[str]]:
    """Draw up a plan, write it and its page, and return the rows of the table of parameters.

    Args:
        say: is told of the progress, and of what the plan needs.

    Raises:
        ConfigError: the robot falls in all motions that were tried.
        FileError: a file cannot be written; earlier files are unchanged.
    """
    contract = experiment.task.contract
    say(f"plans for {', '.join(each.name for each in experiment.free)}")
    plan = draw_up(experiment, seconds)
    rows, said = parameter_table(plan), remarks(plan, experiment)
    text = page(
        f"Run plan for robot {contract.robot}",
        *(paragraph(each) for each in said),
        "<h2>Parameters</h2>",
        table(rows),
        "<h2>Motions</h2>",
        table(motion_table(plan, contract)),
        figures.planned(plan.actions, plan.path, contract),
    )
    with files.replacing(out.with_suffix(".html"), text):
        files.write(out, csv_text(plan, contract))
    for each in said:
        say(each)
    return rows


def csv_text(plan: Plan, contract: Contract) -> str:
    """Return a plan as a CSV file has it: a row for each control period, an episode a motion."""
    lines = [",".join(("time", "episode", *(COMMAND + name for name in contract.action_names)))]
    for i, row in enumerate(plan.actions.reshape(-1, contract.action_size)):
        commands = (f"{value + 0.0:.7g}" for value in row)
        episode = str(i // plan.actions.shape[1])
        lines.append(",".join((f"{i * contract.period_s:.10g}", episode, *commands)))
    return "\n".join(lines) + "\n"


def parameter_table(plan: Plan) -> list[list[str]]:
    """Return the rows of the table of parameters: what is known before, and what is expected."""
    rows = [["parameter", "planned at", "bounds", "expected spread", "identifiable"]]
    for each in plan.expected:
        free = each.free
        rows.append([
            free.name, f"{each.value:.4g}", f"{free.low:g} to {free.high:g}",
            f"{each.spread:.2g}", "yes" if each.known else "no",
        ])  # fmt: skip
    return rows


def motion_table(plan: Plan, contract: Contract) -> list[list[str]]:
    """Return the rows of the table of motions."""
    largest = [f"largest {channel.name} [{channel.unit}]" for channel in contract.action]
    rows = [["starts at [s]", "kind", *largest]]
    for i, (kind, actions) in enumerate(zip(plan.kinds, plan.actions, strict=True)):
        start = i * len(actions) * contract.period_s
        rows.append([f"{start:g}", kind, *(f"{v:.2g}" for v in np.abs(actions).max(axis=0))])
    return rows


def remarks(plan: Plan, experiment: Experiment) -> list[str]:
    """Return sentences on what the plan is for, and what it needs."""
    count, steps = plan.actions.shape[:2]
    period_s = experiment.task.contract.period_s
    (back, ahead), (right, left) = (_span(values) for values in plan.path.T)
    noise = ", ".join(f"{name} {value:g}" for name, value in experiment.noise.items())
    said = [
        f"{count} motions of {steps * period_s:g} s each, {count * steps * period_s:g} s in all; "
        "each begins and ends at rest",
        f"driven without a correction, the simulated robot stays within {plan.reach_m:.1f} m of "
        f"its start: x {back:.1f} to {ahead:.1f} m, y {right:.1f} to {left:.1f} m, where x is "
        "straight ahead at the start; another robot drifts elsewhere, so leave room",
        f"spreads are for these signals with this noise in each reading: {noise}",
    ]
    for each in plan.expected:
        if not each.known:
            also = f"; it trades off against {each.with_}" if each.with_ else ""
            said.append(
                f"{each.free.name}: would stay not identifiable; it needs "
                f"{NEEDS[each.free.kind]}{also}"
            )
    return said


def _span(values: Array) -> tuple[float, float]:
    return float(values.min()), float(values.max())

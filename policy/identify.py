"""`holdfast identify`: finds parameters of a robot's model in logs of its motion."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from string import Template

import yaml
from rich.console import Console
from rich.table import Table

from holdfast import files
from holdfast.errors import ConfigError
from holdfast.policy import figures
from holdfast.policy.identification.certainty import Found
from holdfast.policy.identification.csv_file import SUFFIX, from_csv
from holdfast.policy.identification.identify import NEEDS, Errors, Identified, identify
from holdfast.policy.identification.search import USUAL, SearchSettings
from holdfast.policy.identification.tracks import Recorded, from_logs, require_motion
from holdfast.policy.learn.settings import TaskOption
from holdfast.schema import POSITIVE
from holdfast.sim.parameters.catalogue import Pose

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #111827 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .75rem;
  border-bottom: 1px solid #e5e7eb; text-align: left } svg { max-width: 100%; height: auto }
</style></head><body><h1>$title</h1><p>$read</p>
<h2>Parameters</h2>$parameters<h2>Errors of predictions</h2>
<p>Root mean square of measured minus predicted, on motion that was not fitted: with the nominal
parameters, and with the found ones. A prediction begins at a measured pose and has the commands
alone.</p>$errors<h2>Paths</h2>
<p>Motion that was not fitted, from its start to its end.</p>$paths</body></html>
""")


def command(
    log: tuple[Path, ...],
    out: Path = Path("profile.yaml"),
    task: TaskOption = None,
    parameters: tuple[str, ...] = (),
    signals: tuple[str, ...] = (),
    pose: Pose = "known",
    first_s: float | None = None,
    any_robot: bool = False,
    threads: int = 0,
    settings: SearchSettings = USUAL,
) -> None:
    """Find parameters of a robot's model in logs of its motion, and write them as a profile.

    The profile has a mean and a spread for each parameter that the logs tell. `holdfast twin
    --gap` and `holdfast train --randomise` read it. A page with errors and paths lies beside it.

    Args:
        log: runs of one robot; or CSV files of motions, with --task (docs/guides/IDENTIFY.md).
        out: the profile.
        task: the task whose robot is identified. Logs of a registered task name it themselves.
        parameters: what is searched for, as KIND, KIND:TARGET, KIND:TARGET+TARGET (targets that
            share one number) or KIND:each, perhaps with bounds: mass=0.5..2. Default: all that
            apply.
        signals: the signals that are compared. Default: pose, speeds, and joints.
        pose: known: position and heading come from outside. reckoned: from the robot's own speeds.
        first_s: only so many seconds of each episode's beginning are used, as for a robot with
            legs, whose motion nobody can predict for longer. Default: all.
        any_robot: take logs of several units, as if they were alike.
        threads: threads of the simulation; 0: one per core.
        settings: settings of the search.
    """
    if threads < 0:
        raise ConfigError(f"threads should be at least 0, received {threads}")
    if first_s is not None and not POSITIVE.allows(first_s):
        raise ConfigError(f"first-s should be {POSITIVE}, received {first_s}")
    files.require_output(out, (".yaml", ".yml"), log)
    files.require_output(out.with_suffix(".html"), (".html",), log)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    recorded = _recorded(log, task, any_robot)
    require_motion(recorded, ", ".join(map(str, log)))
    console.print(f"{len(recorded.tracks)} motions, {recorded.seconds:.0f} s in all")
    for text in recorded.left_out:
        console.print(f"left out: {text}")
    found = identify(recorded, parameters, signals, pose, first_s, settings, threads, console.print)
    write(out, recorded, found, settings)
    for table in (parameter_table(found), error_table(found)):
        shown = Table(*table[0])
        for row in table[1:]:
            shown.add_row(*row)
        console.print(shown)
    for text in remarks(found):
        console.print(text)
    console.print(f"{out}, {out.with_suffix('.html')}")


def _recorded(paths: tuple[Path, ...], task: TaskOption, any_robot: bool) -> Recorded:
    tables = [path.suffix == SUFFIX for path in paths]
    if not any(tables):
        return from_logs(paths, task, any_robot)
    if not all(tables):
        raise ConfigError("log: should be runs alone, or CSV files alone")
    if task is None:
        raise ConfigError("task should be given with CSV files, which do not name a robot")
    return from_csv(paths, task.make())


def write(out: Path, recorded: Recorded, found: Identified, settings: SearchSettings) -> None:
    """Write the profile, and the page beside it.

    Raises:
        FileError: a file cannot be written; earlier files are unchanged.
    """
    head = [
        f"Identified for robot {recorded.task.robot.name} by holdfast identify, seed "
        f"{settings.seed}, from:",
        *(f"  {source}" for source in recorded.sources),
        *remarks(found),
    ]
    text = "".join(f"# {line}\n" for line in head)
    text += yaml.safe_dump(found.profile.to_plain(), sort_keys=False, default_flow_style=None)
    robot = html.escape(recorded.task.robot.name)
    page = PAGE.substitute(
        title=f"Parameters of robot {robot}",
        read=html.escape("; ".join((*recorded.sources, *remarks(found)))),
        parameters=_html(parameter_table(found)),
        errors=_html(error_table(found)),
        paths=figures.predicted(found.held_out, found.simulated_before, found.simulated_after)
        if "position" in found.held_out.names
        else "<p>No position was measured.</p>",
    )
    with files.replacing(out.with_suffix(".html"), page), files.replacing(out, text):
        pass


def remarks(found: Identified) -> list[str]:
    """Return sentences on what is not in the profile, or should be doubted."""
    said = []
    if still := [each.free.name for each in found.found if not each.moved]:
        said.append(
            f"not identifiable, nominal in the fit: {', '.join(still)}; other values predicted "
            "motion that was not fitted no better"
        )
    for each in found.found:
        name = each.free.name
        if not each.known and each.moved:
            also = f"; it trades off against {each.with_}" if each.with_ else ""
            said.append(
                f"{name}: not identifiable, left out of the profile and nominal in the fit; it "
                f"needs {NEEDS[each.free.kind]}{also}"
            )
        elif each.at:
            said.append(
                f"{name}: at its {each.at} bound, {each.value:.4g}; the truth may lie beyond: "
                f"widen it with {name}=LOW..HIGH, or look for what else differs"
            )
    out, of = found.windows_left_out
    if out:
        said.append(f"{out} of {of} windows were left out, because nothing explained them")
    if not found.fresh:
        said.append("the motion was too short to hold a part of it out: errors are of what was fit")
    return said


def parameter_table(found: Identified) -> list[list[str]]:
    """Return the rows of the table of parameters."""
    rows = [["parameter", "value", "spread", "result", "bounds"]]
    for each in found.found:
        bounds = f"{each.free.low:g} to {each.free.high:g}"
        rows.append([each.free.name, *_result(each), bounds])
    return rows


def _result(each: Found) -> Iterator[str]:
    if not each.known:
        yield from ("", "", "not identifiable")
        return
    yield from (f"{each.value:.4g}", f"{each.spread:.2g}")
    yield f"at its {each.at} bound" if each.at else "identified"


def error_table(found: Identified) -> list[list[str]]:
    """Return the rows of the table of errors, before and after."""
    horizons = list(found.before)
    rows = [["signal, error of a prediction over", *map(_span, horizons)]]
    for name in found.held_out.names:
        rows.append([name, *(_change(found.before, found.after, h, name) for h in horizons)])
    return rows


def _span(horizon_s: float) -> str:
    if horizon_s == float("inf"):
        return "a whole motion"
    return f"{horizon_s:g} s" if horizon_s else "one period"


def _change(before: Errors, after: Errors, horizon: float, name: str) -> str:
    if name not in before[horizon]:
        return ""
    return f"{before[horizon][name]:.3g} → {after[horizon][name]:.3g}"


def _html(rows: list[list[str]]) -> str:
    cells = [[html.escape(cell) for cell in row] for row in rows]
    head = "".join(f"<th>{cell}</th>" for cell in cells[0])
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in cells[1:])
    return f"<table><tr>{head}</tr>{body}</table>"

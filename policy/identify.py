"""`holdfast identify`: finds parameters of a robot's model in logs of its motion."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.table import Column, Table

from holdfast import files, plain
from holdfast.errors import ConfigError
from holdfast.policy import figures
from holdfast.policy.excite import planned_seconds, write_plan
from holdfast.policy.identification.certainty import Found
from holdfast.policy.identification.csv_file import SUFFIX, from_csv
from holdfast.policy.identification.identify import NEEDS, Errors, Identified, identify
from holdfast.policy.identification.plan import Experiment, known_of
from holdfast.policy.identification.search import USUAL, SearchSettings
from holdfast.policy.identification.tracks import Recorded, from_logs, require_motion
from holdfast.policy.learn.settings import TaskOption
from holdfast.policy.page import page, paragraph, table
from holdfast.schema import POSITIVE
from holdfast.sim.parameters.catalogue import KINDS, Pose
from holdfast.sim.task_spec import TaskSpec

WORSE = 1.02
"""Factor on an error beyond which a prediction became worse: less is the noise of few motions."""

UNEXPLAINED = 0.9
"""A prediction explains nothing of a signal if its error is larger than this share of how much the
signal itself varies."""

NOISES = 5.0
"""A signal's error is more than noise from so many standard deviations of its noise on."""


def command(
    log: tuple[Path, ...] = (),
    out: Path | None = None,
    task: TaskOption = None,
    parameters: tuple[str, ...] = (),
    signals: tuple[str, ...] = (),
    pose: Pose = "known",
    first_s: float | None = None,
    any_robot: bool = False,
    excite: bool = False,
    seconds: float | None = None,
    profile: Path | None = None,
    threads: int = 0,
    settings: SearchSettings = USUAL,
) -> None:
    """Find parameters of a robot's model in logs of its motion, and write them as a profile.

    The profile has a mean and a spread for each parameter that the logs tell. `holdfast twin
    --gap` and `holdfast train --randomise` read it. A page with errors and paths lies beside it.

    With --excite, write a plan of commands that would tell the parameters of a robot that may be
    driven freely, and the spreads that are expected of it.

    Args:
        log: runs of one robot; or CSV files of motions, with --task (docs/guides/IDENTIFY.md).
        out: the profile, or the plan as a CSV file. Default: profile.yaml, or plan.csv.
        task: the task whose robot is identified. Logs of a registered task name it themselves.
        parameters: what is searched for, as KIND, KIND:TARGET, KIND:TARGET+TARGET (targets that
            share one number) or KIND:each, perhaps with bounds: mass=0.5..2. Default: all that
            apply.
        signals: the signals that are compared. Default: pose, speeds, and joints.
        pose: known: position and heading come from outside. reckoned: from the robot's own speeds.
        first_s: only so many seconds of each episode's beginning are used, as for a robot with
            legs, whose motion nobody can predict for longer. Default: all.
        any_robot: take logs of several units, as if they were alike.
        excite: write a run plan for --task; no log is read.
        seconds: with --excite, length of the plan. Default: 60.
        profile: with --excite, the values about which it is planned, and the sensors' noise, as
            far as they are known. Default: the model's values, and usual noise.
        threads: threads of the simulation; 0: one per core.
        settings: settings of the search.
    """
    if threads < 0:
        raise ConfigError(f"threads should be at least 0, received {threads}")
    if first_s is not None and not POSITIVE.allows(first_s):
        raise ConfigError(f"first-s should be {POSITIVE}, received {first_s}")
    _require_one_use(
        excite,
        {"log": bool(log), "first-s": first_s is not None, "any-robot": any_robot},
        {"seconds": seconds is not None, "profile": profile is not None},
    )
    console = Console(soft_wrap=True, highlight=False, markup=False)
    out = out or Path("plan.csv" if excite else "profile.yaml")
    if out.suffix.lower() == ".html":
        raise ConfigError(f"out should not end in {out.suffix}, as the page beside it does")
    inputs = (*log, *([profile] if profile else []))
    files.require_output(out, (SUFFIX,) if excite else (".yaml", ".yml"), inputs)
    files.require_output(out.with_suffix(".html"), (".html",), inputs)
    if excite:
        length = planned_seconds(seconds)
        made = _required(task, "with --excite, to name the robot").make()
        known = known_of(profile, made)
        experiment = Experiment(made, parameters, signals, pose, known, settings, threads)
        _show(write_plan(out, experiment, length, console.print), console)
        console.print(f"{out}, {out.with_suffix('.html')}")
        return
    recorded = _recorded(log, task, any_robot)
    require_motion(recorded, ", ".join(map(str, log)))
    console.print(
        f"{plain.counted(len(recorded.tracks), 'motion')}, {recorded.seconds:.0f} s in all"
    )
    for text in recorded.left_out:
        console.print(f"left out: {text}")
    found = identify(recorded, parameters, signals, pose, first_s, settings, threads, console.print)
    write(out, recorded, found, settings)
    for rows in (parameter_table(found), error_table(found)):
        _show(rows, console)
    for text in remarks(found):
        console.print(text)
    console.print(f"{out}, {out.with_suffix('.html')}")
    if not any(path.suffix == SUFFIX for path in log):
        own = ("--task", task.id) if task else ()
        improve = ("holdfast", "improve", "--policy", "PARENT.onnx", "--profile", out, "--log")
        following = plain.command_line(*improve, *log, "--out", "child.onnx", *own)
        console.print(f"next, for the bundle that ran: {following}")


def _require_one_use(
    excite: bool, of_logs: Mapping[str, bool], of_plans: Mapping[str, bool]
) -> None:
    """Raise ConfigError where options of a plan and of an identification are mixed."""
    for name, given in (of_logs if excite else of_plans).items():
        if given:
            use = "left out with --excite, which reads no log" if excite else "given with --excite"
            raise ConfigError(f"{name} should be {use}")
    if not excite and not of_logs["log"]:
        raise ConfigError("log should name runs or CSV files; or give --excite, for a run plan")


def _show(rows: list[list[str]], console: Console) -> None:
    shown = Table(*(Column(each, overflow="fold") for each in rows[0]))
    for row in rows[1:]:
        shown.add_row(*row)
    console.print(shown)


def _recorded(paths: tuple[Path, ...], task: TaskOption, any_robot: bool) -> Recorded:
    tables = [path.suffix == SUFFIX for path in paths]
    if not any(tables):
        return from_logs(paths, task, any_robot)
    if not all(tables):
        raise ConfigError("log: should be runs alone, or CSV files alone")
    made = _required(task, "with CSV files, which do not name a robot").make()
    return from_csv(paths, made)


def _required(task: TaskOption, when: str) -> TaskSpec:
    if task is None:
        raise ConfigError(f"task should be given {when}")
    return task


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
    beside = page(
        f"Parameters of robot {recorded.task.robot.name}",
        paragraph("; ".join((*recorded.sources, *remarks(found)))),
        "<h2>Parameters</h2>",
        table(parameter_table(found)),
        "<h2>Errors of predictions</h2>",
        paragraph(
            "Root mean square of measured minus predicted, on motion that was not fitted: with the "
            "nominal parameters, and with the found ones. A prediction begins at a measured pose "
            "and has the commands alone."
        ),
        table(error_table(found)),
        "<h2>Paths</h2>",
        paragraph("Motion that was not fitted, from its start to its end."),
        figures.predicted(found.held_out, found.simulated_before, found.simulated_after)
        if "position" in found.held_out.names
        else paragraph("No position was measured."),
    )
    with files.replacing(out.with_suffix(".html"), beside), files.replacing(out, text):
        pass


def remarks(found: Identified) -> list[str]:
    """Return sentences on what is not in the profile, or should be doubted."""
    said = []
    if still := [each.free.name for each in found.found if not each.moved]:
        said.append(
            f"not identifiable, nominal in the fit: {', '.join(still)}; other values explain "
            "motion no better"
        )
    for signal, (mean, spread) in found.drift.items():
        said.append(
            f"drift of {signal}: assumed, {mean:g} +- {spread:g} for each square root of a metre, "
            "as no log without a pose from outside tells it; measure it, and write it here"
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
            said.append(_at_bound(each))
    if worse := _worse(found):
        said.append(
            f"predictions became worse, of {', '.join(worse)}: something differs that was not "
            "searched for and went into what was; name it too, or name nothing"
        )
    said += _unexplained(found)
    out, of = found.windows_left_out
    if out:
        said.append(f"{out} of {of} windows were left out, because nothing explained them")
    if not found.fresh:
        said.append("the motion was too short to hold a part of it out: errors are of what was fit")
    return said


def _worse(found: Identified) -> list[str]:
    """Return of which signals, over which times, predictions became worse."""
    return [
        f"{name} over {_span(horizon)}"
        for horizon, before in found.before.items()
        for name, error in before.items()
        if found.after[horizon].get(name, error) > WORSE * error
    ]


def _unexplained(found: Identified) -> Iterator[str]:
    """Yield sentences on the signals of which predictions know no more than their own mean.

    A pose has no such mean, and its paths are drawn.
    """
    horizon, errors = next(iter(found.after.items()))
    for name, error in errors.items():
        if name in ("position", "heading"):
            continue
        varied = float(np.linalg.norm(np.nanstd(found.held_out.measured[name], axis=(0, 1))))
        if error > max(UNEXPLAINED * varied, NOISES * found.noise.get(name, 0.0)):
            yield (
                f"{name}: nothing that was searched for explains it; a prediction over "
                f"{_span(horizon)} is wrong by {error:.3g}, and the signal itself varies by "
                f"{varied:.3g}; look at its sensor and its unit, or leave it out with --signals"
            )


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


def _at_bound(each: Found) -> str:
    free = each.free
    lower = each.at == "lower"
    bound = free.low if lower else free.high
    said = f"{free.name}: {each.value:.4g} is at its {each.at} bound, {bound:g}"
    if not KINDS[free.kind].allowed.allows(math.nextafter(bound, -math.inf if lower else math.inf)):
        return f"{said}, beyond which there is none"
    return (
        f"{said}; the truth may lie beyond: widen it with {free.name}=LOW..HIGH, or look for what "
        "else differs"
    )


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

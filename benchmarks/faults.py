"""The fault campaign: which lies, losses and deaths the robot survives, and how far it gets.

    python -m benchmarks.faults --out docs/measured/FAULTS.md \\
        --json docs/measured/results/faults.json --alarms 1000

Every kind of fault, about every signal, the command path and the clock, while the robot stands,
sets off, turns and drives at full speed, in lockstep; then faults of the line and of processes, in
real time; then, with `--alarms`, ordinary episodes, in which nothing should stop the robot.
Everything is judged by the simulation's truth, and everything but real time is seeded. Says how far
it is. On two idle cores the lockstep part takes about six minutes and the real-time part as long;
1,000 ordinary episodes take seven, and train the demo's policy first if it is not in `--work`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.helpers.faults import faulty_line
from tests.helpers.faults.lies import ABSENT, KINDS, NONE
from tests.helpers.faults.lying_twin import GROUPS, SITUATIONS, Case, Outcome, play


def cases(seeds: int, gapped: bool = False, config: Path | None = None) -> list[Case]:
    """Return every case of the campaign's lockstep part."""
    kinds = dict.fromkeys((*GROUPS, "command"), (*KINDS, ABSENT))
    kinds |= {"stamps": tuple(KINDS), "clock": tuple(KINDS)}
    kinds["messages"] = (ABSENT, "slow", "delayed", "intermittent")
    kinds["nothing"] = (NONE,)
    return [
        Case(kind, about, situation, seed, gapped, config)
        for about, those in kinds.items()
        for kind in those
        for situation in SITUATIONS
        for seed in range(seeds)
    ]


def name_of(case: Case) -> str:
    return f"{case.about}, {case.kind}, {case.situation}"


def play_all(todo: Sequence[Case], jobs: int) -> list[Outcome]:
    """Run cases in processes; says how far it is."""
    began = said = time.monotonic()
    outcomes = []
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for outcome in pool.imap_unordered(play, todo, chunksize=4):
            outcomes.append(outcome)
            if time.monotonic() - said > 10.0 or len(outcomes) == len(todo):
                said = time.monotonic()
                fails = sum(o.verdict == "FAILS" for o in outcomes)
                print(
                    f"{len(outcomes)} of {len(todo)} tries, {said - began:.0f} s, {fails} fail",
                    file=sys.stderr,
                    flush=True,
                )
    order = {case: index for index, case in enumerate(todo)}
    return sorted(outcomes, key=lambda o: order[o.case])


ORDER = ("FAILS", "held", "stands", "stopped", "harmless")
"""Verdicts, the worst first: a cell is as bad as its worst try."""


def worst(values: Iterable[float | None]) -> float | None:
    """Return the largest value; None if one of them never was."""
    known = list(values)
    return None if None in known else max(v for v in known if v is not None)


def number(value: float | None) -> str:
    return "never" if value is None else f"{max(value, 0.0):.2f}"


def most(words: Iterable[str]) -> str:
    """Return the words said, the most frequent first."""
    return ", ".join(word for word, _ in Counter(w for w in words if w).most_common())


def cell(tries: Sequence[Outcome]) -> dict[str, Any]:
    """Return what became of the tries of one cell: the worst of each."""
    case = tries[0].case
    return {
        "about": case.about,
        "kind": case.kind,
        "situation": case.situation,
        "seeds": [o.case.seed for o in tries],
        "verdict": min((o.verdict for o in tries), key=ORDER.index),
        "failed_seeds": [o.case.seed for o in tries if o.verdict == "FAILS"],
        "first_said": most(o.first for o in tries),
        "stopped_by": most(o.stopped_by for o in tries),
        "seen_s": worst(o.seen_s for o in tries),
        "zero_s": worst(o.motion.zero_s for o in tries),
        "standing_s": worst(o.motion.standing_s for o in tries),
        "beyond_m": max(o.motion.beyond_m for o in tries),
        "after_deadline_m": max(o.motion.after_m for o in tries),
        "stopping_distance_m": max(o.motion.allowed_m for o in tries),
    }


def cells(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    tries = defaultdict(list)
    for outcome in outcomes:
        tries[name_of(outcome.case)].append(outcome)
    return [cell(those) for those in tries.values()]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


HEAD = (
    "fault", "robot", "verdict", "first reason", "stopped by", "seen, s", "zero, s",
    "standing, s", "beyond fence, m", "after deadline, m",
)  # fmt: skip


def row(c: dict[str, Any]) -> list[str]:
    verdict = c["verdict"]
    if verdict == "FAILS":
        verdict = f"**FAILS** {len(c['failed_seeds'])} of {len(c['seeds'])}"
    return [
        c["kind"],
        c["situation"],
        verdict,
        c["first_said"] or "-",
        c["stopped_by"] or "-",
        *(number(c[key]) for key in ("seen_s", "zero_s", "standing_s")),
        f"{c['beyond_m']:.2f}",
        f"{c['after_deadline_m']:.2f} of {c['stopping_distance_m']:.2f}",
    ]


def tables(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return a table for each thing that is lied about."""
    lines = []
    for about in dict.fromkeys(c["about"] for c in found):
        lines += [f"### {about[0].upper()}{about[1:]}", ""]
        lines += table(HEAD, (row(c) for c in found if c["about"] == about))
    return lines


def summary(found: Sequence[dict[str, Any]]) -> list[str]:
    rows = []
    for situation in dict.fromkeys(c["situation"] for c in found):
        verdicts = Counter(c["verdict"] for c in found if c["situation"] == situation)
        rows.append([situation, *(str(verdicts[v]) for v in reversed(ORDER))])
    return table(("robot", *reversed(ORDER)), rows)


LINE = "line and processes"
LINE_TRIES = 3
"""Most tries of a cell in real time: one takes six seconds, and tries cannot share a core."""


def line_and_processes(seeds: int, config: Path | None, only: str) -> list[Outcome]:
    """Run the real-time part, one try after another; says how far it is."""
    outcomes: list[Outcome] = []
    todo = [(k, s) for k in faulty_line.FAULTS for s in range(seeds)]
    todo = [(k, s) for k, s in todo if only in f"{LINE}, {k}, full speed"]
    for kind, seed in todo:
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(faulty_line.play(kind, seed, Path(folder), config))
        said = f"{len(outcomes)} of {len(todo)}: {kind}, {outcomes[-1].verdict}"
        print(said, file=sys.stderr, flush=True)
    return outcomes


POLICIES = (0, 1, 2)
"""Seeds of the demo's first policies whose ordinary episodes are run: they drive differently."""


def false_alarms(
    episodes: int, jobs: int, config: Path | None, work: Path
) -> tuple[list[str], dict[str, Any]]:
    """Run ordinary episodes of the demo's policies; return lines, and counts by seed and code."""
    import ordinary  # and so torch: the other parts need neither

    each, began = 10, time.monotonic()
    twins = -(-episodes // (each * len(POLICIES)))
    policies = {seed: ordinary.demo_policy(work / f"seed{seed}", seed) for seed in POLICIES}
    todo = [(policies[s], config, twin, each, True) for s in POLICIES for twin in range(twins)]
    counts: dict[int, Counter[str]] = {seed: Counter() for seed in POLICIES}
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for index, ends in enumerate(pool.imap(_ordinary, todo)):
            counts[POLICIES[index // twins]].update(ends)
            print(
                f"{(index + 1) * each} of {len(todo) * each} ordinary episodes, "
                f"{time.monotonic() - began:.0f} s",
                file=sys.stderr,
            )
    codes = [code for code, _ in sum(counts.values(), Counter()).most_common()]
    rows = [[code or "completed", *(str(counts[s][code]) for s in POLICIES)] for code in codes]
    lines = [
        "## False alarms",
        "",
        f"{len(todo) * each} ordinary episodes, exploring, on the demo's gap. The policies are",
        f"those that `holdfast demo` trains first with the seeds {', '.join(map(str, POLICIES))}.",
        f"Each runs on twins with the seeds 0 to {twins - 1}, ten episodes a twin.",
        "`episode_cap_spent` and the fence are no false alarms: they are what these policies do",
        "there.",
        "",
        *table(("ended by", *(f"policy {seed}" for seed in POLICIES)), rows),
    ]
    return lines, {str(seed): dict(counts[seed]) for seed in POLICIES}


def _ordinary(arguments: tuple[Path, Path | None, int, int, bool]) -> list[str]:
    from tests.helpers.faults import ordinary

    return ordinary.run(*arguments)


def page(
    found: Sequence[dict[str, Any]],
    line: Sequence[dict[str, Any]],
    alarms: Sequence[str],
    ran: Mapping[str, str],
) -> str:
    """Return the whole page, Markdown; `ran` says when which part ran."""
    failing = [c for c in (*found, *line) if c["verdict"] == "FAILS"]
    seeds = max((len(c["seeds"]) for c in found), default=0)
    lines = [
        "# Fault campaign: what a robot does whose sensors, commands, clock or line are wrong",
        "",
        "Made by `python -m benchmarks.faults --out docs/measured/FAULTS.md",
        "--json docs/measured/results/faults.json --alarms 1000`.",
        "The robot is the drive twin with `config/drive.yaml`, behind the real run",
        "loop, monitor, link and device. The policy is not clever: it stands, sets off, turns on a",
        "circle of 0.4 m, or drives straight at its fence, which is 3 m from the middle, at 1 m/s.",
        "After 0.6 to 1 s something goes wrong, in one of the ways that PX4 injects failures. What",
        "is wrong is fresh and well-formed, except where the fault is that it is not.",
        f"Each cell is the worst of {seeds} tries with other seeds. Distances and times are the",
        "simulation's, to which nobody lies.",
        "",
        "Times count from when the fault shows: from when it is larger than the noise of an honest",
        "sensor. The deadline is 1 s later. A verdict is one of:",
        "",
        *table(("verdict", "meaning"), VERDICTS),
        "Why an error counts from the deadline until the robot stands: before the deadline",
        "nobody has to have stopped, so an error that is over by then is one that the robot no",
        "longer drives on (speeds that come late are wrong only while they change). An error",
        "that goes on growing when the robot stands moves nothing. So a tilt that drifts by",
        "0.02 rad/s has to be seen before it is wrong by 0.1 rad, not 1 s after it is wrong by",
        "0.02 rad: no motion and no fence depends on it, and hard braking tilts an honest robot",
        "by 0.03 rad.",
        "",
        "## Summary",
        "",
        *summary([*found, *line]),
        f"{len(failing)} of {len(found) + len(line)} cells fail.",
        "",
    ]
    if failing:
        head = ("about", *HEAD)
        lines += table(head, ([c["about"], *row(c)] for c in failing))
    lines += ["## Readings, commands and clocks, in lockstep", ""]
    lines += [f"Run on {ran['lockstep']}.", "", *tables(found)]
    if line:
        lines += [
            "## The line and processes, in real time",
            "",
            "The robot drives at 0.98 m/s; `holdfast deploy` and its policy are processes, and the",
            "twin's serial line is in the hands of the campaign. A second writer sends good frames",
            "with newer sequence numbers, to a line that two programs can write to. A robot that",
            "drives on obeys only what its monitor let through, or the cell fails. Each cell is",
            f"the worst of {LINE_TRIES} tries. Run on {ran['line']}.",
            "",
            *tables(line),
        ]
    return "\n".join([*lines, *alarms]).rstrip() + "\n"


VERDICTS = (
    (
        "stopped",
        "Seen and stopped. After the deadline the robot moved no further than its stopping "
        "distance from the speed that it then had.",
    ),
    (
        "harmless",
        "The robot stood, or the fault never showed (what is frozen did not change), or from the "
        "deadline on, for as long as the robot moved, the error was within what the margins are "
        "for: 0.3 m, 0.3 rad, 0.2 m/s, 0.3 rad/s, 0.1 rad of tilt, 0.25 s. And the robot did not "
        "leave its fence.",
    ),
    ("stands", "The robot moved no further, but nothing stopped it."),
    ("held", "The robot drove on after the deadline, and was stopped inside of its fence."),
    (
        "**FAILS**",
        "The robot drove on after the deadline, and nothing stopped it, or it left its fence.",
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the page here (Markdown)")
    parser.add_argument("--json", type=Path, help="write the cells here")
    parser.add_argument("--seeds", type=int, default=5, help="tries of each cell (5)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (all cores)")
    parser.add_argument("--only", default="", help='cells with this in their name, as "full speed"')
    parser.add_argument("--gap", action="store_true", help="the demo's gap, not the nominal twin")
    parser.add_argument("--config", type=Path, help="of the robot (config/drive.yaml)")
    parser.add_argument("--lockstep", action="store_true", help="leave out what takes real time")
    parser.add_argument("--line", type=Path, help="take it from this --json of an earlier run")
    parser.add_argument("--alarms", type=int, default=0, help="ordinary episodes (0)")
    parser.add_argument("--work", type=Path, default=Path("runs/faults"), help="for their policy")
    arguments = parser.parse_args()
    config = arguments.config
    every = cases(arguments.seeds, arguments.gap, config)
    found = cells(play_all([c for c in every if arguments.only in name_of(c)], arguments.jobs))
    now = time.strftime("%Y-%m-%d, %H:%M")
    ran, line = {"lockstep": now, "line": now}, []
    if arguments.line:
        *earlier, last = json.loads(arguments.line.read_text())
        line, ran["line"] = [c for c in earlier if c["about"] == LINE], last["ran"]["line"]
    elif not arguments.lockstep:
        tries = min(arguments.seeds, LINE_TRIES)
        line = cells(line_and_processes(tries, config, arguments.only))
    lines, counts = (
        false_alarms(arguments.alarms, arguments.jobs, config, arguments.work)
        if arguments.alarms
        else ([], {})
    )
    text = page(found, line, lines, ran)
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text)
    if arguments.json:
        last = {"ordinary_episodes": counts, "ran": ran}
        rows = [json.dumps(c) for c in (*found, *line, last)]
        arguments.json.write_text("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    main()

"""The fault campaign: which lies, losses and deaths the robot survives, and how far it gets.

    python benchmarks/faults.py --out docs/FAULTS.md --json docs/results/faults.json

Every kind of fault, about every signal, the command path and the clock, while the robot stands,
sets off, turns and drives at full speed, in lockstep; then faults of the line and of processes, in
real time. Everything is judged by the simulation's truth. Fifteen minutes on two cores; prints how
far it is.

    --only TEXT      cells whose name has this in it, such as "full speed" or "stuck"
    --lockstep       leave out what takes real time
    --seeds N        tries of each cell (5)
    --alarms N       ordinary episodes for the false-alarm part (0: leave it out)
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from lies import ABSENT, KINDS
from lying_twin import GROUPS, SITUATIONS, Case, Outcome, play

HOLDING = ("stuck", "slow", "delayed", "intermittent")


def cases(seeds: int, gapped: bool = False, config: Path | None = None) -> list[Case]:
    """Return every case of the campaign's lockstep part."""
    kinds = {about: (*KINDS, ABSENT) for about in (*GROUPS, "command")}
    kinds |= {"stamps": tuple(KINDS), "clock": tuple(KINDS)}
    kinds["messages"] = (ABSENT, "slow", "delayed", "intermittent")
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
        c["first_said"] or "–",
        c["stopped_by"] or "–",
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the page here (Markdown)")
    parser.add_argument("--json", type=Path, help="write the cells here")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="")
    parser.add_argument("--gap", action="store_true", help="the demo's gap, not the nominal twin")
    parser.add_argument("--config", type=Path, help="the robot's; default: config/drive.yaml")
    arguments = parser.parse_args()
    every = cases(arguments.seeds, arguments.gap, arguments.config)
    todo = [c for c in every if arguments.only in name_of(c)]
    found = cells(play_all(todo, arguments.jobs))
    lines = [*summary(found), *tables(found)]
    text = "\n".join(lines).rstrip() + "\n"
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text)
    if arguments.json:
        rows = ",\n".join(json.dumps(c) for c in found)
        arguments.json.write_text(f"[\n{rows}\n]\n")


if __name__ == "__main__":
    main()
